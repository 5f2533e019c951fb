/*
 * `causeway-init listen PORT NAME`, `listen-unix PATH NAME` and `listen-fresh NAME` (at a path of its own, where none but
 * the user comes): listens in the container, TCP on loopback alone. Each connection is told in a line on stdout and kept
 * until a process of the agent, `accepted NAME ID`, comes to the abstract socket NAME and carries it (relay.h), so that each
 * has a process, and an end, of its own. Lines:
 *
 *   listening PORT [PATH]  from now on (0 for a path; PATH: the fresh one)
 *   from ID ADDRESS PORT   a connection; of a path: `from ID - 0`
 *
 * On stdin: an id a line is let go of; the end of stdin, or SIGHUP, ends it.
 */
#define _GNU_SOURCE
#include "descriptor.h"
#include "folder.h"
#include "relay.h"
#include "tools.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_WAITING = 32, BACKLOG = 128, LINE = 32, TAKE_SECONDS = 5 };

/* Connections that nobody has taken yet; id 0 is none. */
static struct waiting {
    uint32_t id;
    int fd;
} waiting[MAX_WAITING];
static volatile sig_atomic_t hung_up;

static void hang_up(int number)
{
    (void)number;
    hung_up = 1;
}

static struct waiting *find(uint32_t id)
{
    for (int i = 0; i < MAX_WAITING; i++)
        if (waiting[i].id == id)
            return &waiting[i];
    return NULL;
}

static void let_go(struct waiting *w)
{
    if (!w || !w->id)
        return;
    close(w->fd);
    w->id = 0;
}

static void accept_one(int listener)
{
    static uint32_t last;
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    char text[INET6_ADDRSTRLEN] = "-";
    int port = 0;
    int fd = accept4(listener, (struct sockaddr *)&address, &size, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    if (address.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&address;
        const int on = 1;
        inet_ntop(AF_INET, &in->sin_addr, text, sizeof text);
        port = ntohs(in->sin_port);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    last = last + 1 ? last + 1 : 1;
    *find(0) = (struct waiting){.id = last, .fd = fd};
    dprintf(STDOUT_FILENO, "from %u %s %d\n", last, text, port);
}

/* Somebody comes for a connection, and says which. Only our own user is given any. */
static void hand_over(int counter)
{
    const struct timeval limit = {.tv_sec = TAKE_SECONDS};
    struct ucred peer = {0};
    socklen_t size = sizeof peer;
    uint32_t id = 0;
    int fd = accept4(counter, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    bool is_ours = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == geteuid();
    if (is_ours && read(fd, &id, sizeof id) == sizeof id && id) {
        struct waiting *w = find(id);
        if (w)
            descriptor_send(fd, w->fd);
        let_go(w);
    }
    close(fd);
}

/* Ids to let go of. False at the end. */
static bool read_input(void)
{
    static char line[LINE];
    static size_t filled;
    ssize_t size = read(STDIN_FILENO, line + filled, sizeof line - 1 - filled);
    if (size <= 0)
        return size < 0 && errno == EINTR;
    filled += (size_t)size;
    line[filled] = 0;
    for (char *end; (end = strchr(line, '\n'));) {
        uint32_t id = (uint32_t)strtoul(line, NULL, 10);
        if (id)
            let_go(find(id));
        filled -= (size_t)(end + 1 - line);
        memmove(line, end + 1, filled + 1);
    }
    return filled < sizeof line - 1;
}

/* `where`: as it is told. */
static int serve(int listener, const char *name, const char *where)
{
    struct sockaddr_un address;
    socklen_t size;
    struct sigaction action = {.sa_handler = hang_up};
    sigaction(SIGHUP, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    int counter = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (counter < 0 || !relay_unix_address(name, 1, &address, &size) ||
        bind(counter, (struct sockaddr *)&address, size) < 0 || listen(counter, BACKLOG) < 0)
        return relay_failed("listen");
    dprintf(STDOUT_FILENO, "listening %s\n", where);
    while (!hung_up) {
        struct pollfd ready[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                                 {.fd = counter, .events = POLLIN},
                                 {.fd = find(0) ? listener : -1, .events = POLLIN}};
        if (poll(ready, 3, -1) < 0) {
            if (errno == EINTR)
                continue;
            return relay_failed("poll");
        }
        if (ready[0].revents && !read_input())
            break;
        if (ready[1].revents)
            hand_over(counter);
        if (ready[2].revents)
            accept_one(listener);
    }
    return RELAY_DONE;
}

int listen_main(int argc, char **argv)
{
    const int on = 1;
    if (argc != 3)
        return RELAY_FAILED;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)strtoul(argv[1], NULL, 10)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, BACKLOG) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) < 0)
        return relay_failed(argv[1]);
    char port[8];
    snprintf(port, sizeof port, "%d", ntohs(address.sin_port));
    return serve(fd, argv[2], port);
}

static int serve_path(const char *path, const char *name, const char *where)
{
    struct sockaddr_un address;
    socklen_t size;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || !relay_unix_address(path, 0, &address, &size) || bind(fd, (struct sockaddr *)&address, size) < 0 ||
        listen(fd, BACKLOG) < 0)
        return relay_failed(path);
    int status = serve(fd, name, where);
    unlink(path);
    return status;
}

int listen_unix_main(int argc, char **argv) { return argc == 3 ? serve_path(argv[1], argv[2], "0") : RELAY_FAILED; }

int listen_fresh_main(int argc, char **argv)
{
    char folder[PATH_MAX], where[PATH_MAX + 16];
    if (argc != 2)
        return RELAY_FAILED;
    if (!folder_make(folder, sizeof folder, "causeway-"))
        return relay_failed("there is no place for a socket");
    snprintf(where, sizeof where, "0 %s/socket", folder);
    int status = serve_path(where + 2, argv[1], where);
    rmdir(folder);
    return status;
}

int accepted_main(int argc, char **argv)
{
    struct sockaddr_un address;
    socklen_t size;
    if (argc != 3)
        return RELAY_FAILED;
    relay_prepare();
    uint32_t id = (uint32_t)strtoul(argv[2], NULL, 10);
    int counter = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (counter < 0 || !relay_unix_address(argv[1], 1, &address, &size) ||
        connect(counter, (struct sockaddr *)&address, size) < 0 || write(counter, &id, sizeof id) != sizeof id)
        return relay_failed("the connection is not there");
    int fd = descriptor_receive(counter);
    if (fd < 0)
        return relay_failed("the connection is gone");
    close(counter);
    return relay_run(fd);
}
