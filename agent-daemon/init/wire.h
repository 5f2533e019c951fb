/*
 * The byte layout that causeway-init and the agent share (SPEC.md, "Frames"). Pure: no system call, no state, so that
 * the parser can be fuzzed by itself. A payload that is not exactly of its type's shape is malformed, never repaired.
 */
#ifndef CAUSEWAY_WIRE_H
#define CAUSEWAY_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PROTOCOL_VERSION = 1,
    HEADER_BYTES = 12,
    MAX_PAYLOAD = 256 * 1024,
    MAX_DATA = 64 * 1024, /* bytes of one STDIN or OUTPUT */
    ID_BYTES = 30,        /* prc_ and 26 characters of Crockford base32 */
    NONCE_BYTES = 32,
    MAX_STRINGS = 4096, /* of argv, and of the environment */
    MAX_CWD = 4095,
    MAX_GROUPS = 32,
    MAX_RLIMITS = 16,
    MAX_BLOCK_MS = 24 * 3600 * 1000,
    MAX_DRAIN_MS = 600 * 1000,
    MAX_GRACE_MS = 3600 * 1000,
    MAX_SIGNAL = 64,
};

enum frame_type {
    /* handshake */
    FRAME_HELLO = 1,
    FRAME_KEY = 2,
    FRAME_CHALLENGE = 3,
    FRAME_PROOF = 4,
    FRAME_WELCOME = 5,
    /* agent to init */
    FRAME_SPAWN = 16,
    FRAME_STDIN = 17,
    FRAME_STDIN_CLOSE = 18,
    FRAME_RESIZE = 19,
    FRAME_SIGNAL = 20,
    FRAME_ACK = 21,
    FRAME_RESUME = 22,
    FRAME_RELEASE = 23,
    FRAME_LEASE = 24,
    FRAME_TERMINATE = 25,
    FRAME_SHUTDOWN = 26,
    FRAME_PING = 27,
    /* init to agent */
    FRAME_STATE = 32,
    FRAME_READY = 33,
    FRAME_SPAWNED = 34,
    FRAME_STDIN_ACK = 35,
    FRAME_OUTPUT = 36,
    FRAME_GAP = 37,
    FRAME_EXIT = 38,
    FRAME_LEASE_EXPIRED = 39,
    FRAME_PONG = 40,
    FRAME_DONE = 41,
    FRAME_REFUSED = 42,
};

enum spawn_flag { SPAWN_TTY = 1, SPAWN_STDIN = 2, SPAWN_USER = 4, SPAWN_DROP = 8 };
enum signal_scope { SCOPE_PROCESS = 0, SCOPE_GROUP = 1, SCOPE_SESSION = 2 };
enum shutdown_mode { SHUTDOWN_DRAINED = 0, SHUTDOWN_NOW = 1 };
enum exit_kind { EXIT_NONE = 0, EXIT_CODE = 1, EXIT_SIGNAL = 2, EXIT_FAILED = 3 };
enum state_flag { STATE_TTY = 1, STATE_STDIN = 2, STATE_EXITED = 4, STATE_FINAL = 8, STATE_STARTED = 16 };
enum ready_flag { READY_LEASE_EXPIRED = 1, READY_TERMINATING = 2 };
enum stdin_flag { STDIN_ROOM = 1, STDIN_CLOSED = 2 };
enum refusal {
    REFUSED_LIMIT = 1,         /* more processes than this init keeps */
    REFUSED_RESOURCES = 2,     /* the kernel gave no pipe, terminal or process */
    REFUSED_LEASE = 3,         /* the lease has expired */
    REFUSED_TERMINATING = 4,   /* everything is being ended */
    REFUSED_UNKNOWN = 5,       /* no process of that id */
    REFUSED_STATE = 6,         /* the process is not in a state for that */
};

struct header {
    uint32_t length;
    uint32_t seq;
    uint8_t type;
};

/* Reads a header. False when reserved bytes are not zero or the payload would be longer than MAX_PAYLOAD. */
bool parse_header(const uint8_t bytes[HEADER_BYTES], struct header *out);
void put_header(uint8_t bytes[HEADER_BYTES], uint8_t type, uint32_t seq, uint32_t length);

struct rlimit_spec {
    uint8_t resource;
    uint64_t soft, hard;
};

/* A list of `count` NUL-free strings as they lie in the frame: {u32 size, bytes} each. */
struct strings {
    const uint8_t *at;
    uint32_t count;
    size_t bytes; /* of all strings, each with one NUL */
};

struct spawn_command {
    uint8_t flags;
    uint32_t block_ms, drain_ms;
    uint16_t rows, cols;
    uint32_t uid, gid;
    uint8_t group_count, rlimit_count;
    uint32_t groups[MAX_GROUPS];
    struct rlimit_spec rlimits[MAX_RLIMITS];
    const uint8_t *cwd;
    uint16_t cwd_bytes;
    struct strings argv, env;
};

/* One frame of the agent, checked. Pointers lie within the payload that was parsed. */
struct command {
    uint8_t type;
    uint32_t seq;
    char id[ID_BYTES + 1];
    uint8_t stream, signal, scope, mode;
    uint16_t rows, cols;
    uint32_t grace_ms;
    uint64_t offset, deadline_ms;
    const uint8_t *data;
    size_t size;
    const uint8_t *nonce, *secret; /* KEY: the key; CHALLENGE: the agent's proof */
    struct spawn_command spawn;
};

/* Parses a frame from the agent. False when it is malformed. */
bool parse_command(const struct header *header, const uint8_t *payload, struct command *out);

/* Copies the strings one behind the other into `text` (strings->bytes large) and their addresses, then NULL, to `list`. */
void copy_strings(const struct strings *strings, char *text, char **list);

/* Writers: each returns the place behind what it wrote. */
uint8_t *put_u8(uint8_t *at, uint8_t value);
uint8_t *put_u16(uint8_t *at, uint16_t value);
uint8_t *put_u32(uint8_t *at, uint32_t value);
uint8_t *put_u64(uint8_t *at, uint64_t value);
uint8_t *put_bytes(uint8_t *at, const void *data, size_t size);

#endif
