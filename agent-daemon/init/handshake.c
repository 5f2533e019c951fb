#include "handshake.h"

#include "sha256.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

static bool has_key;
static uint8_t key[SHA256_BYTES], nonce[NONCE_BYTES];

/* HMAC over a label, which separates the uses of the key, and up to two nonces. */
static void prove(const char *label, const uint8_t *first, const uint8_t *second, uint8_t out[SHA256_BYTES])
{
    struct span spans[] = {{label, strlen(label)}, {first, NONCE_BYTES}, {second, NONCE_BYTES}};
    hmac_sha256(key, spans, second ? 3 : first ? 2 : 1, out);
}

bool handshake_has_key(void) { return has_key; }

bool handshake_hello(uint8_t payload[HELLO_BYTES])
{
    uint8_t tag[SHA256_BYTES] = {0};
    if (getrandom(nonce, sizeof nonce, 0) != sizeof nonce)
        return false;
    if (has_key)
        prove("causeway-init hello", nonce, NULL, tag);
    uint8_t *at = put_u8(put_u8(put_u16(payload, PROTOCOL_VERSION), has_key), 0);
    put_bytes(put_bytes(at, nonce, sizeof nonce), tag, sizeof tag);
    return true;
}

bool handshake_answer(const struct command *c, uint8_t proof[NONCE_BYTES])
{
    uint8_t expected[SHA256_BYTES];
    if (c->type == FRAME_KEY && !has_key) {
        memcpy(key, c->secret, sizeof key);
        has_key = true;
    } else if (c->type == FRAME_CHALLENGE && has_key) {
        prove("causeway-init agent", nonce, c->nonce, expected);
        if (!digest_equal(expected, c->secret))
            return false;
    } else {
        return false;
    }
    prove("causeway-init proof", c->nonce, nonce, proof);
    return true;
}

static void put_hex(char *text, const uint8_t *bytes, int count)
{
    for (int i = 0; i < count; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
}

void handshake_socket_name(char name[SOCKET_NAME_BYTES + 1])
{
    uint8_t digest[SHA256_BYTES];
    prove("causeway-init socket", NULL, NULL, digest);
    memcpy(name, "s-", 2);
    put_hex(name + 2, digest, (SOCKET_NAME_BYTES - 2) / 2);
}

void handshake_call(uint8_t call[CALL_BYTES])
{
    uint8_t digest[SHA256_BYTES];
    char text[CALL_BYTES];
    prove("causeway-init call", NULL, NULL, digest);
    put_hex(text, digest, (CALL_BYTES - 1) / 2);
    call[0] = 0xff;
    memcpy(call + 1, text, CALL_BYTES - 1);
}
