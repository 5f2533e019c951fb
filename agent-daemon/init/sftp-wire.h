/*
 * Requests of the SSH File Transfer Protocol, version 3 (draft-ietf-secsh-filexfer-02), with OpenSSH's extensions. Pure:
 * no system call, no state, so that the parser can be fuzzed by itself.
 */
#ifndef CAUSEWAY_SFTP_WIRE_H
#define CAUSEWAY_SFTP_WIRE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SFTP_VERSION = 3,
    SFTP_MAX_PACKET = 256 * 1024, /* behind its length */
    SFTP_MAX_DATA = SFTP_MAX_PACKET - 1024, /* of one READ or WRITE */
};

/* Requests; those from 256 on are extensions, by their place in the table of `sftp-wire.c`. */
enum sftp_type {
    SFTP_INIT = 1,
    SFTP_OPEN = 3,
    SFTP_CLOSE = 4,
    SFTP_READ = 5,
    SFTP_WRITE = 6,
    SFTP_LSTAT = 7,
    SFTP_FSTAT = 8,
    SFTP_SETSTAT = 9,
    SFTP_FSETSTAT = 10,
    SFTP_OPENDIR = 11,
    SFTP_READDIR = 12,
    SFTP_REMOVE = 13,
    SFTP_MKDIR = 14,
    SFTP_RMDIR = 15,
    SFTP_REALPATH = 16,
    SFTP_STAT = 17,
    SFTP_RENAME = 18,
    SFTP_READLINK = 19,
    SFTP_SYMLINK = 20,
    SFTP_EXTENDED = 200,
    SFTP_POSIX_RENAME = 256,
    SFTP_HARDLINK,
    SFTP_STATVFS,
    SFTP_FSTATVFS,
    SFTP_FSYNC,
    SFTP_LSETSTAT,
    SFTP_LIMITS,
    SFTP_EXPAND_PATH,
};

enum sftp_answer {
    SFTP_IS_VERSION = 2,
    SFTP_IS_STATUS = 101,
    SFTP_IS_HANDLE = 102,
    SFTP_IS_DATA = 103,
    SFTP_IS_NAME = 104,
    SFTP_IS_ATTRS = 105,
    SFTP_IS_EXTENDED = 201,
};

enum sftp_status {
    SFTP_OK = 0,
    SFTP_EOF = 1,
    SFTP_NO_SUCH_FILE = 2,
    SFTP_PERMISSION_DENIED = 3,
    SFTP_FAILURE = 4,
    SFTP_BAD_MESSAGE = 5,
    SFTP_UNSUPPORTED = 8,
};

enum sftp_open_flag {
    SFTP_OPEN_READ = 1,
    SFTP_OPEN_WRITE = 2,
    SFTP_OPEN_APPEND = 4,
    SFTP_OPEN_CREATE = 8,
    SFTP_OPEN_TRUNCATE = 16,
    SFTP_OPEN_EXCLUSIVE = 32,
};

enum sftp_attr { SFTP_SIZE = 1, SFTP_OWNER = 2, SFTP_MODE = 4, SFTP_TIMES = 8, SFTP_MORE = 1u << 31 };

struct sftp_attrs {
    uint32_t flags; /* which of these are set: enum sftp_attr */
    uint64_t size;
    uint32_t uid, gid, mode, atime, mtime;
};

/* One request, checked. What its type does not have is zero; `data` lies within the packet. */
struct sftp_request {
    uint16_t type;
    uint32_t id; /* of INIT: the version */
    uint64_t handle; /* UINT64_MAX: none of ours */
    uint64_t offset;
    uint32_t length; /* READ: bytes wanted; WRITE: bytes of `data` */
    uint32_t flags;  /* OPEN: enum sftp_open_flag */
    const uint8_t *data;
    struct sftp_attrs attrs;
    char path[PATH_MAX], other[PATH_MAX]; /* `other`: where a rename or a link leads */
};

enum sftp_verdict {
    SFTP_PARSED,
    SFTP_MALFORMED,   /* answered with the id that it has */
    SFTP_UNKNOWN,     /* a type or an extension that is not served; likewise */
    SFTP_UNREADABLE,  /* nothing can be answered */
};

/* Parses a packet without its length. What stands behind a request is skipped, as OpenSSH does. */
enum sftp_verdict sftp_parse(const uint8_t *packet, size_t size, struct sftp_request *out);

/* Number of extensions, and the name of each with its version. */
extern const struct sftp_extension {
    const char *name, *version;
} sftp_extensions[];
extern const size_t sftp_extension_count;

/* Writers: each returns the place behind what it wrote. */
uint8_t *sftp_put_u32(uint8_t *at, uint32_t value);
uint8_t *sftp_put_u64(uint8_t *at, uint64_t value);
uint8_t *sftp_put_string(uint8_t *at, const void *data, size_t size);
uint8_t *sftp_put_text(uint8_t *at, const char *text);
uint8_t *sftp_put_attrs(uint8_t *at, const struct sftp_attrs *attrs);

#endif
