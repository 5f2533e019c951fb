/*
 * causeway-init: PID 1 of a container. It starts what the agent asks for, keeps the output until the agent has it, and
 * stays when the agent goes away. SPEC.md has the rules; it shares the container with the tenant and trusts nothing there.
 *
 *   causeway-init SOCKET [--memory BYTES]
 *   causeway-init --stdio [--memory BYTES]
 *   causeway-init TOOL ...                    something else (tools.c)
 */
#define _GNU_SOURCE
#include "init.h"
#include "link.h"
#include "process.h"
#include "send.h"
#include "tools.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum {
    MOST_RING = 4 << 20,
    LEAST_RING = 64 << 10,
    RING_PART = 16, /* of the container's memory */
    STOP_GRACE_MS = 10000,
    STOP_STAY_MS = 10000,
    EVENTS = 64,
};

static struct source signals = {.fd = -1, .kind = SOURCE_SIGNALS};
static struct source lease = {.fd = -1, .kind = SOURCE_LEASE};
static bool lease_expired, terminating, shutting_down, leave_now, stopping, childless = true;
static uint64_t kill_at = UINT64_MAX, leave_at = UINT64_MAX;

bool init_lease_expired(void) { return lease_expired; }
bool init_terminating(void) { return terminating; }

void init_lease(uint64_t deadline_boot_ms)
{
    struct itimerspec at = {.it_value = {.tv_sec = (time_t)(deadline_boot_ms / 1000),
                                         .tv_nsec = (long)(deadline_boot_ms % 1000) * 1000000}};
    timerfd_settime(lease.fd, TFD_TIMER_ABSTIME, &at, NULL);
}

void init_terminate(uint32_t grace_ms)
{
    uint64_t at = clock_ms() + grace_ms;
    if (at < kill_at)
        kill_at = at;
    if (!terminating)
        process_end_all();
    terminating = true;
}

void init_shutdown(uint8_t mode)
{
    shutting_down = true;
    leave_now = leave_now || mode == SHUTDOWN_NOW;
}

/* SIGTERM or SIGINT: somebody stops the container. The agent has a while to come for the rest. */
static void stop(void)
{
    init_terminate(STOP_GRACE_MS);
    if (stopping)
        return;
    stopping = shutting_down = true;
    leave_at = clock_ms() + STOP_GRACE_MS + STOP_STAY_MS;
}

static void lease_event(void)
{
    uint64_t expirations;
    if (read(lease.fd, &expirations, sizeof expirations) != sizeof expirations)
        return;
    lease_expired = true;
    process_signal_all(SIGKILL);
    send_lease_expired();
}

static void signal_event(void)
{
    struct signalfd_siginfo info;
    while (read(signals.fd, &info, sizeof info) == sizeof info)
        if (info.ssi_signo != SIGCHLD)
            stop();
    childless = !process_reap();
    if (childless && stopping && leave_at > clock_ms() + STOP_STAY_MS)
        leave_at = clock_ms() + STOP_STAY_MS;
}

static void tick(void)
{
    if (clock_ms() >= kill_at) {
        kill_at = UINT64_MAX;
        process_signal_all(SIGKILL);
    }
    process_tick();
    link_tick();
}

static bool is_over(void)
{
    if (leave_now)
        return send_is_flushed() || !link_is_open();
    return clock_ms() >= leave_at || (shutting_down && !processes && childless && send_is_flushed());
}

static void handle(struct source *source)
{
    switch (source->kind) {
    case SOURCE_SIGNALS:
        signal_event();
        break;
    case SOURCE_LEASE:
        lease_event();
        break;
    case SOURCE_LINK_IN:
    case SOURCE_LINK_OUT:
        link_event();
        break;
    default:
        process_event(source);
    }
}

static int wait_ms(void)
{
    uint64_t now = clock_ms(), first = kill_at < leave_at ? kill_at : leave_at;
    if (process_deadline() < first)
        first = process_deadline();
    if (link_deadline() < first)
        first = link_deadline();
    return first <= now ? 0 : first - now < INT_MAX ? (int)(first - now) : INT_MAX;
}

static void run(void)
{
    struct epoll_event events[EVENTS];
    while (!is_over()) {
        int count = epoll_wait(epoll_fd, events, EVENTS, wait_ms());
        for (int i = 0; i < count; i++)
            handle(events[i].data.ptr);
        tick();
        send_flush();
        process_bury();
    }
}

static uint64_t read_number(const char *path)
{
    char text[32] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t size = read(fd, text, sizeof text - 1);
    close(fd);
    return size > 0 ? strtoull(text, NULL, 10) : 0; /* "max" is 0: no limit */
}

/* The container's memory limit as the argument says, or as cgroup v2 or v1 show it from inside; 0 when there is none. */
static uint64_t memory_limit(uint64_t argument)
{
    static const char *const files[] = {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"};
    uint64_t limit = argument;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        uint64_t seen = read_number(files[i]);
        if (seen && (!limit || seen < limit))
            limit = seen;
    }
    return limit;
}

static size_t ring_bytes(uint64_t limit)
{
    uint64_t part = limit / RING_PART;
    if (!limit || part > MOST_RING)
        return MOST_RING;
    return part < LEAST_RING ? LEAST_RING : (size_t)part;
}

/* Descriptors 0 to 2 exist, no other does: none of the agent's or the engine's reaches the tenant. */
static void tidy_descriptors(void)
{
    int fd;
    while ((fd = open("/dev/null", O_RDWR)) >= 0 && fd <= 2)
        ;
    if (syscall(SYS_close_range, 3, ~0u, 0) < 0)
        for (fd = 3; fd < 1024; fd++)
            close(fd);
}

static bool make_sources(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_SETMASK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    lease.fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    source_watch(&signals, EPOLLIN);
    source_watch(&lease, EPOLLIN);
    return signals.events && lease.events;
}

static int usage(void)
{
    fputs("usage: causeway-init {SOCKET | --stdio} [--memory BYTES]\n", stderr);
    return 2;
}

int main(int argc, char **argv)
{
    uint64_t memory = 0;
    int status;
    if (run_tool(argc, argv, &status))
        return status;
    if (argc != 2 && argc != 4)
        return usage();
    if (argc == 4) {
        char *end;
        memory = strtoull(argv[3], &end, 10);
        if (strcmp(argv[2], "--memory") != 0 || *end)
            return usage();
    }
    tidy_descriptors();
    process_prepare();
    prctl(PR_SET_DUMPABLE, 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (!pool_make(ring_bytes(memory_limit(memory))) || !make_sources()) {
        fprintf(stderr, "causeway-init: can not start: %s\n", strerror(errno));
        return 1;
    }
    link_start(strcmp(argv[1], "--stdio") == 0 ? NULL : argv[1]);
    run();
    process_signal_all(SIGKILL);
    return 0;
}
