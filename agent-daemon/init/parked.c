#define _GNU_SOURCE
#include "parked.h"

#include "descriptor.h"
#include "kernel-process.h"
#include "relay.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    MAX_AGE_MS = 2 * 3600 * 1000, /* nobody came for it */
    LAST_WORDS_MS = 2000,         /* for what the kernel wrote before its end */
    TAKE_SECONDS = 1,
    CHUNK = 4096, /* what a pipe that is ready takes without waiting: PIPE_BUF */
};

/* The kernel's standard error: a pipe, read by whoever takes it. */
static int errors_read = -1;
/* Closed when it is known what became of it. */
static int waiting = -1;
static int own_errors = -1;

/* ---- who holds it ---- */

static int wait_for(int fd)
{
    char byte;
    ssize_t size;
    while ((size = read(fd, &byte, 1)) < 0 && errno == EINTR)
        ;
    return size == 1 ? 0 : 1;
}

int parked_begin(void)
{
    int done[2], errors[2];
    if (pipe2(done, O_CLOEXEC) < 0 || pipe2(errors, O_CLOEXEC) < 0)
        return 1;
    pid_t pid = fork();
    if (pid < 0)
        return 1;
    if (pid > 0) {
        close(done[1]);
        return wait_for(done[0]);
    }
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    own_errors = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (setsid() < 0 || null < 0 || own_errors < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
        dup2(errors[1], STDERR_FILENO) < 0)
        _exit(1);
    close(done[0]);
    close(errors[1]);
    waiting = done[1];
    errors_read = errors[0];
    return -1;
}

/* All of this session but this process: what the kernel started is the kernel's. */
static void end_session(void)
{
    DIR *directory = opendir("/proc");
    kernel_process_signal(SIGKILL);
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        pid_t pid = atoi(entry->d_name);
        if (pid > 0 && pid != getpid() && getsid(pid) == getsid(0))
            kill(pid, SIGKILL);
    }
    if (directory)
        closedir(directory);
}

void parked_give_up(void)
{
    char bytes[CHUNK];
    fcntl(errors_read, F_SETFL, O_NONBLOCK);
    ssize_t size = read(errors_read, bytes, sizeof bytes);
    if (size > 0 && write(own_errors, bytes, (size_t)size) > 0)
        dprintf(own_errors, "\n");
    end_session();
}

/* Nobody at the other end keeps us for ever. */
static void limit_waiting(int fd)
{
    const struct timeval limit = {.tv_sec = TAKE_SECONDS};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

static int open_socket(const char *name, bool is_holder)
{
    struct sockaddr_un address;
    socklen_t size;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd >= 0)
        limit_waiting(fd);
    if (fd >= 0 && relay_unix_address(name, 1, &address, &size) &&
        (is_holder ? bind(fd, (struct sockaddr *)&address, size) == 0 && listen(fd, 1) == 0
                   : connect(fd, (struct sockaddr *)&address, size) == 0))
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

static int accept_taker(int listener, const struct bridge_identity *identity, int *errors)
{
    struct ucred peer = {0};
    socklen_t size = sizeof peer;
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return -1;
    limit_waiting(fd);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == geteuid() &&
        (*errors = descriptor_receive(fd)) >= 0) {
        if (send(fd, identity, sizeof *identity, MSG_NOSIGNAL) == sizeof *identity)
            return fd;
        close(*errors);
    }
    close(fd);
    return -1;
}

/* Where the kernel's errors go from, and how much waits. */
static struct {
    char bytes[CHUNK];
    size_t size;
    bool is_over;
} held;

/* Takes a piece from the kernel, or brings one away that is held; called when that would not wait. */
static void carry_errors(int to)
{
    ssize_t size;
    if (held.size == 0) {
        size = read(errors_read, held.bytes, sizeof held.bytes);
        held.size = size > 0 ? (size_t)size : 0;
        held.is_over = size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR);
        return;
    }
    size = write(to, held.bytes, held.size);
    if (size > 0)
        memmove(held.bytes, held.bytes + size, held.size -= (size_t)size);
    else if (size < 0 && errno != EAGAIN && errno != EINTR) {
        held.is_over = true;
        close(errors_read); /* nobody reads any more, and the kernel is to know */
    }
}

