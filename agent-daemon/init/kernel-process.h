/* The process of a kernel: its connection file, its birth, and an end like its end. */
#ifndef CAUSEWAY_KERNEL_PROCESS_H
#define CAUSEWAY_KERNEL_PROCESS_H

#include "bridge.h"

#include <stdbool.h>
#include <sys/types.h>

/* A fresh key and name, ports that are free, and the connection file that tells of them. False with errno. */
bool kernel_process_identify(struct bridge_identity *out);
/* Starts it, `{connection_file}` in its arguments replaced, in a group of its own. -1 with errno. */
pid_t kernel_process_start(char **argv);
/* To its group. */
void kernel_process_signal(pid_t kernel, int signal);
/* Removes the connection file. */
void kernel_process_tidy(void);
/* The exit status that says the same; of a signal this process dies too. */
int kernel_process_end_as(int status);

#endif
