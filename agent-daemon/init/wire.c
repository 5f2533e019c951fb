#include "wire.h"

#include <string.h>

/* A reader that remembers whether it ever ran short; after that it yields zeros. */
struct reader {
    const uint8_t *at;
    size_t left;
    bool ok;
};

static const uint8_t *take(struct reader *r, size_t size)
{
    static const uint8_t zeros[NONCE_BYTES];
    if (!r->ok || r->left < size) {
        r->ok = false;
        return size <= sizeof zeros ? zeros : NULL;
    }
    const uint8_t *at = r->at;
    r->at += size;
    r->left -= size;
    return at;
}

static uint64_t take_number(struct reader *r, size_t size)
{
    const uint8_t *at = take(r, size);
    uint64_t value = 0;
    for (size_t i = size; i-- > 0;)
        value = value << 8 | at[i];
    return value;
}

static uint8_t take_u8(struct reader *r) { return (uint8_t)take_number(r, 1); }
static uint16_t take_u16(struct reader *r) { return (uint16_t)take_number(r, 2); }
static uint32_t take_u32(struct reader *r) { return (uint32_t)take_number(r, 4); }
static uint64_t take_u64(struct reader *r) { return take_number(r, 8); }

static void require(struct reader *r, bool condition)
{
    r->ok = r->ok && condition;
}

static void take_id(struct reader *r, char id[ID_BYTES + 1])
{
    static const char alphabet[] = "0123456789abcdefghjkmnpqrstvwxyz";
    const uint8_t *at = take(r, ID_BYTES);
    memcpy(id, at, ID_BYTES);
    id[ID_BYTES] = 0;
    require(r, memcmp(at, "prc_", 4) == 0);
    for (int i = 4; i < ID_BYTES; i++)
        require(r, at[i] && strchr(alphabet, at[i]));
}

static uint8_t take_stream(struct reader *r)
{
    uint8_t stream = take_u8(r);
    require(r, stream == 1 || stream == 2);
    return stream;
}

static void take_strings(struct reader *r, struct strings *out, bool is_env)
{
    out->count = take_u16(r);
    out->bytes = 0;
    require(r, out->count <= MAX_STRINGS);
    out->at = r->at;
    for (uint32_t i = 0; r->ok && i < out->count; i++) {
        uint32_t size = take_u32(r);
        const uint8_t *at = take(r, size);
        if (!r->ok)
            return;
        require(r, !memchr(at, 0, size));
        if (is_env) {
            const uint8_t *equals = memchr(at, '=', size);
            require(r, equals && equals > at);
        }
        out->bytes += size + 1;
    }
}

static void take_spawn(struct reader *r, struct spawn_command *s)
{
    s->flags = take_u8(r);
    require(r, !(s->flags & ~(SPAWN_TTY | SPAWN_STDIN | SPAWN_USER | SPAWN_DROP)));
    s->block_ms = take_u32(r);
    s->drain_ms = take_u32(r);
    require(r, s->block_ms <= MAX_BLOCK_MS && s->drain_ms <= MAX_DRAIN_MS);
    s->rows = take_u16(r);
    s->cols = take_u16(r);
    s->uid = take_u32(r);
    s->gid = take_u32(r);
    require(r, s->uid != UINT32_MAX && s->gid != UINT32_MAX);
    s->group_count = take_u8(r);
    require(r, s->group_count <= MAX_GROUPS);
    for (int i = 0; r->ok && i < s->group_count; i++)
        s->groups[i] = take_u32(r);
    s->rlimit_count = take_u8(r);
    require(r, s->rlimit_count <= MAX_RLIMITS);
    for (int i = 0; r->ok && i < s->rlimit_count; i++) {
        s->rlimits[i].resource = take_u8(r);
        s->rlimits[i].soft = take_u64(r);
        s->rlimits[i].hard = take_u64(r);
        require(r, s->rlimits[i].resource < 16 && s->rlimits[i].soft <= s->rlimits[i].hard);
    }
    s->cwd_bytes = take_u16(r);
    require(r, s->cwd_bytes <= MAX_CWD);
    s->cwd = take(r, s->cwd_bytes);
    require(r, r->ok && !memchr(s->cwd, 0, s->cwd_bytes));
    take_strings(r, &s->argv, false);
    require(r, s->argv.count > 0);
    take_strings(r, &s->env, true);
}