static struct pollfd watch_errors(int to)
{
    if (held.is_over)
        return (struct pollfd){.fd = -1};
    return held.size > 0 ? (struct pollfd){.fd = to, .events = POLLOUT} : (struct pollfd){.fd = errors_read, .events = POLLIN};
}

/* What the kernel had written at its end: a child of it may keep the pipe open. */
static void drain_errors(int to)
{
    uint64_t until = now_ms() + LAST_WORDS_MS;
    fcntl(errors_read, F_SETFL, O_NONBLOCK);
    while (!held.is_over && now_ms() < until) {
        struct pollfd fd = watch_errors(to);
        if (poll(&fd, 1, held.size > 0 ? LAST_WORDS_MS : 0) <= 0)
            return;
        carry_errors(to);
    }
}

/* True when it is told to end. One that was taken is ended by whoever has it: its bridge hears the same signal. */
static bool take_signals(int signals, bool is_taken)
{
    struct signalfd_siginfo info;
    bool ends = false;
    while (read(signals, &info, sizeof info) == sizeof info)
        ends = ends || (info.ssi_signo != SIGCHLD && !is_taken);
    return ends;
}

enum { WATCH_SIGNALS, WATCH_LISTENER, WATCH_TAKER, WATCH_ERRORS, WATCHED };

/* Until the kernel ends, or nobody wants it. Returns its status, or -1. */
static int serve(int listener, const struct bridge_identity *identity, int signals, int *taker)
{
    int errors = -1, status;
    uint64_t ends_at = now_ms() + MAX_AGE_MS;
    for (;;) {
        bool is_taken = *taker >= 0;
        struct pollfd fds[WATCHED] = {
            [WATCH_SIGNALS] = {.fd = signals, .events = POLLIN},
            [WATCH_LISTENER] = {.fd = is_taken ? -1 : listener, .events = POLLIN},
            [WATCH_TAKER] = {.fd = *taker, .events = POLLIN},
            [WATCH_ERRORS] = is_taken ? watch_errors(errors) : (struct pollfd){.fd = -1},
        };
        int ready = poll(fds, WATCHED, is_taken ? -1 : (int)MAX_AGE_MS);
        if (ready == 0 || (!is_taken && now_ms() >= ends_at))
            return -1;
        if (fds[WATCH_SIGNALS].revents && take_signals(signals, is_taken))
            return -1;
        if (kernel_process_has_ended(&status)) {
            if (is_taken)
                drain_errors(errors);
            return status;
        }
        if (fds[WATCH_ERRORS].revents)
            carry_errors(errors);
        if (fds[WATCH_LISTENER].revents && (*taker = accept_taker(listener, identity, &errors)) >= 0)
            close(listener);
        if (fds[WATCH_TAKER].revents) {
            uint8_t number;
            ssize_t size = recv(*taker, &number, 1, MSG_DONTWAIT);
            if (size == 1)
                kernel_process_signal(number);
            else if (size == 0 || (errno != EAGAIN && errno != EINTR))
                return -1;
        }
    }
}

void parked_hold(const char *name, const struct bridge_identity *identity, int signals)
{
    int listener = open_socket(name, true), taker = -1;
    if (listener < 0) {
        dprintf(own_errors, "causeway-init kernel: can not be held: %s\n", strerror(errno));
        end_session();
        return;
    }
    if (write(waiting, "", 1) == 1) {
        close(waiting);
        close(own_errors);
        int status = serve(listener, identity, signals, &taker);
        if (status >= 0 && taker >= 0)
            send(taker, &status, sizeof status, MSG_NOSIGNAL);
    }
    end_session();
}

/* ---- who takes it ---- */

int parked_take(const char *name, int errors, struct bridge_identity *out)
{
    int fd = open_socket(name, false);
    if (fd < 0)
        return -1;
    if (descriptor_send(fd, errors) && recv(fd, out, sizeof *out, 0) == sizeof *out)
        return fd;
    close(fd);
    return -1;
}

void parked_signal(int connection, int signal)
{
    uint8_t number = (uint8_t)signal;
    send(connection, &number, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

bool parked_has_ended(int connection, int *status)
{
    ssize_t size = recv(connection, status, sizeof *status, MSG_DONTWAIT);
    if (size == sizeof *status)
        return true;
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    *status = SIGKILL; /* as of a process that was killed */
    return true;
}
