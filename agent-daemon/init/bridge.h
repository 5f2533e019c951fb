/* The rooms of `init kernel`: the connections to one kernel, and what they tell to and hear from the rest of the bridge. */
#ifndef CAUSEWAY_BRIDGE_H
#define CAUSEWAY_BRIDGE_H

#include "jupyter.h"

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

/* What tells one bridge's connections and messages from all others, and signs. */
struct bridge_identity {
    uint8_t key[JUPYTER_KEY_BYTES];    /* hexadecimal */
    char name[10 + 32];                /* causeway-<hexadecimal> */
    uint16_t ports[JUPYTER_CHANNELS + 1]; /* by channel; the last is for heartbeats */
};

uint64_t now_ms(void); /* CLOCK_MONOTONIC */

/* ---- sockets.c: the four connections ---- */

void sockets_start(const struct bridge_identity *identity);
/* Fills `fds` with those that are worth waiting for, and returns how many; `deadline` is brought forward. */
size_t sockets_watch(struct pollfd fds[JUPYTER_CHANNELS], uint64_t *deadline);
void sockets_event(const struct pollfd *fd);
/* Connects again what is not connected and due. */
void sockets_tick(void);
/* Every connection is there, and messages pass. */
bool sockets_are_open(void);
/* No connection is left. The kernel has ended: none is made anew. */
bool sockets_are_over(void);
void sockets_kernel_ended(void);
/* Bytes that wait for the kernel. */
size_t sockets_queued(void);
/* Signs and sends a message. False without memory. */
bool sockets_send(enum jupyter_channel channel, const struct jupyter_message *m);
/* Closes all; what had come of a message counts as lost. */
void sockets_close(void);

/* ---- told by sockets.c ---- */

void bridge_heard(enum jupyter_channel channel, const struct jupyter_message *m);
void bridge_heard_forged(void);
void bridge_heard_too_large(enum jupyter_channel channel, const struct zmtp_message *m);
void bridge_lost(uint64_t messages, uint64_t bytes);

/* ---- log.c: what the bridge says, as records on standard output ---- */

/* `is_vital`: it is kept when others must be left out. */
void log_message(const char *channel, const struct jupyter_message *m, bool is_vital);
/* A note: the content of a message of the bridge's own, as JSON. */
void log_note(const char *content);
void log_lost(uint64_t messages, uint64_t bytes);
void log_forged(void);
/* Says what was lost or forged, as soon as nothing more is left out. */
void log_tick(void);

#endif
