#include "ring.h"

#include <string.h>
#include <sys/mman.h>

enum { RECORD_BYTES = 8, CHUNK_COUNT = 1024, MIN_CHUNK = 256, MAX_CHUNK = 4096 };

struct chunk {
    struct chunk *next;
    uint64_t start;  /* offset of its first byte */
    uint32_t bytes;  /* of output */
    uint32_t used;   /* of data[], records included */
    uint8_t data[];
};

static uint8_t *pool;
static size_t chunk_bytes;
static uint32_t chunk_count, touched_count, free_count;
static struct chunk *free_list;
static struct chunk *spare; /* taken by output_prepare(), not yet committed */
static bool extends_record;

bool pool_make(size_t total_bytes)
{
    chunk_bytes = total_bytes / CHUNK_COUNT & ~(size_t)63;
    if (chunk_bytes < MIN_CHUNK)
        chunk_bytes = MIN_CHUNK;
    if (chunk_bytes > MAX_CHUNK)
        chunk_bytes = MAX_CHUNK;
    chunk_count = (uint32_t)(total_bytes / chunk_bytes);
    free_count = chunk_count;
    pool = mmap(NULL, chunk_count * chunk_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return pool != MAP_FAILED && chunk_count > 0;
}

size_t pool_bytes(void) { return chunk_count * chunk_bytes; }
uint32_t pool_free(void) { return free_count; }
uint32_t pool_count(void) { return chunk_count; }

static size_t room(void) { return chunk_bytes - offsetof(struct chunk, data); }

uint32_t pool_chunks(size_t size)
{
    size_t part = room() - RECORD_BYTES;
    return (uint32_t)((size + part - 1) / part);
}

/* A chunk that was used before, so that memory which was never needed is never charged to the container. */
static struct chunk *chunk_take(void)
{
    struct chunk *c = free_list;
    if (c)
        free_list = c->next;
    else if (touched_count < chunk_count)
        c = (struct chunk *)(pool + chunk_bytes * touched_count++);
    else
        return NULL;
    free_count--;
    c->next = NULL;
    c->bytes = c->used = 0;
    return c;
}

static void chunk_give(struct chunk *c)
{
    c->next = free_list;
    free_list = c;
    free_count++;
}

/* A record's head: time in the upper 48 bits, size in the lower 16. */
static uint64_t record_get(const struct chunk *c, uint32_t place)
{
    uint64_t head;
    memcpy(&head, c->data + place, sizeof head);
    return head;
}

static void record_put(struct chunk *c, uint32_t place, uint64_t time_ms, uint32_t size)
{
    uint64_t head = time_ms << 16 | size;
    memcpy(c->data + place, &head, sizeof head);
}

static uint32_t record_size(const struct chunk *c, uint32_t place) { return record_get(c, place) & 0xffff; }

uint64_t output_base(const struct output *o)
{
    uint64_t oldest = o->first ? o->first->start : o->end;
    return oldest > o->acked ? oldest : o->acked;
}

int output_prepare(struct output *o, struct iovec *vectors, size_t limit, uint32_t new_chunks, uint64_t time_ms)
{
    int count = 0;
    extends_record = false;
    if (o->last) {
        extends_record = record_get(o->last, o->last_record) >> 16 == time_ms;
        size_t head = extends_record ? 0 : RECORD_BYTES;
        size_t left = room() - o->last->used;
        if (left > head) {
            size_t size = left - head < limit ? left - head : limit;
            vectors[count++] = (struct iovec){o->last->data + o->last->used + head, size};
            limit -= size;
        } else {
            extends_record = false;
        }
    }
    struct chunk **tail = &spare;
    while (limit > 0 && new_chunks-- > 0 && count < RING_VECTORS) {
        struct chunk *c = chunk_take();
        if (!c)
            break;
        size_t size = room() - RECORD_BYTES < limit ? room() - RECORD_BYTES : limit;
        vectors[count++] = (struct iovec){c->data + RECORD_BYTES, size};
        limit -= size;
        *tail = c;
        tail = &c->next;
    }
    return count;
}

/* Accounts for up to `size` bytes that were read into the free end of the last chunk. */
static size_t commit_last(struct output *o, size_t size, uint64_t time_ms)
{
    size_t head = extends_record ? 0 : RECORD_BYTES;
    size_t left = room() - o->last->used;
    if (left <= head || size == 0)
        return 0;
    size_t part = left - head < size ? left - head : size;
    if (extends_record) {
        record_put(o->last, o->last_record, time_ms, record_size(o->last, o->last_record) + (uint32_t)part);
    } else {
        o->last_record = o->last->used;
        record_put(o->last, o->last_record, time_ms, (uint32_t)part);
    }
    o->last->used += (uint32_t)(head + part);
    o->last->bytes += (uint32_t)part;
    o->end += part;
    return part;
}

void output_commit(struct output *o, size_t size, uint64_t time_ms)
{
    if (o->last)
        size -= commit_last(o, size, time_ms);
    while (spare) {
        struct chunk *c = spare;
        spare = c->next;
        c->next = NULL;
        if (size == 0) {
            chunk_give(c);
            continue;
        }
        size_t part = room() - RECORD_BYTES < size ? room() - RECORD_BYTES : size;
        record_put(c, 0, time_ms, (uint32_t)part);
        c->start = o->end;
        c->bytes = (uint32_t)part;
        c->used = (uint32_t)part + RECORD_BYTES;
        o->end += part;
        size -= part;
        if (o->last)
            o->last->next = c;
        else
            o->first = c;
        o->last = c;
        o->last_record = 0;
        o->chunks++;
    }
}

void output_discard(struct output *o, size_t size) { o->end += size; }

void output_drop_oldest(struct output *o)
{
    struct chunk *c = o->first;
    if (o->at == c)
        o->at = NULL;
    o->first = c->next;
    if (!o->first)
        o->last = NULL;
    o->chunks--;
    chunk_give(c);
}

uint32_t output_ack(struct output *o, uint64_t offset)
{
    uint32_t before = o->chunks;
    bool owes_gap = o->sent < output_base(o);
    if (offset > o->acked)
        o->acked = offset;
    while (o->first && o->first->start + o->first->bytes <= o->acked)
        output_drop_oldest(o);
    if (o->sent < o->acked && !owes_gap)
        output_seek(o, o->acked);
    return before - o->chunks;
}

void output_free(struct output *o)
{
    while (o->first)
        output_drop_oldest(o);
}

void output_seek(struct output *o, uint64_t offset)
{
    o->sent = offset;
    o->at = NULL;
}

/* Finds the record that holds `sent`. */
static void locate(struct output *o)
{
    struct chunk *c = o->first;
    while (c->start + c->bytes <= o->sent)
        c = c->next;
    uint64_t start = c->start;
    uint32_t record = 0;
    while (start + record_size(c, record) <= o->sent) {
        start += record_size(c, record);
        record += RECORD_BYTES + record_size(c, record);
    }
    o->at = c;
    o->at_record = record;
    o->at_skip = (uint32_t)(o->sent - start);
}

/* Moves a place that stands at the end of a record to the next record, if there is one. */
static bool next_record(struct chunk **chunk, uint32_t *record, uint32_t *skip)
{
    if (*skip < record_size(*chunk, *record))
        return true;
    uint32_t next = *record + RECORD_BYTES + record_size(*chunk, *record);
    if (next < (*chunk)->used) {
        *record = next;
    } else if ((*chunk)->next) {
        *chunk = (*chunk)->next;
        *record = 0;
    } else {
        return false;
    }
    *skip = 0;
    return true;
}

size_t output_gather(struct output *o, struct iovec *vectors, int *count, size_t limit, uint64_t *time_ms)
{
    size_t total = 0;
    *count = 0;
    if (o->sent >= o->end || o->sent < output_base(o))
        return 0;
    if (!o->at)
        locate(o);
    if (!next_record(&o->at, &o->at_record, &o->at_skip))
        return 0;
    struct chunk *c = o->at;
    uint32_t record = o->at_record, skip = o->at_skip;
    *time_ms = record_get(c, record) >> 16;
    while (total < limit && *count < RING_VECTORS && next_record(&c, &record, &skip)) {
        if (record_get(c, record) >> 16 != *time_ms)
            break;
        size_t size = record_size(c, record) - skip;
        if (size > limit - total)
            size = limit - total;
        vectors[(*count)++] = (struct iovec){c->data + record + RECORD_BYTES + skip, size};
        total += size;
        skip += (uint32_t)size;
    }
    return total;
}

void output_sent(struct output *o, size_t size)
{
    o->sent += size;
    while (size > 0 && next_record(&o->at, &o->at_record, &o->at_skip)) {
        uint32_t left = record_size(o->at, o->at_record) - o->at_skip;
        uint32_t part = size < left ? (uint32_t)size : left;
        o->at_skip += part;
        size -= part;
    }
}
