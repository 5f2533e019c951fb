/*
 * Messages of Jupyter in their two forms: as frames of ZeroMQ, signed, and as one record of the bridge's log, which is a
 * u32 (big endian) and a message in the framing of Jupyter's WebSocket (v1.kernel.websocket.jupyter.org). Pure.
 */
#ifndef CAUSEWAY_JUPYTER_H
#define CAUSEWAY_JUPYTER_H

#include "sha256.h"
#include "zmtp.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    JUPYTER_MAX_MESSAGE = 32 << 20, /* of a record, without its u32 */
    JUPYTER_MAX_BUFFERS = 1024,
    JUPYTER_MAX_PARTS = 6 + JUPYTER_MAX_BUFFERS,
    JUPYTER_MAX_TYPE = 64,
    JUPYTER_KEY_BYTES = SHA256_BYTES, /* as text, which is how kernels read it */
};

enum jupyter_channel { JUPYTER_SHELL, JUPYTER_CONTROL, JUPYTER_STDIN, JUPYTER_IOPUB, JUPYTER_CHANNELS };
extern const char *const jupyter_channel_names[JUPYTER_CHANNELS];

enum { PART_HEADER, PART_PARENT, PART_METADATA, PART_CONTENT, PART_BUFFERS };

/* The parts of a message: spans of whoever holds its bytes. */
struct jupyter_message {
    struct span parts[4 + JUPYTER_MAX_BUFFERS];
    uint32_t count;
};

enum jupyter_verdict { JUPYTER_GOOD, JUPYTER_FORGED, JUPYTER_TOO_LARGE };

/* What came from the kernel: frames before the delimiter route it, the signature must be of `key`. */
enum jupyter_verdict jupyter_read(const struct zmtp_message *m, const uint8_t key[JUPYTER_KEY_BYTES],
                                  struct jupyter_message *out);

/* Size of the record of a message with its u32; 0 when it is larger than one may be. */
size_t jupyter_record_size(const char *channel, const struct jupyter_message *m);
/* Writes all of a record but its parts, which follow: u32, number of offsets, offsets, name of the channel. */
size_t jupyter_record_head(uint8_t *out, const char *channel, const struct jupyter_message *m);
enum { JUPYTER_MAX_HEAD = 4 + 8 * (JUPYTER_MAX_PARTS + 2) + 16 };

/* What a client says: a record without its u32. False when it is no message for shell, control or stdin. */
bool jupyter_parse_record(const uint8_t *bytes, size_t size, enum jupyter_channel *channel, struct jupyter_message *out);

/* The signature, in hexadecimal. */
void jupyter_sign(const struct jupyter_message *m, const uint8_t key[JUPYTER_KEY_BYTES], char out[2 * SHA256_BYTES]);

/* The `msg_type` of a header as far as it is plain; empty when there is none. */
void jupyter_type(struct span header, char out[JUPYTER_MAX_TYPE + 1]);

/* The same of a message that is known in part only. */
void jupyter_type_of_frames(const struct zmtp_message *m, char out[JUPYTER_MAX_TYPE + 1]);

bool span_has(struct span in, const char *text);

#endif
