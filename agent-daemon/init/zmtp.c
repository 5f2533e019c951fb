#include "zmtp.h"

#include <stdlib.h>
#include <string.h>

enum { MORE = 1, LONG = 2, COMMAND = 4, FIRST_ROOM = 16 << 10, MAX_CONTEXT = 16 };

static void forget_message(struct zmtp *z)
{
    struct zmtp_message *m = &z->message;
    if (m->room > ZMTP_KEPT_MEMORY) {
        free(m->bytes);
        m->bytes = NULL;
        m->room = 0;
    }
    m->size = 0;
    m->frames = 0;
    m->total = 0;
    m->too_large = false;
    z->message_done = false;
}

void zmtp_reset(struct zmtp *z)
{
    forget_message(z);
    z->state = IN_GREETING;
    z->is_ready = false;
    z->held = 0;
    z->command_size = 0;
}

void zmtp_free(struct zmtp *z)
{
    free(z->message.bytes);
    z->message.bytes = NULL;
    z->message.room = 0;
    zmtp_reset(z);
}

size_t zmtp_frame_header(uint8_t out[ZMTP_FRAME_HEADER], uint64_t size, bool more)
{
    out[0] = (uint8_t)(more ? MORE : 0);
    if (size < 256) {
        out[1] = (uint8_t)size;
        return 2;
    }
    out[0] |= LONG;
    for (int i = 0; i < 8; i++)
        out[1 + i] = (uint8_t)(size >> (56 - 8 * i));
    return 9;
}

/* {u8 length, name, u32 length, value} */
static size_t put_property(uint8_t *out, const char *name, const char *value)
{
    size_t name_size = strlen(name), value_size = strlen(value);
    out[0] = (uint8_t)name_size;
    memcpy(out + 1, name, name_size);
    memset(out + 1 + name_size, 0, 3);
    out[4 + name_size] = (uint8_t)value_size;
    memcpy(out + 5 + name_size, value, value_size);
    return 5 + name_size + value_size;
}

size_t zmtp_hello(uint8_t out[ZMTP_GREETING + ZMTP_MAX_COMMAND], const char *type, const char *identity)
{
    memset(out, 0, ZMTP_GREETING);
    out[0] = 0xff;
    out[9] = 0x7f;
    out[10] = 3; /* 3.0: subscriptions are messages, as every 3.x peer takes them */
    memcpy(out + 12, "NULL", 4);
    uint8_t *command = out + ZMTP_GREETING, *body = command + 2;
    size_t size = 6;
    memcpy(body, "\5READY", 6);
    size += put_property(body + size, "Socket-Type", type);
    size += put_property(body + size, "Identity", identity);
    command[0] = COMMAND;
    command[1] = (uint8_t)size;
    return ZMTP_GREETING + 2 + size;
}

static enum zmtp_event take_greeting(const uint8_t *g)
{
    static const uint8_t null[20] = "NULL";
    return g[0] == 0xff && (g[9] & 1) && g[10] >= 3 && memcmp(g + 12, null, sizeof null) == 0 ? ZMTP_NOTHING : ZMTP_BROKEN;
}

/* READY once; PING at any time after it; ERROR ends; the rest (SUBSCRIBE, of a peer of 3.1) is not for this end. */
static enum zmtp_event take_command(struct zmtp *z)
{
    const uint8_t *c = z->command;
    size_t size = z->command_size;
    z->command_size = 0;
    if (size == 0 || size - 1 < c[0] || (c[0] == 5 && memcmp(c + 1, "ERROR", 5) == 0))
        return ZMTP_BROKEN;
    if (!z->is_ready) {
        z->is_ready = c[0] == 5 && memcmp(c + 1, "READY", 5) == 0;
        return z->is_ready ? ZMTP_READY : ZMTP_BROKEN;
    }
    if (c[0] != 4 || memcmp(c + 1, "PING", 4) != 0)
        return ZMTP_NOTHING;
    if (size < 7 || size - 7 > MAX_CONTEXT)
        return ZMTP_BROKEN;
    z->answer[0] = COMMAND;
    z->answer[1] = (uint8_t)(size - 2);
    memcpy(z->answer + 2, "\4PONG", 5);
    memcpy(z->answer + 7, c + 7, size - 7);
    z->answer_size = size;
    return ZMTP_ANSWER;
}

