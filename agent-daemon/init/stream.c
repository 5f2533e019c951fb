#define _GNU_SOURCE
#include "stream.h"

#include "send.h"


#include <errno.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { READ_BYTES = 64 * 1024, SHARE = 4, RESERVE_PART = 4, NEWCOMER_CHUNKS = 2, WAKE_CHUNKS = 4 };

static uint8_t scratch[READ_BYTES];
static uint32_t blocked_count;
static uint64_t contact_lost_at;
static bool contact;

static uint32_t held(const struct process *p) { return p->streams[0].output.chunks + p->streams[1].output.chunks; }

/*
 * How many more chunks a process may take. It may hold at most SHARE times what is free beyond a reserve, so n greedy
 * ones come to equal parts; the reserve is for the first chunks of newcomers, even if nobody is acknowledged anything.
 */
static uint32_t allowance(const struct process *p)
{
    uint32_t reserve = pool_count() / RESERVE_PART;
    uint32_t most = pool_free() > reserve ? SHARE * (pool_free() - reserve) : 0;
    if (most > held(p))
        return (most - held(p) + SHARE) / (SHARE + 1);
    return held(p) < NEWCOMER_CHUNKS && pool_free() > 0 ? 1 : 0;
}

static bool drops(const struct process *p) { return p->drops || p->gave_up; }

static void block(struct stream *s)
{
    struct process *p = s->source.process;
    source_watch(&s->source, 0);
    s->blocked = true;
    blocked_count++;
    if (!p->blocked_at)
        p->blocked_at = clock_ms();
}

void stream_unblock(struct stream *s)
{
    struct process *p = s->source.process;
    if (!s->blocked)
        return;
    s->blocked = false;
    blocked_count--;
    if (!p->streams[0].blocked && !p->streams[1].blocked)
        p->blocked_at = 0;
    if (p->exited)
        p->drain_deadline = clock_ms() + p->drain_ms;
    source_watch(&s->source, EPOLLIN);
}

/* From here on the stream's bytes are nobody's. A pipe is read on, so that descendants are not ended by SIGPIPE. */
void stream_cut(struct stream *s)
{
    if (s->done)
        return;
    stream_unblock(s);
    if (s->source.process->tty)
        source_close(&s->source);
    else
        source_watch(&s->source, EPOLLIN);
    process_stream_done(s);
}

static void unblock_where_room(void)
{
    for (struct process *p = processes; p && blocked_count > 0; p = p->next)
        if (p->blocked_at && (drops(p) || allowance(p) >= (held(p) < NEWCOMER_CHUNKS ? 1 : WAKE_CHUNKS))) {
            stream_unblock(&p->streams[0]);
            stream_unblock(&p->streams[1]);
        }
}

/* Gives up the oldest bytes of a process until `wanted` chunks can be taken or it holds none. */
static void make_room(struct process *p, struct stream *s, uint32_t wanted)
{
    while (allowance(p) < wanted && held(p) > 0) {
        struct stream *victim = s->output.chunks > 0 ? s : &p->streams[1 - s->source.stream];
        output_drop_oldest(&victim->output);
        send_queue(victim);
    }
}

/* Reads what there is into the ring. Returns what readv() did; -2 when the stream was blocked instead. */
static ssize_t read_output(struct process *p, struct stream *s, uint64_t now)
{
    struct iovec vectors[RING_VECTORS];
    uint32_t quota = allowance(p);
    if (drops(p)) {
        int waiting = 0;
        ioctl(s->source.fd, FIONREAD, &waiting);
        size_t wanted = waiting < READ_BYTES ? (size_t)waiting : READ_BYTES;
        make_room(p, s, pool_chunks(wanted));
        quota = allowance(p);
    }
    int count = output_prepare(&s->output, vectors, READ_BYTES, quota, now);
    if (count == 0 && drops(p)) {
        ssize_t size = read(s->source.fd, scratch, sizeof scratch);
        if (size > 0) {
            output_discard(&s->output, (size_t)size);
            send_queue(s);
        }
        return size;
    }
    if (count == 0) {
        block(s);
        return -2;
    }
    ssize_t size = readv(s->source.fd, vectors, count);
    int error = errno;
    output_commit(&s->output, size > 0 ? (size_t)size : 0, now);
    errno = error;
    return size;
}

