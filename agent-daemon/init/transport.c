#define _GNU_SOURCE
#include "transport.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { PATIENCE_US = 50000, MOST_CALL = 64 };

static const char *socket_path;
static struct source input = {.fd = -1, .kind = SOURCE_LINK_IN};
static struct source output = {.fd = -1, .kind = SOURCE_LINK_OUT};

static uint8_t call[MOST_CALL];
static size_t call_size, call_matched;
static bool called;

void transport_start(const char *path)
{
    socket_path = path;
    if (path)
        return;
    input.fd = STDIN_FILENO;
    output.fd = STDOUT_FILENO;
    fcntl(input.fd, F_SETFL, fcntl(input.fd, F_GETFL) | O_NONBLOCK);
    fcntl(output.fd, F_SETFL, fcntl(output.fd, F_GETFL) | O_NONBLOCK);
    source_watch(&input, EPOLLIN);
}

void transport_expect(const uint8_t *bytes, size_t size)
{
    memcpy(call, bytes, size);
    call_size = size;
    call_matched = 0;
}

bool transport_is_called(void) { return called; }

/* The agent may have died in the middle of a frame, so the beginning of a conversation is looked for in every byte. */
static bool find_call(const uint8_t *bytes, size_t size)
{
    bool found = false;
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != call[call_matched])
            call_matched = 0;
        if (bytes[i] == call[call_matched])
            call_matched++;
        found = found || call_matched == call_size;
        if (call_matched == call_size)
            call_matched = 0;
    }
    return found;
}

static enum dial dial_stdio(void)
{
    if (!called)
        return DIAL_ABSENT;
    called = false;
    return write(output.fd, call, call_size) == (ssize_t)call_size ? DIAL_OK : DIAL_ABSENT;
}

static bool make_address(const char *name, struct sockaddr_un *address)
{
    const char *slash = strrchr(socket_path, '/');
    int directory = name && slash ? (int)(slash - socket_path) + 1 : 0;
    address->sun_family = AF_UNIX;
    int size = snprintf(address->sun_path, sizeof address->sun_path, "%.*s%s", directory, socket_path,
                        name ? name : socket_path);
    return size < (int)sizeof address->sun_path;
}

enum dial transport_dial(const char *name)
{
    struct sockaddr_un address;
    if (!socket_path)
        return dial_stdio();
    if (!make_address(name, &address))
        return DIAL_ABSENT;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return DIAL_ABSENT;
    /* A full queue is somebody's flood: stand in it for a moment, since those who wait are served in order. */
    struct timeval patience = {.tv_usec = PATIENCE_US};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        int error = errno;
        close(fd);
        return error == EAGAIN || error == EINTR ? DIAL_CROWDED : DIAL_ABSENT;
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    input.fd = fd;
    input.events = 0;
    source_watch(&input, EPOLLIN);
    return DIAL_OK;
}

void transport_hang_up(void)
{
    if (socket_path)
        source_close(&input);
    else
        source_watch(&output, 0);
}

static void want(struct source *source, uint32_t event, bool wanted)
{
    source_watch(source, wanted ? source->events | event : source->events & ~event);
}

void transport_want_read(bool wanted) { want(&input, EPOLLIN, wanted); }
void transport_want_write(bool wanted) { want(output.fd >= 0 ? &output : &input, EPOLLOUT, wanted); }

ssize_t transport_read(void *data, size_t size)
{
    ssize_t got = read(input.fd, data, size);
    if (socket_path)
        return got;
    if (got == 0)
        source_watch(&input, 0); /* for ever: nobody can come back by this way */
    if (got <= 0 || !find_call(data, (size_t)got))
        return got;
    called = true;
    errno = ECONNRESET;
    return -1;
}

ssize_t transport_write(struct iovec *vectors, int count)
{
    return writev(output.fd >= 0 ? output.fd : input.fd, vectors, count);
}
