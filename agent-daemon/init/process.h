/* The processes that the agent asked for: their birth, output, input, signals and end. */
#ifndef CAUSEWAY_PROCESS_H
#define CAUSEWAY_PROCESS_H

#include "loop.h"
#include "ring.h"
#include "wire.h"

#include <sys/types.h>

enum { MAX_PROCESSES = 4096, MAX_MESSAGE = 200 };

/* Frames that a process owes to the agent. They are sent when the connection has room, so nothing is ever queued. */
enum owed_frame { OWES_STATE = 1, OWES_SPAWNED = 2, OWES_STDIN_ACK = 4, OWES_EXIT = 8 };

struct stream {
    struct source source;
    struct output output;
    bool blocked;  /* not read, because the ring is full */
    bool done;     /* `output.end` is final */
    bool resumed;  /* the agent asked for it on this connection */
    bool queued;
    struct stream *queue_next;
    uint64_t end_at_exit; /* what was in the pipe when the process ended is read before the stream is cut */
};

struct process {
    char id[ID_BYTES + 1];
    pid_t pid;
    struct process *next, **previous; /* all that are not released */
    struct process *id_next;          /* bucket */
    struct process *owed_next;
    bool tty, drops, started, exited, final, released, owed_queued;
    bool reports_spawn; /* SPAWNED is owed as soon as exec is done */
    bool gave_up;       /* block_ms are over: the oldest output is dropped until the agent is back */
    uint8_t owed;
    uint32_t block_ms, drain_ms;
    uint64_t started_ms, blocked_at, drain_deadline;
    struct source exec_status, input;
    uint64_t input_offset;
    bool input_stalled;
    struct stream streams[2];
    uint8_t exit_kind, exit_value;
    uint32_t exit_errno;
    uint64_t exited_ms;
    char exit_message[MAX_MESSAGE];
};

extern struct process *processes;

/* Opens what has to be opened before this process becomes non-dumpable. */
void process_prepare(void);

struct process *process_find(const char *id);
/* Starts a process, or reports the one that has this id. Returns 0 or a refusal; errno text in `message`. */
int process_spawn(const struct command *command, char message[MAX_MESSAGE]);
/* Forgets an ended process. Its descendants may write on: that is read and thrown away. */
int process_release(struct process *p);
int process_signal(const struct process *p, int signal, int scope);
int process_resize(const struct process *p, uint16_t rows, uint16_t cols);
void process_write(struct process *p, const struct command *command);
int process_close_input(struct process *p, uint64_t offset);

/* Events. */
void process_event(struct source *source);
/* Collects every child that ended. False when there is no child left at all. */
bool process_reap(void);
/* The earliest moment (clock_ms) at which process_tick() has something to do, or UINT64_MAX. */
uint64_t process_deadline(void);
void process_tick(void);

/* A signal for everything in the container but this process. */
void process_signal_all(int signal);
/* Asks everything to end: SIGTERM, and SIGHUP where there is a terminal, because interactive shells ignore SIGTERM. */
void process_end_all(void);

/* The agent acknowledged, came, or went. */
int process_ack(struct process *p, int stream, uint64_t offset);
void process_contact(bool present);
/* Frees what was released, after a batch of events that may still point to it. */
void process_bury(void);

#endif
