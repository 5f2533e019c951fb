#define _GNU_SOURCE
#include "init.h"
#include "process.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Reads a process's parent and session from /proc/PID/stat. False when it is gone. */
static bool read_stat(pid_t pid, pid_t *parent, pid_t *session)
{
    char path[32], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    size_t size = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[size] = 0;
    /* The name in parentheses may hold anything, a parenthesis too: what counts comes after the last one. */
    char *end = NULL;
    for (char *at = text; *at; at++)
        if (*at == ')')
            end = at;
    int group;
    return end && sscanf(end + 1, " %*c %d %d %d", parent, &group, session) == 3;
}

/* Signals everything whose parent or session is `leader`. Returns how many that were. */
static int signal_family(pid_t leader, bool by_parent, int signal)
{
    int count = 0;
    DIR *directory = opendir("/proc");
    if (!directory)
        return 0;
    for (struct dirent *entry; (entry = readdir(directory));) {
        pid_t pid = atoi(entry->d_name), parent, session;
        if (pid <= 0 || pid == getpid() || !read_stat(pid, &parent, &session))
            continue;
        if ((by_parent ? parent : session) == leader && kill(pid, signal) == 0)
            count++;
    }
    closedir(directory);
    return count;
}

/* Whether a number is a live process of ours again after the one that had it ended. */
static bool number_is_taken(const struct process *p)
{
    for (const struct process *other = processes; other; other = other->next)
        if (other != p && other->pid == p->pid && !other->exited)
            return true;
    return false;
}

int process_signal(const struct process *p, int signal, int scope)
{
    if (scope == SCOPE_SESSION)
        return !number_is_taken(p) && signal_family(p->pid, false, signal) > 0 ? 0 : REFUSED_STATE;
    if (p->exited)
        return REFUSED_STATE;
    return kill(scope == SCOPE_GROUP ? -p->pid : p->pid, signal) == 0 ? 0 : REFUSED_STATE;
}

void process_signal_all(int signal)
{
    if (getpid() == 1) {
        kill(-1, signal);
        return;
    }
    /* Outside a namespace of its own: what was started here, and the orphans that this subreaper inherited. */
    for (const struct process *p = processes; p; p = p->next)
        if (!p->exited)
            signal_family(p->pid, false, signal);
    signal_family(getpid(), true, signal);
}

void process_end_all(void)
{
    process_signal_all(SIGTERM);
    for (const struct process *p = processes; p; p = p->next)
        if (p->tty && !p->exited)
            kill(-p->pid, SIGHUP);
    process_signal_all(SIGCONT); /* a stopped process hears nothing */
}
