/*
 * The process of a kernel: its connection file, its birth, and an end like its end. It is a child of this process, or one
 * that was started in advance (parked.h) and is reached through whoever started it.
 */
#ifndef CAUSEWAY_KERNEL_PROCESS_H
#define CAUSEWAY_KERNEL_PROCESS_H

#include "bridge.h"

#include <stdbool.h>
#include <sys/types.h>

/* A fresh key and name, ports that are free, and the connection file that tells of them. False with errno. */
bool kernel_process_identify(struct bridge_identity *out);
/* Starts it, `{connection_file}` in its arguments replaced, in a group of its own. False with errno. */
bool kernel_process_start(char **argv);
/*
 * Takes the one that was started in advance under this name, and what it goes by; its errors come here from now on. Returns
 * the process that started it; -1 where there is none.
 */
pid_t kernel_process_take(const char *name, struct bridge_identity *out);
/* Of one that was taken: where its end is heard of. -1 for a child, of which SIGCHLD tells. */
int kernel_process_watched(void);
/* To its group. */
void kernel_process_signal(int signal);
/* True once it has ended, with the status of `wait`. Never waits. */
bool kernel_process_has_ended(int *status);
/* Lets go of one that was taken, which ends then, with all of its session. */
void kernel_process_let_go(void);
/* Removes the connection file. */
void kernel_process_tidy(void);
/* The exit status that says the same; of a signal this process dies too. */
int kernel_process_end_as(int status);

#endif