void stream_output_event(struct process *p, struct stream *s)
{
    ssize_t size = s->done ? read(s->source.fd, scratch, sizeof scratch) : read_output(p, s, time_ms());
    if (size == -2 || (size < 0 && (errno == EAGAIN || errno == EINTR)))
        return;
    if (size > 0) {
        if (!s->done)
            send_queue(s);
        return;
    }
    source_close(&s->source); /* end of file; a terminal whose last user went away says EIO */
    if (!s->done)
        process_stream_done(s);
}

int process_ack(struct process *p, int stream, uint64_t offset)
{
    struct output *o = &p->streams[stream - 1].output;
    if (offset > o->end)
        return REFUSED_STATE;
    if (output_ack(o, offset) > 0 && blocked_count > 0)
        unblock_where_room();
    return 0;
}

void process_contact(bool present)
{
    contact = present;
    contact_lost_at = clock_ms();
    for (struct process *p = processes; p; p = p->next) {
        p->gave_up = p->gave_up && !present;
        for (int i = 0; i < 2; i++)
            p->streams[i].resumed = false;
        if (present)
            send_owe(p, OWES_STATE | (p->exited ? OWES_EXIT : 0));
    }
}

static uint64_t give_up_at(const struct process *p)
{
    if (contact || !p->blocked_at || drops(p))
        return UINT64_MAX;
    return (p->blocked_at > contact_lost_at ? p->blocked_at : contact_lost_at) + p->block_ms;
}

static uint64_t cut_at(const struct process *p)
{
    return p->exited && !p->final && !p->blocked_at ? p->drain_deadline : UINT64_MAX;
}

uint64_t process_deadline(void)
{
    uint64_t first = UINT64_MAX;
    if (draining_count == 0 && (blocked_count == 0 || contact))
        return first;
    for (struct process *p = processes; p; p = p->next) {
        if (give_up_at(p) < first)
            first = give_up_at(p);
        if (cut_at(p) < first)
            first = cut_at(p);
    }
    return first;
}

void process_tick(void)
{
    uint64_t now = clock_ms();
    for (struct process *p = processes; p; p = p->next) {
        if (now >= give_up_at(p)) {
            p->gave_up = true;
            unblock_where_room();
        }
        if (now < cut_at(p))
            continue;
        for (int i = 0; i < 2; i++)
            if (p->streams[i].output.end >= p->streams[i].end_at_exit)
                stream_cut(&p->streams[i]);
        p->drain_deadline = now + 1; /* the rest is on its way */
    }
}

static void close_input(struct process *p)
{
    source_close(&p->input);
    p->input_stalled = false;
    send_owe(p, OWES_STDIN_ACK);
}

void process_write(struct process *p, const struct command *c)
{
    send_owe(p, OWES_STDIN_ACK);
    if (p->input.fd < 0 || c->offset > p->input_offset || c->offset + c->size <= p->input_offset)
        return;
    size_t skip = (size_t)(p->input_offset - c->offset);
    ssize_t size = write(p->input.fd, c->data + skip, c->size - skip);
    if (size < 0 && errno != EAGAIN && errno != EINTR) {
        close_input(p);
        return;
    }
    if (size > 0)
        p->input_offset += (uint64_t)size;
    p->input_stalled = p->input_offset < c->offset + c->size;
    source_watch(&p->input, p->input_stalled ? EPOLLOUT : 0);
}

void stream_input_event(struct process *p)
{
    p->input_stalled = false;
    source_watch(&p->input, 0);
    send_owe(p, OWES_STDIN_ACK);
}

int process_close_input(struct process *p, uint64_t offset)
{
    static const char end_of_input = 4; /* ^D */
    if (p->input.fd < 0)
        return 0;
    if (offset != p->input_offset)
        return REFUSED_STATE;
    if (p->tty)
        return write(p->input.fd, &end_of_input, 1) == 1 ? 0 : REFUSED_STATE;
    close_input(p);
    return 0;
}

int process_resize(const struct process *p, uint16_t rows, uint16_t cols)
{
    struct winsize size = {.ws_row = rows, .ws_col = cols};
    int terminal = p->streams[0].source.fd;
    return p->tty && terminal >= 0 && ioctl(terminal, TIOCSWINSZ, &size) == 0 ? 0 : REFUSED_STATE;
}
