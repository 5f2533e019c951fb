#include "sftp-wire.h"

#include <string.h>

enum { FIRST_EXTENSION = SFTP_POSIX_RENAME, HANDLE_BYTES = 8 };

const struct sftp_extension sftp_extensions[] = {
    {"posix-rename@openssh.com", "1"}, {"hardlink@openssh.com", "1"}, {"statvfs@openssh.com", "2"},
    {"fstatvfs@openssh.com", "2"},     {"fsync@openssh.com", "1"},    {"lsetstat@openssh.com", "1"},
    {"limits@openssh.com", "1"},       {"expand-path@openssh.com", "1"},
};
const size_t sftp_extension_count = sizeof sftp_extensions / sizeof sftp_extensions[0];

/*
 * What a request has behind its id, in order: h handle, p path, q another path, o offset, l length, d data, f flags,
 * a attributes.
 */
static const struct {
    uint16_t type;
    const char *shape;
} shapes[] = {
    {SFTP_OPEN, "pfa"},     {SFTP_CLOSE, "h"},         {SFTP_READ, "hol"},     {SFTP_WRITE, "hod"},
    {SFTP_LSTAT, "p"},      {SFTP_FSTAT, "h"},         {SFTP_SETSTAT, "pa"},   {SFTP_FSETSTAT, "ha"},
    {SFTP_OPENDIR, "p"},    {SFTP_READDIR, "h"},       {SFTP_REMOVE, "p"},     {SFTP_MKDIR, "pa"},
    {SFTP_RMDIR, "p"},      {SFTP_REALPATH, "p"},      {SFTP_STAT, "p"},       {SFTP_RENAME, "pq"},
    {SFTP_READLINK, "p"},   {SFTP_SYMLINK, "pq"},      {SFTP_HARDLINK, "pq"},  {SFTP_POSIX_RENAME, "pq"},
    {SFTP_STATVFS, "p"},    {SFTP_FSTATVFS, "h"},      {SFTP_FSYNC, "h"},      {SFTP_LSETSTAT, "pa"},
    {SFTP_LIMITS, ""},      {SFTP_EXPAND_PATH, "p"},
};

/* A reader that remembers whether it ever ran short; after that it yields zeros. */
struct reader {
    const uint8_t *at;
    size_t left;
    bool ok;
};

static const uint8_t *take(struct reader *r, size_t size)
{
    if (!r->ok || r->left < size) {
        r->ok = false;
        return NULL;
    }
    const uint8_t *at = r->at;
    r->at += size;
    r->left -= size;
    return at;
}

static uint64_t take_number(struct reader *r, size_t size)
{
    const uint8_t *at = take(r, size);
    uint64_t value = 0;
    for (size_t i = 0; at && i < size; i++)
        value = value << 8 | at[i];
    return value;
}

static uint32_t take_u32(struct reader *r) { return (uint32_t)take_number(r, 4); }
static uint64_t take_u64(struct reader *r) { return take_number(r, 8); }

static const uint8_t *take_string(struct reader *r, uint32_t *size)
{
    *size = take_u32(r);
    return take(r, *size);
}

static void take_path(struct reader *r, char path[PATH_MAX])
{
    uint32_t size;
    const uint8_t *at = take_string(r, &size);
    if (!at || size >= PATH_MAX || memchr(at, 0, size)) {
        r->ok = false;
        return;
    }
    memcpy(path, at, size);
    path[size] = 0;
}

static uint64_t take_handle(struct reader *r)
{
    uint32_t size;
    const uint8_t *at = take_string(r, &size);
    struct reader number = {at, size, true};
    return at && size == HANDLE_BYTES ? take_u64(&number) : UINT64_MAX;
}

