/* What flows through a process: output into the ring, input from the agent, and the deadlines of both. */
#ifndef CAUSEWAY_STREAM_H
#define CAUSEWAY_STREAM_H

#include "process.h"

void stream_output_event(struct process *p, struct stream *s);
void stream_input_event(struct process *p);
void stream_unblock(struct stream *s);
/* Makes a stream's end final although descendants may still hold it open. */
void stream_cut(struct stream *s);

/* How many ended processes still have output on its way. */
extern uint32_t draining_count;
/* The stream's last byte was read: the process may be final by that. */
void process_stream_done(struct stream *s);

#endif
