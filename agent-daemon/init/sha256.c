#include "sha256.h"

#include "sha256-hardware.h"

#include <string.h>

enum { BLOCK_BYTES = 64 };

struct sha256 {
    uint32_t state[8];
    uint64_t total;
    uint8_t block[BLOCK_BYTES];
};

const uint32_t sha256_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate(uint32_t x, int n)
{
    return x >> n | x << (32 - n);
}

static void compress_block(uint32_t state[8], const uint8_t *block)
{
    uint32_t w[64], v[8];
    for (int i = 0; i < 16; i++) {
        const uint8_t *b = block + 4 * i;
        w[i] = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
    }
    for (int i = 16; i < 64; i++) {
        uint32_t s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    memcpy(v, state, sizeof v);
    for (int i = 0; i < 64; i++) {
        uint32_t e1 = rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25);
        uint32_t choice = (v[4] & v[5]) ^ (~v[4] & v[6]);
        uint32_t t1 = v[7] + e1 + choice + sha256_constants[i] + w[i];
        uint32_t a0 = rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22);
        uint32_t majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
        memmove(v + 1, v, 7 * sizeof v[0]);
        v[4] += t1;
        v[0] = t1 + a0 + majority;
    }
    for (int i = 0; i < 8; i++)
        state[i] += v[i];
}

static void compress(uint32_t state[8], const uint8_t *data, size_t blocks)
{
    if (sha256_hardware(state, data, blocks))
        return;
    for (; blocks > 0; blocks--, data += BLOCK_BYTES)
        compress_block(state, data);
}

static void begin(struct sha256 *s)
{
    static const uint32_t initial[8] = {
        0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
    };
    memcpy(s->state, initial, sizeof initial);
    s->total = 0;
}

static void update(struct sha256 *s, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    size_t held = s->total % BLOCK_BYTES, part = BLOCK_BYTES - held < size ? BLOCK_BYTES - held : size;
    s->total += size;
    if (held > 0 && part > 0) {
        memcpy(s->block + held, bytes, part);
        bytes += part;
        size -= part;
        if (held + part == BLOCK_BYTES)
            compress(s->state, s->block, 1);
        else
            return;
    }
    compress(s->state, bytes, size / BLOCK_BYTES);
    if (size % BLOCK_BYTES)
        memcpy(s->block, bytes + size - size % BLOCK_BYTES, size % BLOCK_BYTES);
}

static void finish(struct sha256 *s, uint8_t out[SHA256_BYTES])
{
    uint64_t bits = s->total * 8;
    uint8_t length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)(bits >> (56 - 8 * i));
    update(s, "\x80", 1);
    while (s->total % BLOCK_BYTES != BLOCK_BYTES - sizeof length)
        update(s, "", 1);
    update(s, length, sizeof length);
    for (int i = 0; i < SHA256_BYTES; i++)
        out[i] = (uint8_t)(s->state[i / 4] >> (24 - 8 * (i % 4)));
}

void hmac_sha256(const uint8_t key[SHA256_BYTES], const struct span *spans, size_t count, uint8_t out[SHA256_BYTES])
{
    uint8_t pad[BLOCK_BYTES];
    struct sha256 s;

    memset(pad, 0x36, sizeof pad);
    for (int i = 0; i < SHA256_BYTES; i++)
        pad[i] ^= key[i];
    begin(&s);
    update(&s, pad, sizeof pad);
    for (size_t i = 0; i < count; i++)
        update(&s, spans[i].data, spans[i].size);
    finish(&s, out);

    for (int i = 0; i < BLOCK_BYTES; i++)
        pad[i] ^= 0x36 ^ 0x5c;
    begin(&s);
    update(&s, pad, sizeof pad);
    update(&s, out, SHA256_BYTES);
    finish(&s, out);
}

int digest_equal(const uint8_t a[SHA256_BYTES], const uint8_t b[SHA256_BYTES])
{
    volatile uint8_t difference = 0;
    for (int i = 0; i < SHA256_BYTES; i++)
        difference |= a[i] ^ b[i];
    return difference == 0;
}