static enum zmtp_event end_frame(struct zmtp *z)
{
    struct zmtp_message *m = &z->message;
    z->state = IN_HEADER;
    z->held = 0;
    if (z->flags & COMMAND)
        return take_command(z);
    if (!m->too_large)
        m->ends[m->frames++] = m->size;
    z->message_done = !(z->flags & MORE);
    return z->message_done ? ZMTP_MESSAGE : ZMTP_NOTHING;
}

static enum zmtp_event take_header(struct zmtp *z)
{
    struct zmtp_message *m = &z->message;
    z->flags = z->head[0];
    if (z->flags & ~(MORE | LONG | COMMAND) || (z->flags & COMMAND && z->flags & MORE))
        return ZMTP_BROKEN;
    z->left = z->head[1];
    for (int i = 2; z->flags & LONG && i < ZMTP_FRAME_HEADER; i++)
        z->left = z->left << 8 | z->head[i];
    if (z->left >> 63)
        return ZMTP_BROKEN;
    z->state = IN_FRAME;
    if (z->flags & COMMAND) {
        if (z->left > ZMTP_MAX_COMMAND)
            return ZMTP_BROKEN;
    } else {
        if (!z->is_ready)
            return ZMTP_BROKEN;
        m->total = z->left > UINT64_MAX - m->total ? UINT64_MAX : m->total + z->left;
        if (m->frames == ZMTP_MAX_FRAMES || z->left > ZMTP_MAX_MESSAGE - m->size)
            m->too_large = true;
    }
    return z->left == 0 ? end_frame(z) : ZMTP_NOTHING;
}

/* Bytes of a message; without memory for them it is one that is too large. */
static void keep(struct zmtp_message *m, const uint8_t *data, size_t size)
{
    if (m->too_large)
        return;
    if (size > m->room - m->size) {
        size_t room = m->room ? m->room : FIRST_ROOM;
        while (room - m->size < size)
            room *= 2;
        uint8_t *bytes = realloc(m->bytes, room);
        if (!bytes) {
            m->too_large = true;
            return;
        }
        m->bytes = bytes;
        m->room = room;
    }
    memcpy(m->bytes + m->size, data, size);
    m->size += size;
}

static size_t take_frame(struct zmtp *z, const uint8_t *data, size_t size)
{
    size_t part = z->left < size ? (size_t)z->left : size;
    if (z->flags & COMMAND) {
        memcpy(z->command + z->command_size, data, part);
        z->command_size += part;
    } else {
        keep(&z->message, data, part);
    }
    z->left -= part;
    return part;
}

/* Fills `head` up to `wanted` bytes. */
static size_t take_head(struct zmtp *z, const uint8_t *data, size_t size, size_t wanted)
{
    size_t part = wanted - z->held < size ? wanted - z->held : size;
    memcpy(z->head + z->held, data, part);
    z->held += part;
    return part;
}

size_t zmtp_take(struct zmtp *z, const uint8_t *data, size_t size, enum zmtp_event *event)
{
    size_t at = 0;
    if (z->message_done)
        forget_message(z);
    *event = ZMTP_NOTHING;
    while (at < size && *event == ZMTP_NOTHING) {
        if (z->state == IN_FRAME) {
            at += take_frame(z, data + at, size - at);
            if (z->left == 0)
                *event = end_frame(z);
            continue;
        }
        size_t wanted = z->state == IN_GREETING ? ZMTP_GREETING : z->held && z->head[0] & LONG ? 9 : 2;
        at += take_head(z, data + at, size - at, wanted);
        if (z->held < wanted || (z->state == IN_HEADER && z->held == 2 && z->head[0] & LONG))
            continue;
        if (z->state == IN_HEADER) {
            *event = take_header(z);
        } else {
            *event = take_greeting(z->head);
            z->state = IN_HEADER;
            z->held = 0;
        }
    }
    return at;
}
