#include "loop.h"

#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

int epoll_fd = -1;

void source_watch(struct source *source, uint32_t events)
{
    if (source->fd < 0 || source->events == events)
        return;
    struct epoll_event event = {.events = events, .data.ptr = source};
    int operation = !events ? EPOLL_CTL_DEL : source->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(epoll_fd, operation, source->fd, &event) == 0)
        source->events = events;
}

void source_close(struct source *source)
{
    if (source->fd < 0)
        return;
    source_watch(source, 0);
    close(source->fd);
    source->fd = -1;
    source->events = 0;
}

static uint64_t read_clock(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t clock_ms(void) { return read_clock(CLOCK_MONOTONIC); }
uint64_t time_ms(void) { return read_clock(CLOCK_REALTIME); }
uint64_t boot_ms(void) { return read_clock(CLOCK_BOOTTIME); }
