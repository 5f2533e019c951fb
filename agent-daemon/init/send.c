#define _GNU_SOURCE
#include "send.h"

#include "init.h"
#include "transport.h"

#include <errno.h>
#include <string.h>

enum {
    SMALL_FRAME = 1024, /* no frame but OUTPUT is longer */
    BUFFER_BYTES = HEADER_BYTES + MAX_DATA + 16 * SMALL_FRAME,
    TURN_FRAMES = 16,   /* OUTPUT frames sent before the init looks at other events */
};

static bool open;
static uint8_t to_send[BUFFER_BYTES];
static size_t buffer_start, buffer_end;
static struct process *owed_first, *owed_last;
static struct stream *queue_first, *queue_last;
static bool owes_ready, owes_lease_expired;

bool send_has_room(void)
{
    if (buffer_start == buffer_end)
        buffer_start = buffer_end = 0;
    return BUFFER_BYTES - buffer_end >= SMALL_FRAME;
}

static uint8_t *frame_begin(void) { return to_send + buffer_end + HEADER_BYTES; }

static void frame_end(uint8_t type, uint32_t seq, const uint8_t *end)
{
    uint8_t *start = to_send + buffer_end;
    put_header(start, type, seq, (uint32_t)(end - start - HEADER_BYTES));
    buffer_end = (size_t)(end - to_send);
}

void send_done(uint32_t seq) { frame_end(FRAME_DONE, seq, frame_begin()); }
void send_pong(uint32_t seq) { frame_end(FRAME_PONG, seq, frame_begin()); }

void send_refusal(uint32_t seq, int refusal, const char *message)
{
    uint8_t *at = put_u8(frame_begin(), (uint8_t)refusal);
    frame_end(FRAME_REFUSED, seq, put_bytes(at, message, strlen(message)));
}

static void put_gap(const struct process *p, uint8_t stream, uint64_t from, uint64_t to)
{
    uint8_t *at = put_u8(put_bytes(frame_begin(), p->id, ID_BYTES), stream);
    frame_end(FRAME_GAP, 0, put_u64(put_u64(at, from), to));
}

static uint8_t *put_exit(uint8_t *at, const struct process *p)
{
    at = put_u8(put_u8(at, p->exit_kind), p->exit_value);
    at = put_u64(put_u32(at, p->exit_errno), p->exited_ms);
    for (int i = 0; i < 2; i++)
        at = put_u64(at, p->streams[i].output.end);
    return at;
}

static void send_state(const struct process *p)
{
    uint8_t flags = (p->tty ? STATE_TTY : 0) | (p->input.fd >= 0 ? STATE_STDIN : 0) | (p->exited ? STATE_EXITED : 0) |
                    (p->final ? STATE_FINAL : 0) | (p->started ? STATE_STARTED : 0);
    uint8_t *at = put_u8(put_bytes(frame_begin(), p->id, ID_BYTES), flags);
    at = put_u64(put_u64(put_u32(at, (uint32_t)p->pid), p->started_ms), p->input_offset);
    for (int i = 0; i < 2; i++)
        at = put_u64(at, p->streams[i].output.acked);
    frame_end(FRAME_STATE, 0, put_exit(at, p));
}

static void send_exit(const struct process *p)
{
    uint8_t *at = put_u8(put_bytes(frame_begin(), p->id, ID_BYTES), p->final);
    at = put_exit(at, p);
    frame_end(FRAME_EXIT, 0, put_bytes(at, p->exit_message, strlen(p->exit_message)));
}

static void put_stdin_ack(const char *id, uint64_t offset, uint8_t flags)
{
    uint8_t *at = put_u64(put_bytes(frame_begin(), id, ID_BYTES), offset);
    frame_end(FRAME_STDIN_ACK, 0, put_u8(at, flags));
}

static void send_stdin_ack(const struct process *p)
{
    put_stdin_ack(p->id, p->input_offset, (p->input_stalled ? 0 : STDIN_ROOM) | (p->input.fd < 0 ? STDIN_CLOSED : 0));
}

void send_stdin_closed(const char *id, uint64_t offset) { put_stdin_ack(id, offset, STDIN_CLOSED); }

static void send_spawned(const struct process *p)
{
    uint8_t *at = put_bytes(frame_begin(), p->id, ID_BYTES);
    frame_end(FRAME_SPAWNED, 0, put_u32(at, (uint32_t)p->pid));
}

/* Sends the one owed frame that comes first in the order of a process's life. */
static void send_owed(struct process *p)
{
    static const struct {
        uint8_t bit;
        void (*send)(const struct process *);
    } frames[] = {
        {OWES_STATE, send_state}, {OWES_SPAWNED, send_spawned}, {OWES_STDIN_ACK, send_stdin_ack}, {OWES_EXIT, send_exit}};
    for (size_t i = 0; i < sizeof frames / sizeof frames[0]; i++)
        if (p->owed & frames[i].bit) {
            p->owed &= (uint8_t)~frames[i].bit;
            frames[i].send(p);
            return;
        }
}

