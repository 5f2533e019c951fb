/* The connections to a kernel: ZeroMQ's DEALER for shell, control and stdin, SUB for iopub. */
#define _GNU_SOURCE
#include "bridge.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    READ_BYTES = 256 << 10,
    TURNS = 4, /* reads from one connection before the others have theirs */
    FIRST_RETRY_MS = 5,
    LAST_RETRY_MS = 50,
    MOST_FOR_ANSWERS = 1 << 20,
    MAX_OUTGOING = 9 * (JUPYTER_MAX_PARTS + 2) + 128,
};

/* Bytes that wait to be sent. */
struct outgoing {
    struct outgoing *next;
    size_t size, at;
    uint8_t bytes[];
};

struct connection {
    enum { CLOSED, CONNECTING, GREETING, OPEN } state;
    int fd;
    bool was_open;
    uint64_t retry_at;
    uint32_t retry_ms;
    struct zmtp zmtp;
    struct outgoing *first, **last;
    uint8_t hello_bytes[ZMTP_GREETING + ZMTP_MAX_COMMAND + 3];
    size_t hello_at, hello_size;
};

static const struct bridge_identity *identity;
static struct connection connections[JUPYTER_CHANNELS];
static size_t queued;
static bool kernel_ended;

void sockets_start(const struct bridge_identity *of)
{
    identity = of;
    for (int i = 0; i < JUPYTER_CHANNELS; i++) {
        struct connection *c = &connections[i];
        c->fd = -1;
        c->last = &c->first;
        c->retry_ms = FIRST_RETRY_MS;
    }
}

/* The kernel listens no more, or not yet. What was half received is lost; what waits to be sent goes to the next connection. */
static void drop(struct connection *c)
{
    if (c->zmtp.message.total > 0 && !c->zmtp.message_done)
        bridge_lost(1, c->zmtp.message.total);
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    c->state = CLOSED;
    c->retry_at = now_ms() + c->retry_ms;
    c->retry_ms = c->retry_ms * 2 > LAST_RETRY_MS ? LAST_RETRY_MS : c->retry_ms * 2;
    zmtp_reset(&c->zmtp);
    if (c->first)
        c->first->at = 0;
}

static void greet(struct connection *c)
{
    bool is_iopub = c == &connections[JUPYTER_IOPUB];
    c->state = GREETING;
    c->hello_at = 0;
    c->hello_size = zmtp_hello(c->hello_bytes, is_iopub ? "SUB" : "DEALER", is_iopub ? "" : identity->name);
}

static void dial(struct connection *c)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(identity->ports[c - connections]),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->fd < 0) {
        drop(c);
        return;
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) == 0)
        greet(c);
    else if (errno == EINPROGRESS)
        c->state = CONNECTING;
    else
        drop(c);
}

void sockets_tick(void)
{
    for (int i = 0; i < JUPYTER_CHANNELS && !kernel_ended; i++)
        if (connections[i].state == CLOSED && connections[i].retry_at <= now_ms())
            dial(&connections[i]);
}

static bool wants_to_send(const struct connection *c)
{
    return c->hello_at < c->hello_size || (c->state == OPEN && c->first);
}

size_t sockets_watch(struct pollfd fds[JUPYTER_CHANNELS], uint64_t *deadline)
{
    size_t count = 0;
    for (int i = 0; i < JUPYTER_CHANNELS; i++) {
        struct connection *c = &connections[i];
        if (c->fd >= 0)
            fds[count++] = (struct pollfd){
                .fd = c->fd,
                .events = (short)(c->state == CONNECTING ? POLLOUT : POLLIN | (wants_to_send(c) ? POLLOUT : 0)),
            };
        else if (!kernel_ended && c->retry_at < *deadline)
            *deadline = c->retry_at;
    }
    return count;
}

bool sockets_are_open(void)
{
    for (int i = 0; i < JUPYTER_CHANNELS; i++)
        if (connections[i].state != OPEN)
            return false;
    return true;
}

bool sockets_are_over(void)
{
    for (int i = 0; i < JUPYTER_CHANNELS; i++)
        if (connections[i].fd >= 0)
            return false;
    return true;
}

void sockets_kernel_ended(void)
{
    kernel_ended = true;
    for (int i = 0; i < JUPYTER_CHANNELS; i++)
        if (connections[i].state == CONNECTING)
            drop(&connections[i]);
}

size_t sockets_queued(void) { return queued; }

/* ---- sending ---- */

/* True when all was sent that was to be; false when the connection takes no more now, or broke. */
static bool send_bytes(struct connection *c, const uint8_t *bytes, size_t size, size_t *at)
{
    while (*at < size) {
        ssize_t sent = send(c->fd, bytes + *at, size - *at, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0) {
            if (errno != EAGAIN)
                drop(c);
            return false;
        }
        *at += (size_t)sent;
    }
    return true;
}

