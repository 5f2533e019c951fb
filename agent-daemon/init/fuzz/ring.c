/* The ring against a model: the byte at each offset of a stream is known, so whatever is sent can be checked. */
#include "ring.h"

#include <stdlib.h>
#include <string.h>

enum { STREAMS = 3, POOL = 64 * 1024 };

static struct output outputs[STREAMS];
static uint64_t now;

static uint8_t byte_at(int stream, uint64_t offset) { return (uint8_t)((offset * 2654435761u >> 7) + (unsigned)stream); }

static void check(int condition)
{
    if (!condition)
        abort();
}

static void write_some(int i, size_t limit, uint32_t chunks, size_t share)
{
    struct iovec vectors[RING_VECTORS];
    struct output *o = &outputs[i];
    int count = output_prepare(o, vectors, limit, chunks, now);
    size_t room = 0, written = 0;
    for (int v = 0; v < count; v++)
        room += vectors[v].iov_len;
    check(room <= limit);
    size_t size = room * share / 255;
    for (int v = 0; v < count; v++)
        for (size_t b = 0; b < vectors[v].iov_len && written < size; b++, written++)
            ((uint8_t *)vectors[v].iov_base)[b] = byte_at(i, o->end + written);
    output_commit(o, size, now);
}

static void send_some(int i, size_t limit, size_t share)
{
    struct iovec vectors[RING_VECTORS];
    struct output *o = &outputs[i];
    int count;
    uint64_t time, at = o->sent;
    size_t size = output_gather(o, vectors, &count, limit, &time), seen = 0;
    check(size <= limit);
    check(size > 0 || o->sent >= o->end || o->sent < output_base(o) || limit == 0);
    for (int v = 0; v < count; v++)
        for (size_t b = 0; b < vectors[v].iov_len; b++, seen++)
            check(((uint8_t *)vectors[v].iov_base)[b] == byte_at(i, at + seen));
    check(seen == size && (size == 0 || time <= now));
    output_sent(o, share % 2 ? size : size / 2);
}

static void check_all(void)
{
    uint32_t held = 0;
    for (int i = 0; i < STREAMS; i++) {
        held += outputs[i].chunks;
        check(output_base(&outputs[i]) <= outputs[i].end && output_base(&outputs[i]) >= outputs[i].acked);
        check(outputs[i].sent <= outputs[i].end);
    }
    check(held + pool_free() == POOL / 256);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int made;
    check(made || pool_make(POOL));
    made = 1;
    for (; size >= 4; data += 4, size -= 4) {
        int i = data[0] % STREAMS;
        struct output *o = &outputs[i];
        uint64_t place = o->end * data[1] / 255;
        now += data[3] % 4 == 0;
        switch (data[0] / STREAMS % 7) {
        case 0:
        case 1:
            write_some(i, (size_t)data[1] * 40, data[2] % 64, data[3]);
            break;
        case 2:
        case 3:
            send_some(i, (size_t)data[1] * 300, data[2]);
            break;
        case 4:
            output_ack(o, data[2] % 3 ? place : o->sent);
            check(o->acked >= (data[2] % 3 ? place : 0));
            break;
        case 5:
            output_seek(o, place);
            break;
        default:
            if (o->first)
                output_drop_oldest(o);
            else if (data[2] % 2)
                output_discard(o, data[1]);
            if (o->sent < output_base(o))
                output_seek(o, output_base(o));
        }
        check_all();
    }
    for (int i = 0; i < STREAMS; i++) {
        output_free(&outputs[i]);
        memset(&outputs[i], 0, sizeof outputs[i]);
    }
    return 0;
}
