/* The birth of one process: descriptors, fork, and what the child does until exec. */
#ifndef CAUSEWAY_SPAWN_H
#define CAUSEWAY_SPAWN_H

#include "wire.h"

#include <sys/types.h>

/* What a child that could not become its program says before it ends. */
struct exec_failure {
    int error;
    char step[12];
};

/* The init's ends. -1 where there is none; a terminal has no second output. */
struct spawned {
    pid_t pid;
    int exec_status, input, outputs[2];
};

/* Remembers what children get back: limits, and the score by which the kernel chooses whom to end when memory is short. */
void spawn_prepare(void);

/* Returns 0, or -1 with errno set and nothing left behind. */
int spawn(const struct spawn_command *command, struct spawned *out);

#endif
