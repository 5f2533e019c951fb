#define _GNU_SOURCE
#include "jupyter.h"

#include <string.h>

static const char delimiter[] = "<IDS|MSG>";
const char *const jupyter_channel_names[JUPYTER_CHANNELS] = {"shell", "control", "stdin", "iopub"};

/* The frame `i`, of those that are kept. */
static struct span frame_of(const struct zmtp_message *m, uint32_t i)
{
    size_t from = i ? m->ends[i - 1] : 0;
    /* Of a message without a byte there is no memory. */
    return (struct span){m->bytes ? m->bytes + from : (const void *)"", m->ends[i] - from};
}

static bool is_text(struct span s, const char *text) { return s.size == strlen(text) && memcmp(s.data, text, s.size) == 0; }

/* The first frame behind the delimiter; the number of frames when there is none. */
static uint32_t behind_delimiter(const struct zmtp_message *m)
{
    for (uint32_t i = 0; i < m->frames; i++)
        if (is_text(frame_of(m, i), delimiter))
            return i + 1;
    return m->frames;
}

static int hex_value(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool read_digest(struct span text, uint8_t out[SHA256_BYTES])
{
    const char *t = text.data;
    if (text.size != 2 * SHA256_BYTES)
        return false;
    for (int i = 0; i < SHA256_BYTES; i++) {
        int high = hex_value(t[2 * i]), low = hex_value(t[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

enum jupyter_verdict jupyter_read(const struct zmtp_message *m, const uint8_t key[JUPYTER_KEY_BYTES],
                                  struct jupyter_message *out)
{
    uint8_t told[SHA256_BYTES], right[SHA256_BYTES];
    uint32_t at = behind_delimiter(m);
    if (m->too_large)
        return JUPYTER_TOO_LARGE;
    if (m->frames - at < 5 || !read_digest(frame_of(m, at), told))
        return JUPYTER_FORGED;
    out->count = m->frames - at - 1;
    if (out->count > 4 + JUPYTER_MAX_BUFFERS)
        return JUPYTER_TOO_LARGE;
    for (uint32_t i = 0; i < out->count; i++)
        out->parts[i] = frame_of(m, at + 1 + i);
    hmac_sha256(key, out->parts, 4, right);
    return digest_equal(told, right) ? JUPYTER_GOOD : JUPYTER_FORGED;
}

void jupyter_sign(const struct jupyter_message *m, const uint8_t key[JUPYTER_KEY_BYTES], char out[2 * SHA256_BYTES])
{
    uint8_t digest[SHA256_BYTES];
    hmac_sha256(key, m->parts, 4, digest);
    for (int i = 0; i < SHA256_BYTES; i++) {
        out[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
}

/* ---- records ---- */

static uint8_t *put_u64(uint8_t *out, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        out[i] = (uint8_t)(value >> 8 * i);
    return out + 8;
}

static uint64_t get_u64(const uint8_t *in)
{
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--)
        value = value << 8 | in[i];
    return value;
}

/* Number of offsets: where each part begins, the channel's name among them, and where the last ends. */
static uint32_t offsets_of(const struct jupyter_message *m) { return m->count + 2; }

size_t jupyter_record_size(const char *channel, const struct jupyter_message *m)
{
    uint64_t size = 8 * (1 + (uint64_t)offsets_of(m)) + strlen(channel);
    for (uint32_t i = 0; i < m->count; i++)
        size += m->parts[i].size;
    return size > JUPYTER_MAX_MESSAGE ? 0 : (size_t)size + 4;
}

size_t jupyter_record_head(uint8_t *out, const char *channel, const struct jupyter_message *m)
{
    size_t size = jupyter_record_size(channel, m) - 4, name = strlen(channel);
    for (int i = 0; i < 4; i++)
        out[i] = (uint8_t)(size >> (24 - 8 * i));
    uint8_t *at = put_u64(out + 4, offsets_of(m));
    uint64_t offset = 8 * (1 + (uint64_t)offsets_of(m));
    at = put_u64(at, offset);
    at = put_u64(at, offset += name);
    for (uint32_t i = 0; i < m->count; i++)
        at = put_u64(at, offset += m->parts[i].size);
    memcpy(at, channel, name);
    return (size_t)(at - out) + name;
}

static bool find_channel(struct span name, enum jupyter_channel *out)
{
    for (int i = JUPYTER_SHELL; i <= JUPYTER_STDIN; i++)
        if (is_text(name, jupyter_channel_names[i])) {
            *out = (enum jupyter_channel)i;
            return true;
        }
    return false;
}

bool jupyter_parse_record(const uint8_t *bytes, size_t size, enum jupyter_channel *channel, struct jupyter_message *out)
{
    if (size < 8 || size > JUPYTER_MAX_MESSAGE)
        return false;
    uint64_t count = get_u64(bytes);
    if (count < 6 || count > JUPYTER_MAX_PARTS || size < 8 * (1 + count))
        return false;
    uint64_t from = get_u64(bytes + 8);
    if (from != 8 * (1 + count) || get_u64(bytes + 8 * count) != size)
        return false;
    out->count = 0;
    for (uint32_t i = 2; i <= count; i++) {
        uint64_t to = get_u64(bytes + 8 * i);
        if (to < from || to > size)
            return false;
        struct span part = {bytes + from, (size_t)(to - from)};
        if (i > 2)
            out->parts[out->count++] = part;
        else if (!find_channel(part, channel))
            return false;
        from = to;
    }
    return true;
}

/* ---- headers ---- */

bool span_has(struct span in, const char *text)
{
    return in.size > 0 && memmem(in.data, in.size, text, strlen(text)) != NULL;
}

/*
 * Inside of a string of JSON a quote has a backslash before it, so `"msg_type"` is a key or a whole string; as a string it has
 * no colon behind it.
 */
void jupyter_type(struct span header, char out[JUPYTER_MAX_TYPE + 1])
{
    static const char key[] = "\"msg_type\"";
    const char *at = header.size ? memmem(header.data, header.size, key, sizeof key - 1) : NULL;
    size_t size = 0;
    out[0] = 0;
    if (!at)
        return;
    const char *end = (const char *)header.data + header.size;
    for (at += sizeof key - 1; at < end && (*at == ' ' || *at == ':'); at++)
        ;
    if (at == end || *at++ != '"')
        return;
    for (; at < end && *at != '"'; at++) {
        bool is_plain = (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') || (*at >= '0' && *at <= '9') || *at == '_';
        if (!is_plain || size == JUPYTER_MAX_TYPE)
            break;
        out[size++] = *at;
    }
    out[size] = 0;
}

void jupyter_type_of_frames(const struct zmtp_message *m, char out[JUPYTER_MAX_TYPE + 1])
{
    uint32_t at = behind_delimiter(m);
    out[0] = 0;
    if (m->frames >= 2 && at <= m->frames - 2)
        jupyter_type(frame_of(m, at + 1), out);
}