static void send_ready(void)
{
    uint8_t flags = (init_lease_expired() ? READY_LEASE_EXPIRED : 0) | (init_terminating() ? READY_TERMINATING : 0);
    uint8_t *at = put_u32(put_u8(frame_begin(), flags), (uint32_t)pool_bytes());
    frame_end(FRAME_READY, 0, put_u64(at, boot_ms()));
}

void send_owe(struct process *p, uint8_t frames)
{
    if (!open || p->released)
        return;
    p->owed |= frames;
    if (p->owed_queued)
        return;
    p->owed_queued = true;
    p->owed_next = NULL;
    *(owed_first ? &owed_last->owed_next : &owed_first) = p;
    owed_last = p;
}

void send_queue(struct stream *s)
{
    if (!open || s->queued || !s->resumed)
        return;
    s->queued = true;
    s->queue_next = NULL;
    *(queue_first ? &queue_last->queue_next : &queue_first) = s;
    queue_last = s;
}

void send_lease_expired(void) { owes_lease_expired = open; }

static struct stream *unqueue(void)
{
    struct stream *s = queue_first;
    queue_first = s->queue_next;
    s->queued = false;
    return s;
}

static struct process *unowe(void)
{
    struct process *p = owed_first;
    owed_first = p->owed_next;
    p->owed_queued = false;
    return p;
}

void send_forget(struct process *p)
{
    for (struct process **at = &owed_first, *last = NULL; *at; last = *at, at = &(*at)->owed_next)
        if (*at == p) {
            *at = p->owed_next;
            if (owed_last == p)
                owed_last = last;
            break;
        }
    for (struct stream **at = &queue_first, *last = NULL; *at;) {
        struct stream *s = *at;
        if (s->source.process != p) {
            last = s;
            at = &s->queue_next;
            continue;
        }
        *at = s->queue_next;
        if (queue_last == s)
            queue_last = last;
    }
}

static void write_control_frames(void)
{
    while (send_has_room() && owed_first) {
        struct process *p = owed_first;
        send_owed(p);
        if (!p->owed)
            unowe();
    }
    if (owes_ready && send_has_room() && !owed_first) {
        owes_ready = false;
        send_ready();
    }
    if (owes_lease_expired && send_has_room() && !owes_ready) {
        owes_lease_expired = false;
        frame_end(FRAME_LEASE_EXPIRED, 0, frame_begin());
    }
}

/* False when the connection takes nothing more now, or is gone. */
static bool push(void)
{
    while (buffer_start < buffer_end) {
        struct iovec rest = {to_send + buffer_start, buffer_end - buffer_start};
        ssize_t size = transport_write(&rest, 1);
        if (size < 0)
            return false;
        buffer_start += (size_t)size;
    }
    return true;
}

/* Keeps what the connection did not take of a frame. The buffer is empty when this is called. */
static void keep_rest(const struct iovec *vectors, int count, size_t written)
{
    buffer_start = buffer_end = 0;
    for (int i = 0; i < count; i++) {
        size_t skip = written < vectors[i].iov_len ? written : vectors[i].iov_len;
        written -= skip;
        memcpy(to_send + buffer_end, (uint8_t *)vectors[i].iov_base + skip, vectors[i].iov_len - skip);
        buffer_end += vectors[i].iov_len - skip;
    }
}

/* Sends the next piece of the first stream in the queue. False when the connection takes nothing more now. */
static bool send_output(void)
{
    uint8_t head[HEADER_BYTES + ID_BYTES + 1 + 8 + 8];
    struct iovec vectors[1 + RING_VECTORS];
    struct stream *s = queue_first;
    struct output *o = &s->output;
    int count;
    uint64_t time;

    if (s->resumed && o->sent < output_base(o)) {
        put_gap(s->source.process, s->source.stream + 1, o->sent, output_base(o));
        output_seek(o, output_base(o));
        return true;
    }
    size_t size = s->resumed ? output_gather(o, vectors + 1, &count, MAX_DATA, &time) : 0;
    if (size == 0) {
        unqueue();
        return true;
    }
    put_header(head, FRAME_OUTPUT, 0, (uint32_t)(sizeof head - HEADER_BYTES + size));
    uint8_t *at = put_u8(put_bytes(head + HEADER_BYTES, s->source.process->id, ID_BYTES), s->source.stream + 1);
    put_u64(put_u64(at, o->sent), time);
    vectors[0] = (struct iovec){head, sizeof head};
    ssize_t written = transport_write(vectors, count + 1);
    if (written < 0)
        return false;
    keep_rest(vectors, count + 1, (size_t)written);
    output_sent(o, size);
    send_queue(unqueue());
    return true;
}

void send_flush(void)
{
    if (!open)
        return;
    for (int turn = 0; turn < TURN_FRAMES; turn++) {
        write_control_frames();
        if (!push())
            break;
        if (queue_first && send_has_room() && !send_output())
            break;
    }
    transport_want_write(buffer_start < buffer_end || owed_first || queue_first);
}

bool send_is_flushed(void) { return !open || (buffer_start == buffer_end && !owed_first); }

void send_begin(void)
{
    open = owes_ready = true;
    owes_lease_expired = false;
}

void send_stop(void)
{
    while (owed_first)
        unowe()->owed = 0;
    while (queue_first)
        unqueue();
    buffer_start = buffer_end = 0;
    open = false;
}