static void flush(struct connection *c)
{
    if (c->state < GREETING || !send_bytes(c, c->hello_bytes, c->hello_size, &c->hello_at))
        return;
    while (c->state == OPEN && c->first) {
        struct outgoing *o = c->first;
        if (!send_bytes(c, o->bytes, o->size, &o->at))
            return;
        queued -= o->size;
        c->first = o->next;
        if (!c->first)
            c->last = &c->first;
        free(o);
    }
}

static void enqueue(struct connection *c, struct outgoing *o)
{
    queued += o->size;
    *c->last = o;
    c->last = &o->next;
    flush(c);
}

static size_t put_frame(uint8_t *out, struct span s, bool more)
{
    size_t head = zmtp_frame_header(out, s.size, more);
    if (s.size)
        memcpy(out + head, s.data, s.size);
    return head + s.size;
}

bool sockets_send(enum jupyter_channel channel, const struct jupyter_message *m)
{
    struct connection *c = &connections[channel];
    char signature[2 * SHA256_BYTES];
    size_t size = MAX_OUTGOING;
    for (uint32_t i = 0; i < m->count; i++)
        size += m->parts[i].size;
    struct outgoing *o = malloc(sizeof *o + size);
    if (!o)
        return false;
    *o = (struct outgoing){0};
    jupyter_sign(m, identity->key, signature);
    o->size = put_frame(o->bytes, (struct span){"<IDS|MSG>", 9}, true);
    o->size += put_frame(o->bytes + o->size, (struct span){signature, sizeof signature}, true);
    for (uint32_t i = 0; i < m->count; i++)
        o->size += put_frame(o->bytes + o->size, m->parts[i], i + 1 < m->count);
    enqueue(c, o);
    return true;
}

static void answer(struct connection *c)
{
    struct outgoing *o = malloc(sizeof *o + c->zmtp.answer_size);
    if (!o)
        return;
    *o = (struct outgoing){.size = c->zmtp.answer_size};
    memcpy(o->bytes, c->zmtp.answer, o->size);
    enqueue(c, o);
}

/* ---- receiving ---- */

static void take_message(struct connection *c)
{
    static struct jupyter_message m;
    enum jupyter_channel channel = (enum jupyter_channel)(c - connections);
    switch (jupyter_read(&c->zmtp.message, identity->key, &m)) {
    case JUPYTER_GOOD:
        if (jupyter_record_size(jupyter_channel_names[channel], &m)) {
            bridge_heard(channel, &m);
            return;
        }
        /* fall through */
    case JUPYTER_TOO_LARGE:
        bridge_heard_too_large(channel, &c->zmtp.message);
        return;
    default:
        bridge_heard_forged();
    }
}

static void take_event(struct connection *c, enum zmtp_event event)
{
    switch (event) {
    case ZMTP_READY:
        c->state = OPEN;
        if (c->was_open)
            bridge_lost(1, 0); /* what it sent meanwhile, if anything */
        c->was_open = true;
        c->retry_ms = FIRST_RETRY_MS;
        if (c == &connections[JUPYTER_IOPUB]) {
            /* A subscription to everything is a message of one byte. */
            memcpy(c->hello_bytes, "\0\1\1", 3);
            c->hello_at = 0;
            c->hello_size = 3;
        }
        flush(c);
        break;
    case ZMTP_MESSAGE:
        take_message(c);
        break;
    case ZMTP_ANSWER:
        if (queued < MOST_FOR_ANSWERS)
            answer(c);
        break;
    case ZMTP_BROKEN:
        drop(c);
        break;
    default:
        break;
    }
}

static void receive(struct connection *c)
{
    static uint8_t bytes[READ_BYTES];
    for (int turn = 0; turn < TURNS && c->fd >= 0; turn++) {
        ssize_t size = recv(c->fd, bytes, sizeof bytes, 0);
        if (size < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (size <= 0) {
            drop(c);
            return;
        }
        for (size_t at = 0; at < (size_t)size && c->fd >= 0;) {
            enum zmtp_event event;
            at += zmtp_take(&c->zmtp, bytes + at, (size_t)size - at, &event);
            take_event(c, event);
        }
        if ((size_t)size < sizeof bytes)
            return;
    }
}

void sockets_event(const struct pollfd *fd)
{
    for (int i = 0; i < JUPYTER_CHANNELS; i++) {
        struct connection *c = &connections[i];
        int error = 0;
        socklen_t size = sizeof error;
        if (c->fd != fd->fd || !fd->revents)
            continue;
        if (c->state == CONNECTING) {
            if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 || error) {
                drop(c);
                return;
            }
            greet(c);
        }
        flush(c);
        if (c->fd >= 0 && fd->revents & (POLLIN | POLLHUP | POLLERR))
            receive(c);
        return;
    }
}

void sockets_close(void)
{
    for (int i = 0; i < JUPYTER_CHANNELS; i++) {
        struct connection *c = &connections[i];
        if (c->fd >= 0)
            drop(c);
        zmtp_free(&c->zmtp);
        while (c->first) {
            struct outgoing *o = c->first;
            c->first = o->next;
            free(o);
        }
    }
}
