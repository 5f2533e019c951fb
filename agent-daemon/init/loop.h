/* Clocks, and the epoll set with the things that can be watched in it. */
#ifndef CAUSEWAY_LOOP_H
#define CAUSEWAY_LOOP_H

#include <stdbool.h>
#include <stdint.h>

enum source_kind { SOURCE_LINK_IN, SOURCE_LINK_OUT, SOURCE_SIGNALS, SOURCE_LEASE, SOURCE_EXEC, SOURCE_STDIN, SOURCE_OUTPUT };

struct process;

/* A descriptor that may be watched. `fd` is -1 when closed. */
struct source {
    int fd;
    uint32_t events;
    uint8_t kind, stream;
    struct process *process;
};

extern int epoll_fd;

/* Watches for `events`; 0 takes the descriptor out of the set (a hang-up is reported to everything that is in it). */
void source_watch(struct source *source, uint32_t events);
void source_close(struct source *source);

uint64_t clock_ms(void); /* CLOCK_MONOTONIC */
uint64_t time_ms(void);  /* CLOCK_REALTIME */
uint64_t boot_ms(void);  /* CLOCK_BOOTTIME */

#endif
