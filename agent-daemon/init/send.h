/*
 * What goes to the agent while the connection is open. Frames about a process are owed, not queued: a flag each, so that
 * an agent that does not read costs no memory. Output is sent round robin, one frame of one stream at a time.
 */
#ifndef CAUSEWAY_SEND_H
#define CAUSEWAY_SEND_H

#include "process.h"

/* The handshake is over: every process owes its state, then READY follows. */
void send_begin(void);
/* The connection is gone: nothing is owed any more. */
void send_stop(void);
/* Sends what is owed and what there is of output, as far as the agent reads. */
void send_flush(void);
bool send_is_flushed(void);

/* Answers. Only while send_has_room(). */
bool send_has_room(void);
void send_done(uint32_t seq);
void send_pong(uint32_t seq);
void send_stdin_closed(const char *id, uint64_t offset);
void send_refusal(uint32_t seq, int refusal, const char *message);

void send_owe(struct process *p, uint8_t frames);
void send_queue(struct stream *stream);
void send_lease_expired(void);
/* Takes a process out of the queues before it is released. */
void send_forget(struct process *p);

#endif
