/*
 * Output that the agent has not acknowledged yet. One pool of equal chunks serves every stream of every process; a
 * stream is a list of chunks, a chunk holds records {time, bytes}. Bytes leave by an acknowledgement, or, under the
 * drop policy, oldest first: so what is lost is always one exact range before the oldest byte still held.
 */
#ifndef CAUSEWAY_RING_H
#define CAUSEWAY_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum { RING_VECTORS = 80 };

struct chunk;

struct output {
    struct chunk *first, *last;
    uint32_t chunks;      /* held */
    uint32_t last_record; /* place of the newest record in `last` */
    uint64_t end;         /* bytes ever read from the process */
    uint64_t acked;       /* every byte before is safe with the agent */
    uint64_t sent;        /* next offset to send on this connection */
    struct chunk *at;     /* where `sent` lies; NULL when unknown */
    uint32_t at_record, at_skip;
};

/* Makes the pool. `total_bytes` bounds all output held at a time. False when there is no memory. */
bool pool_make(size_t total_bytes);
size_t pool_bytes(void);
/* In chunks. */
uint32_t pool_count(void);
uint32_t pool_free(void);
/* Chunks that `size` bytes need. */
uint32_t pool_chunks(size_t size);

/* Oldest offset that can still be sent: not acknowledged, not dropped. */
uint64_t output_base(const struct output *o);

/*
 * Offers room for at most `limit` bytes in at most RING_VECTORS vectors, taking at most `new_chunks` from the pool.
 * Returns the number of vectors. output_commit() must follow, with the number of bytes that were read.
 */
int output_prepare(struct output *o, struct iovec *vectors, size_t limit, uint32_t new_chunks, uint64_t time_ms);
void output_commit(struct output *o, size_t size, uint64_t time_ms);

/* Counts bytes that were read and thrown away. Only when nothing is held. */
void output_discard(struct output *o, size_t size);

/* Frees what lies before `offset`. Returns the number of chunks that became free. */
uint32_t output_ack(struct output *o, uint64_t offset);
/* Frees the oldest chunk, acknowledged or not. */
void output_drop_oldest(struct output *o);
void output_free(struct output *o);

/* Sends from `offset` on; what lies before output_base() has to be announced as a gap first. */
void output_seek(struct output *o, uint64_t offset);
/* Collects the next bytes to send that share one time. Returns their number; output_sent() moves on. */
size_t output_gather(struct output *o, struct iovec *vectors, int *count, size_t limit, uint64_t *time_ms);
void output_sent(struct output *o, size_t size);

#endif
