#define _GNU_SOURCE
#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BUFFER = 64 * 1024, ALONE_SECONDS = 10 };

/* One direction. */
struct way {
    int from, to;
    size_t start, end;
    uint64_t total;
    bool ended; /* nothing more comes, or nobody takes it */
    uint8_t buffer[BUFFER];
};

static struct way up, down;
static volatile sig_atomic_t alone;

/* What was sent already still goes out, for a while. */
static void hang_up(int number)
{
    (void)number;
    alone = 1;
    alarm(ALONE_SECONDS);
}

void relay_prepare(void)
{
    struct sigaction action = {.sa_handler = hang_up};
    sigaction(SIGHUP, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

int relay_failed(const char *what)
{
    dprintf(STDERR_FILENO, "%s: %s\n", what, strerror(errno));
    return RELAY_FAILED;
}

int relay_unix_address(const char *path, int abstract, struct sockaddr_un *out, socklen_t *size)
{
    size_t length = strlen(path);
    memset(out, 0, sizeof *out);
    out->sun_family = AF_UNIX;
    if (length == 0 || length + 1 > sizeof out->sun_path) {
        errno = ENAMETOOLONG;
        return 0;
    }
    memcpy(out->sun_path + (abstract ? 1 : 0), path, length);
    *size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + 1);
    return 1;
}

static bool is_passing(void) { return errno == EAGAIN || errno == EINTR; }

/*
 * Moves what can be moved now. False when the connection broke. What can no more be sent is dropped: what the far end
 * said before it closed can still be read.
 */
static bool move(struct way *w, short ready)
{
    if (w->start == w->end && ready) {
        ssize_t size = read(w->from, w->buffer, BUFFER);
        if (size < 0 && !is_passing())
            return false;
        if (size >= 0) {
            w->start = 0;
            w->end = (size_t)size;
            w->total += (size_t)size;
            w->ended = size == 0;
        }
    }
    while (w->start < w->end) {
        if (w == &down && alone)
            w->start = w->end;
        ssize_t size = w->start < w->end ? write(w->to, w->buffer + w->start, w->end - w->start) : 0;
        if (size < 0 && is_passing())
            return true;
        if (size < 0 && w == &down)
            return false;
        w->ended = w->ended || size < 0;
        w->start = size < 0 ? w->end : w->start + (size_t)size;
    }
    return true;
}

static struct pollfd interest(const struct way *w)
{
    if (w->start < w->end)
        return (struct pollfd){.fd = w->to, .events = POLLOUT};
    return (struct pollfd){.fd = w->ended ? -1 : w->from, .events = POLLIN};
}

static int carry(int socket)
{
    up = (struct way){.from = STDIN_FILENO, .to = socket};
    down = (struct way){.from = socket, .to = STDOUT_FILENO};
    for (;;) {
        struct pollfd ready[] = {interest(&up), interest(&down), {.fd = down.ended ? socket : -1}};
        if (poll(ready, 3, -1) < 0 && errno != EINTR)
            return relay_failed("poll");
        bool was_up = up.ended, was_down = down.ended;
        if (!move(&up, ready[0].revents) || !move(&down, ready[1].revents))
            return relay_failed("the connection broke");
        if (up.ended && !was_up)
            shutdown(socket, SHUT_WR);
        if (down.ended && !was_down)
            dprintf(STDERR_FILENO, "end %llu\n", (unsigned long long)down.total);
        /* After its end the far end can only break the connection, which poll tells of whoever is asked for. */
        bool is_broken = down.ended && ready[2].revents & (POLLERR | POLLHUP);
        if ((up.ended && (down.ended || alone)) || is_broken)
            return RELAY_DONE;
    }
}

int relay_run(int socket)
{
    for (int fd = 0; fd < 2; fd++)
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    fcntl(socket, F_SETFL, O_NONBLOCK);
    dprintf(STDERR_FILENO, "connected\n");
    return carry(socket);
}
