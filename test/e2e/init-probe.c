/* What a tenant may try on PID 1 of its container with its own user. Prints one line for each attempt that succeeded. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static void did(const char *what, long result)
{
    if (result >= 0)
        printf("%s\n", what);
    else
        fprintf(stderr, "%s: %m\n", what);
}

static void probe(pid_t pid)
{
    char path[64], byte;
    struct iovec here = {&byte, 1}, there = {(void *)&byte, 1};
    did("attach", ptrace(PTRACE_ATTACH, pid, NULL, NULL));
    did("seize", ptrace(PTRACE_SEIZE, pid, NULL, NULL));
    did("readv", process_vm_readv(pid, &here, 1, &there, 1, 0));
    snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
    did("mem", open(path, O_RDWR));
    snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
    int environ = open(path, O_RDONLY);
    did("environ", environ < 0 ? -1 : read(environ, &byte, 1));
    snprintf(path, sizeof path, "/proc/%d/fd/3", (int)pid);
    did("descriptor", open(path, O_RDWR));
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    for (int fd = 3; fd < 12; fd++)
        did("getfd", pidfd < 0 ? -1 : syscall(SYS_pidfd_getfd, pidfd, fd, 0));
    snprintf(path, sizeof path, "/proc/%d/oom_score_adj", (int)pid);
    int score = open(path, O_RDWR);
    did("score", score < 0 ? -1 : write(score, "1000", 4));
}

int main(int argc, char **argv)
{
    if (argc > 1)
        probe(atoi(argv[1]));
    return 0;
}