bool parse_header(const uint8_t bytes[HEADER_BYTES], struct header *out)
{
    struct reader r = {bytes, HEADER_BYTES, true};
    out->length = take_u32(&r);
    out->seq = take_u32(&r);
    out->type = take_u8(&r);
    return out->length <= MAX_PAYLOAD && take_number(&r, 3) == 0;
}

void put_header(uint8_t bytes[HEADER_BYTES], uint8_t type, uint32_t seq, uint32_t length)
{
    uint8_t *at = put_u32(put_u32(bytes, length), seq);
    put_u32(at, type);
}

bool parse_command(const struct header *header, const uint8_t *payload, struct command *c)
{
    struct reader r = {payload, header->length, true};
    c->type = header->type;
    c->seq = header->seq;
    if (c->type >= FRAME_SPAWN && c->type <= FRAME_RELEASE)
        take_id(&r, c->id);
    switch (c->type) {
    case FRAME_KEY:
    case FRAME_CHALLENGE:
        c->nonce = take(&r, NONCE_BYTES);
        c->secret = take(&r, NONCE_BYTES);
        break;
    case FRAME_SPAWN:
        take_spawn(&r, &c->spawn);
        break;
    case FRAME_STDIN:
        c->offset = take_u64(&r);
        c->size = r.left;
        require(&r, c->size > 0 && c->size <= MAX_DATA && c->offset <= UINT64_MAX - MAX_DATA);
        c->data = take(&r, c->size);
        break;
    case FRAME_STDIN_CLOSE:
        c->offset = take_u64(&r);
        break;
    case FRAME_RESIZE:
        c->rows = take_u16(&r);
        c->cols = take_u16(&r);
        break;
    case FRAME_SIGNAL:
        c->signal = take_u8(&r);
        c->scope = take_u8(&r);
        require(&r, c->signal >= 1 && c->signal <= MAX_SIGNAL && c->scope <= SCOPE_SESSION);
        break;
    case FRAME_ACK:
    case FRAME_RESUME:
        c->stream = take_stream(&r);
        c->offset = take_u64(&r);
        break;
    case FRAME_LEASE:
        c->deadline_ms = take_u64(&r);
        require(&r, c->deadline_ms > 0 && c->deadline_ms <= INT64_MAX);
        break;
    case FRAME_TERMINATE:
        c->grace_ms = take_u32(&r);
        require(&r, c->grace_ms <= MAX_GRACE_MS);
        break;
    case FRAME_SHUTDOWN:
        c->mode = take_u8(&r);
        require(&r, c->mode <= SHUTDOWN_NOW);
        break;
    case FRAME_WELCOME:
    case FRAME_RELEASE:
    case FRAME_PING:
        break;
    default:
        return false;
    }
    return r.ok && r.left == 0;
}

void copy_strings(const struct strings *strings, char *text, char **list)
{
    const uint8_t *at = strings->at;
    for (uint32_t i = 0; i < strings->count; i++) {
        struct reader r = {at, 4, true};
        uint32_t size = take_u32(&r);
        list[i] = text;
        memcpy(text, at + 4, size);
        text[size] = 0;
        text += size + 1;
        at += 4 + size;
    }
    list[strings->count] = NULL;
}

uint8_t *put_bytes(uint8_t *at, const void *data, size_t size)
{
    memcpy(at, data, size);
    return at + size;
}

static uint8_t *put_number(uint8_t *at, uint64_t value, size_t size)
{
    for (size_t i = 0; i < size; i++, value >>= 8)
        at[i] = (uint8_t)value;
    return at + size;
}

uint8_t *put_u8(uint8_t *at, uint8_t value) { return put_number(at, value, 1); }
uint8_t *put_u16(uint8_t *at, uint16_t value) { return put_number(at, value, 2); }
uint8_t *put_u32(uint8_t *at, uint32_t value) { return put_number(at, value, 4); }
uint8_t *put_u64(uint8_t *at, uint64_t value) { return put_number(at, value, 8); }
