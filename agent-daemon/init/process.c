#define _GNU_SOURCE
#include "process.h"

#include "init.h"
#include "send.h"
#include "spawn.h"
#include "stream.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BUCKETS = 1024 };

struct process *processes;
static struct process *buckets[BUCKETS];
static struct process *graveyard;
static uint32_t process_count;
uint32_t draining_count;

void process_prepare(void) { spawn_prepare(); }

static struct process **bucket_of(const char *id)
{
    uint32_t hash = 2166136261u;
    for (; *id; id++)
        hash = (hash ^ (uint8_t)*id) * 16777619u;
    return &buckets[hash % BUCKETS];
}

struct process *process_find(const char *id)
{
    struct process *p = *bucket_of(id);
    while (p && strcmp(p->id, id) != 0)
        p = p->id_next;
    return p;
}

static void insert(struct process *p)
{
    struct process **bucket = bucket_of(p->id);
    p->id_next = *bucket;
    *bucket = p;
    p->next = processes;
    p->previous = &processes;
    if (processes)
        processes->previous = &p->next;
    processes = p;
    process_count++;
}

static void take_out(struct process *p)
{
    struct process **at = bucket_of(p->id);
    while (*at != p)
        at = &(*at)->id_next;
    *at = p->id_next;
    *p->previous = p->next;
    if (p->next)
        p->next->previous = p->previous;
    process_count--;
}

static void make_source(struct source *s, int fd, uint8_t kind, struct process *p, uint8_t stream)
{
    if (fd >= 0)
        *s = (struct source){.fd = fd, .kind = kind, .process = p, .stream = stream};
}

int process_spawn(const struct command *command, char message[MAX_MESSAGE])
{
    struct process *p = process_find(command->id);
    if (p) {
        p->reports_spawn = true;
        if (p->started)
            send_owe(p, OWES_SPAWNED);
        return 0;
    }
    if (init_lease_expired())
        return REFUSED_LEASE;
    if (init_terminating())
        return REFUSED_TERMINATING;
    if (process_count >= MAX_PROCESSES)
        return REFUSED_LIMIT;
    struct spawned born;
    p = calloc(1, sizeof *p);
    if (!p || spawn(&command->spawn, &born) < 0) {
        snprintf(message, MAX_MESSAGE, "%s", strerror(errno));
        free(p);
        return REFUSED_RESOURCES;
    }
    memcpy(p->id, command->id, sizeof p->id);
    p->pid = born.pid;
    p->tty = command->spawn.flags & SPAWN_TTY;
    p->drops = command->spawn.flags & SPAWN_DROP;
    p->block_ms = command->spawn.block_ms;
    p->drain_ms = command->spawn.drain_ms;
    p->started_ms = time_ms();
    p->reports_spawn = true;
    p->exec_status.fd = p->input.fd = p->streams[0].source.fd = p->streams[1].source.fd = -1;
    make_source(&p->exec_status, born.exec_status, SOURCE_EXEC, p, 0);
    make_source(&p->input, born.input, SOURCE_STDIN, p, 0);
    for (uint8_t i = 0; i < 2; i++) {
        make_source(&p->streams[i].source, born.outputs[i], SOURCE_OUTPUT, p, i);
        p->streams[i].done = born.outputs[i] < 0;
        p->streams[i].resumed = true;
        source_watch(&p->streams[i].source, EPOLLIN);
    }
    source_watch(&p->exec_status, EPOLLIN);
    insert(p);
    return 0;
}

/* ---- end ---- */

static void check_final(struct process *p)
{
    if (p->final || !p->exited || !p->streams[0].done || !p->streams[1].done)
        return;
    p->final = true;
    draining_count--;
    send_owe(p, OWES_EXIT);
}

void process_stream_done(struct stream *s)
{
    s->done = true;
    check_final(s->source.process);
}

/* Learns whether exec succeeded: the status pipe closes by exec, or carries the reason. */
static void read_exec_status(struct process *p)
{
    struct exec_failure failure;
    ssize_t size = read(p->exec_status.fd, &failure, sizeof failure);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    source_close(&p->exec_status);
    p->started = true;
    if (size == sizeof failure) {
        p->exit_kind = EXIT_FAILED;
        p->exit_errno = (uint32_t)failure.error;
        snprintf(p->exit_message, sizeof p->exit_message, "%.*s: %s", (int)sizeof failure.step, failure.step,
                 strerror(failure.error));
    }
    if (p->reports_spawn)
        send_owe(p, OWES_SPAWNED);
}

static void process_ended(struct process *p, int status)
{
    if (!p->started)
        read_exec_status(p);
    p->started = true;
    p->exited = true;
    p->exited_ms = time_ms();
    if (p->exit_kind != EXIT_FAILED)
        p->exit_kind = WIFSIGNALED(status) ? EXIT_SIGNAL : EXIT_CODE;
    p->exit_value = (uint8_t)(WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    p->drain_deadline = clock_ms() + p->drain_ms;
    draining_count++;
    send_owe(p, OWES_EXIT | (p->input.fd >= 0 ? OWES_STDIN_ACK : 0));
    source_close(&p->input);
    for (int i = 0; i < 2; i++) {
        int left = 0;
        struct stream *s = &p->streams[i];
        if (!s->done && ioctl(s->source.fd, FIONREAD, &left) == 0)
            s->end_at_exit = s->output.end + (uint64_t)left;
    }
    check_final(p);
}

bool process_reap(void)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        struct process *p = processes;
        while (p && (p->pid != pid || p->exited))
            p = p->next;
        if (p)
            process_ended(p, status);
    }
    return pid == 0;
}

int process_release(struct process *p)
{
    if (!p->exited)
        return REFUSED_STATE;
    for (int i = 0; i < 2; i++) {
        stream_cut(&p->streams[i]);
        output_free(&p->streams[i].output);
    }
    send_forget(p);
    take_out(p);
    p->released = true;
    p->next = graveyard;
    graveyard = p;
    return 0;
}

void process_bury(void)
{
    for (struct process **at = &graveyard; *at;) {
        struct process *p = *at;
        if (p->streams[0].source.fd >= 0 || p->streams[1].source.fd >= 0) {
            at = &p->next;
            continue;
        }
        *at = p->next;
        free(p);
    }
}

void process_event(struct source *source)
{
    if (source->fd < 0)
        return;
    if (source->kind == SOURCE_EXEC)
        read_exec_status(source->process);
    else if (source->kind == SOURCE_STDIN)
        stream_input_event(source->process);
    else
        stream_output_event(source->process, &source->process->streams[source->stream]);
}
