/* `causeway-init connect HOST PORT` and `connect-unix PATH`: a connection from within the container (relay.h). */
#define _GNU_SOURCE
#include "relay.h"
#include "tools.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

enum { CONNECT_SECONDS = 10 }; /* to one address */

static int dial(const struct addrinfo *to)
{
    const struct timeval limit = {.tv_sec = CONNECT_SECONDS}, none = {0};
    const int on = 1;
    int fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(fd, to->ai_addr, to->ai_addrlen) < 0) {
        int error = errno == EINPROGRESS ? ETIMEDOUT : errno;
        close(fd);
        errno = error;
        return -1;
    }
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof none);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

int connect_main(int argc, char **argv)
{
    char what[NI_MAXHOST + NI_MAXSERV + 2];
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *found;
    if (argc != 3)
        return RELAY_FAILED;
    snprintf(what, sizeof what, "%s:%s", argv[1], argv[2]);
    relay_prepare();
    int error = getaddrinfo(argv[1], argv[2], &hints, &found);
    if (error) {
        dprintf(STDERR_FILENO, "%s: %s\n", what, gai_strerror(error));
        return RELAY_FAILED;
    }
    int fd = -1, refused = 0;
    for (struct addrinfo *at = found; at && fd < 0; at = at->ai_next) {
        fd = dial(at);
        /* Of several reasons: that nobody listens says more than that there is no such network. */
        if (fd < 0 && refused != ECONNREFUSED)
            refused = errno;
    }
    freeaddrinfo(found);
    errno = refused;
    return fd < 0 ? relay_failed(what) : relay_run(fd);
}

int connect_unix_main(int argc, char **argv)
{
    struct sockaddr_un address;
    socklen_t size;
    if (argc != 2)
        return RELAY_FAILED;
    relay_prepare();
    if (!relay_unix_address(argv[1], 0, &address, &size))
        return relay_failed(argv[1]);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, size) < 0)
        return relay_failed(argv[1]);
    return relay_run(fd);
}
