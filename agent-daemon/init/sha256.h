/* SHA-256 (FIPS 180-4) and HMAC-SHA-256 (RFC 2104): all the cryptography that causeway-init needs. */
#ifndef CAUSEWAY_SHA256_H
#define CAUSEWAY_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { SHA256_BYTES = 32 };

/* A piece of a message: HMACs here are taken over two or three fields, never over one copied buffer. */
struct span {
    const void *data;
    size_t size;
};

/* HMAC-SHA-256 of the concatenated spans under a 32-byte key. */
void hmac_sha256(const uint8_t key[SHA256_BYTES], const struct span *spans, size_t count, uint8_t out[SHA256_BYTES]);

/* Whether two digests are equal, in a time that does not depend on where they differ. */
int digest_equal(const uint8_t a[SHA256_BYTES], const uint8_t b[SHA256_BYTES]);

#endif
