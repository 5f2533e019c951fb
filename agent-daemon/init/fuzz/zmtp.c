/* What a kernel sends, in any pieces, and what a client's record is: no byte beyond what there is, and nothing forged passes. */
#include "jupyter.h"

#include <stdlib.h>
#include <string.h>

static const uint8_t key[JUPYTER_KEY_BYTES] = "0123456789abcdef0123456789abcde";
static uint8_t sink;

static void check(int condition)
{
    if (!condition)
        abort();
}

static void touch(const struct jupyter_message *m)
{
    for (uint32_t i = 0; i < m->count; i++)
        for (size_t b = 0; b < m->parts[i].size; b++)
            sink ^= ((const uint8_t *)m->parts[i].data)[b];
}

/* A record of the message is read back as the same message. */
static void check_record(const struct jupyter_message *m)
{
    static struct jupyter_message again;
    enum jupyter_channel channel = JUPYTER_IOPUB;
    size_t size = jupyter_record_size("shell", m);
    check(size > 0);
    uint8_t *record = malloc(size);
    size_t at = jupyter_record_head(record, "shell", m);
    for (uint32_t i = 0; i < m->count; i++) {
        if (m->parts[i].size)
            memcpy(record + at, m->parts[i].data, m->parts[i].size);
        at += m->parts[i].size;
    }
    check(at == size && jupyter_parse_record(record + 4, size - 4, &channel, &again));
    check(channel == JUPYTER_SHELL && again.count == m->count);
    free(record);
}

static void take_message(const struct zmtp_message *z)
{
    static struct jupyter_message m;
    char type[JUPYTER_MAX_TYPE + 1];
    check(z->frames <= ZMTP_MAX_FRAMES && z->size <= ZMTP_MAX_MESSAGE);
    jupyter_type_of_frames(z, type);
    check(strlen(type) <= JUPYTER_MAX_TYPE);
    if (jupyter_read(z, key, &m) == JUPYTER_GOOD) {
        touch(&m);
        check_record(&m);
    }
}

static void check_records(const uint8_t *data, size_t size)
{
    static struct jupyter_message m;
    enum jupyter_channel channel = JUPYTER_IOPUB;
    char type[JUPYTER_MAX_TYPE + 1];
    if (!jupyter_parse_record(data, size, &channel, &m))
        return;
    check(m.count >= 4 && channel <= JUPYTER_STDIN);
    touch(&m);
    jupyter_type(m.parts[PART_HEADER], type);
    check_record(&m);
}

/* As a kernel does it: all of the handshake, so that what the fuzzer made is frames of messages. */
static void shake_hands(struct zmtp *z)
{
    uint8_t hello[ZMTP_GREETING + ZMTP_MAX_COMMAND];
    size_t size = zmtp_hello(hello, "ROUTER", "");
    enum zmtp_event event;
    for (size_t at = 0; at < size;)
        at += zmtp_take(z, hello + at, size - at, &event);
    check(event == ZMTP_READY);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct zmtp z;
    enum zmtp_event event = ZMTP_NOTHING;
    if (size < 2)
        return 0;
    uint8_t *bytes = malloc(size - 2);
    size_t piece = data[0] + 1u, length = size - 2;
    memcpy(bytes, data + 2, length);
    zmtp_reset(&z);
    if (data[1] % 4)
        shake_hands(&z);
    for (size_t at = 0; at < length && event != ZMTP_BROKEN;) {
        size_t part = length - at < piece ? length - at : piece, taken = zmtp_take(&z, bytes + at, part, &event);
        check(taken <= part && (taken == part || event != ZMTP_NOTHING) && taken > 0);
        at += taken;
        if (event == ZMTP_MESSAGE)
            take_message(&z.message);
        if (event == ZMTP_ANSWER)
            check(z.answer_size <= sizeof z.answer);
    }
    zmtp_free(&z);
    check_records(bytes, length);
    free(bytes);
    return 0;
}
