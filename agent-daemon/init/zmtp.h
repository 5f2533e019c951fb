/*
 * One end of a ZeroMQ connection: ZMTP 3.0 with the mechanism NULL (RFC 23), as libzmq and all that speak to it do. Pure: it
 * is given bytes, makes messages of them, and says what to send first. The other end is the tenant's, and may send anything.
 */
#ifndef CAUSEWAY_ZMTP_H
#define CAUSEWAY_ZMTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    ZMTP_GREETING = 64,
    ZMTP_MAX_COMMAND = 512,
    ZMTP_MAX_FRAMES = 1100,          /* of one message: what routes it, six, and buffers */
    ZMTP_FRAME_HEADER = 9,           /* at most */
    ZMTP_MAX_MESSAGE = 40 << 20,     /* kept of one message; of a larger one what came first */
    ZMTP_KEPT_MEMORY = 256 << 10,    /* between messages */
};

/* A message, or what is kept of one that was too large. */
struct zmtp_message {
    uint8_t *bytes;
    size_t size, room;
    size_t ends[ZMTP_MAX_FRAMES]; /* where each frame ends in `bytes` */
    uint32_t frames;
    uint64_t total; /* bytes of all its frames, also of those that are not kept */
    bool too_large;
};

enum zmtp_event {
    ZMTP_NOTHING, /* give it more */
    ZMTP_READY,   /* both ends have said who they are */
    ZMTP_MESSAGE, /* `message` is whole, until the next call */
    ZMTP_ANSWER,  /* send `answer` */
    ZMTP_BROKEN,  /* close the connection */
};

struct zmtp {
    enum { IN_GREETING, IN_HEADER, IN_FRAME } state;
    bool is_ready;
    uint8_t head[ZMTP_GREETING];
    size_t held; /* of a greeting or of a frame's header */
    uint8_t flags;
    uint64_t left; /* of the frame */
    uint8_t command[ZMTP_MAX_COMMAND];
    size_t command_size;
    uint8_t answer[2 + ZMTP_MAX_COMMAND];
    size_t answer_size;
    bool message_done;
    struct zmtp_message message;
};

/* A new connection: what was begun on the former is dropped. Memory is kept. */
void zmtp_reset(struct zmtp *z);
void zmtp_free(struct zmtp *z);

/* What this end says first: greeting and READY of a socket of `type` (DEALER, SUB) under `identity`. Returns the size. */
size_t zmtp_hello(uint8_t out[ZMTP_GREETING + ZMTP_MAX_COMMAND], const char *type, const char *identity);

/* Takes bytes up to the next event, and returns how many. Fewer than `size` only with an event. */
size_t zmtp_take(struct zmtp *z, const uint8_t *data, size_t size, enum zmtp_event *event);

/* The header of a frame; returns its size. */
size_t zmtp_frame_header(uint8_t out[ZMTP_FRAME_HEADER], uint64_t size, bool more);

#endif