static void take_attrs(struct reader *r, struct sftp_attrs *out)
{
    out->flags = take_u32(r);
    if (out->flags & SFTP_SIZE)
        out->size = take_u64(r);
    if (out->flags & SFTP_OWNER) {
        out->uid = take_u32(r);
        out->gid = take_u32(r);
    }
    if (out->flags & SFTP_MODE)
        out->mode = take_u32(r);
    if (out->flags & SFTP_TIMES) {
        out->atime = take_u32(r);
        out->mtime = take_u32(r);
    }
    uint32_t size;
    for (uint32_t pairs = out->flags & SFTP_MORE ? take_u32(r) : 0; r->ok && pairs > 0; pairs--) {
        take_string(r, &size);
        take_string(r, &size);
    }
}

static void take_part(struct reader *r, char what, struct sftp_request *out)
{
    switch (what) {
    case 'h':
        out->handle = take_handle(r);
        break;
    case 'p':
        take_path(r, out->path);
        break;
    case 'q':
        take_path(r, out->other);
        break;
    case 'o':
        out->offset = take_u64(r);
        break;
    case 'l':
        out->length = take_u32(r);
        break;
    case 'd':
        out->data = take_string(r, &out->length);
        break;
    case 'f':
        out->flags = take_u32(r);
        break;
    default:
        take_attrs(r, &out->attrs);
    }
}

static uint16_t take_extension(struct reader *r)
{
    uint32_t size;
    const uint8_t *name = take_string(r, &size);
    for (size_t i = 0; name && i < sftp_extension_count; i++)
        if (strlen(sftp_extensions[i].name) == size && memcmp(sftp_extensions[i].name, name, size) == 0)
            return (uint16_t)(FIRST_EXTENSION + i);
    return SFTP_EXTENDED;
}

enum sftp_verdict sftp_parse(const uint8_t *packet, size_t size, struct sftp_request *out)
{
    struct reader r = {packet, size, true};
    out->type = (uint8_t)take_number(&r, 1);
    out->id = take_u32(&r);
    if (!r.ok)
        return SFTP_UNREADABLE;
    out->handle = UINT64_MAX;
    out->offset = out->length = out->flags = 0;
    out->data = NULL;
    memset(&out->attrs, 0, sizeof out->attrs);
    out->path[0] = out->other[0] = 0;
    if (out->type == SFTP_INIT)
        return SFTP_PARSED;
    if (out->type == SFTP_EXTENDED)
        out->type = take_extension(&r);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        if (shapes[i].type != out->type)
            continue;
        for (const char *what = shapes[i].shape; *what; what++)
            take_part(&r, *what, out);
        return r.ok ? SFTP_PARSED : SFTP_MALFORMED;
    }
    return r.ok ? SFTP_UNKNOWN : SFTP_MALFORMED;
}

uint8_t *sftp_put_u32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> (24 - 8 * i));
    return at + 4;
}

uint8_t *sftp_put_u64(uint8_t *at, uint64_t value)
{
    return sftp_put_u32(sftp_put_u32(at, (uint32_t)(value >> 32)), (uint32_t)value);
}

uint8_t *sftp_put_string(uint8_t *at, const void *data, size_t size)
{
    at = sftp_put_u32(at, (uint32_t)size);
    memcpy(at, data, size);
    return at + size;
}

uint8_t *sftp_put_text(uint8_t *at, const char *text) { return sftp_put_string(at, text, strlen(text)); }

uint8_t *sftp_put_attrs(uint8_t *at, const struct sftp_attrs *attrs)
{
    at = sftp_put_u32(at, attrs->flags);
    if (attrs->flags & SFTP_SIZE)
        at = sftp_put_u64(at, attrs->size);
    if (attrs->flags & SFTP_OWNER)
        at = sftp_put_u32(sftp_put_u32(at, attrs->uid), attrs->gid);
    if (attrs->flags & SFTP_MODE)
        at = sftp_put_u32(at, attrs->mode);
    if (attrs->flags & SFTP_TIMES)
        at = sftp_put_u32(sftp_put_u32(at, attrs->atime), attrs->mtime);
    return at;
}
