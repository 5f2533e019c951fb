/*
 * `causeway-init sftp DIRECTORY`: a file server for one client on stdin and stdout, with the rights of whoever runs it
 * (SPEC.md, "Tools"). One request after the other; answers are gathered while more requests are there already.
 */
#define _GNU_SOURCE
#include "sftp-files.h"
#include "sftp-wire.h"
#include "tools.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    LENGTH_BYTES = 4,
    IN_BYTES = LENGTH_BYTES + SFTP_MAX_PACKET,
    OUT_BYTES = 2 * (LENGTH_BYTES + SFTP_MAX_PACKET),
    MAX_HANDLES = 256,
    NAMES_AT_ONCE = 100,
    BROKEN = 1, /* exit status */
};

struct handle {
    int fd; /* -1: free */
    DIR *directory;
    uint32_t number; /* makes a handle that was closed another one */
    bool appends;
};

static struct handle handles[MAX_HANDLES];
static struct sftp_request request;
static uint8_t *in, *out;
static size_t in_start, in_end, out_end;

/* ---- answers ---- */

static bool flush(void)
{
    for (size_t at = 0; at < out_end;) {
        ssize_t size = write(STDOUT_FILENO, out + at, out_end - at);
        if (size < 0 && errno != EINTR)
            return false;
        at += size > 0 ? (size_t)size : 0;
    }
    out_end = 0;
    return true;
}

/* Begins an answer to the request; `finish` is given the place behind it. There is room for the longest one. */
static uint8_t *begin(enum sftp_answer type)
{
    uint8_t *at = out + out_end + LENGTH_BYTES;
    *at++ = (uint8_t)type;
    return sftp_put_u32(at, request.id);
}

static void finish(const uint8_t *behind)
{
    uint8_t *at = out + out_end;
    sftp_put_u32(at, (uint32_t)(behind - at - LENGTH_BYTES));
    out_end = (size_t)(behind - out);
}

static void answer_status(enum sftp_status status, const char *text)
{
    finish(sftp_put_text(sftp_put_text(sftp_put_u32(begin(SFTP_IS_STATUS), status), text), ""));
}

static void answer_error(int error) { answer_status(sftp_status_of(error), error ? strerror(error) : "Success"); }

static void answer_result(int result) { answer_error(result < 0 ? errno : 0); }

static void answer_attrs(int result, const struct stat *about)
{
    struct sftp_attrs attrs;
    if (result < 0) {
        answer_error(errno);
        return;
    }
    attrs = sftp_attrs_of(about);
    finish(sftp_put_attrs(begin(SFTP_IS_ATTRS), &attrs));
}

static void answer_name(int error, const char *name)
{
    static const struct sftp_attrs none;
    if (error)
        answer_error(error);
    else
        finish(sftp_put_attrs(sftp_put_text(sftp_put_text(sftp_put_u32(begin(SFTP_IS_NAME), 1), name), name), &none));
}

static void answer_statvfs(int result, const struct statvfs *about)
{
    if (result < 0)
        answer_error(errno);
    else
        finish(sftp_put_statvfs(begin(SFTP_IS_EXTENDED), about));
}

/* ---- handles ---- */

static void answer_handle(int fd, DIR *directory, bool appends)
{
    for (uint32_t i = 0; i < MAX_HANDLES; i++) {
        struct handle *h = &handles[i];
        if (h->fd >= 0)
            continue;
        *h = (struct handle){.fd = fd, .directory = directory, .number = h->number + 1, .appends = appends};
        uint8_t id[8];
        sftp_put_u32(sftp_put_u32(id, h->number), i);
        finish(sftp_put_string(begin(SFTP_IS_HANDLE), id, sizeof id));
        return;
    }
    if (directory)
        closedir(directory);
    else
        close(fd);
    answer_error(EMFILE);
}

/* What the request names, or NULL when it is no open handle. */
static struct handle *find(void)
{
    uint64_t index = request.handle & UINT32_MAX;
    struct handle *h = index < MAX_HANDLES ? &handles[index] : NULL;
    return h && h->fd >= 0 && h->number == request.handle >> 32 ? h : NULL;
}

static void close_handle(struct handle *h)
{
    int result = h->directory ? closedir(h->directory) : close(h->fd);
    h->fd = -1;
    answer_result(result);
}

static void open_file(void)
{
    mode_t mode = request.attrs.flags & SFTP_MODE ? request.attrs.mode & 07777 : 0666;
    int fd = open(request.path, sftp_open_flags(request.flags), mode);
    if (fd < 0)
        answer_error(errno);
    else
        answer_handle(fd, NULL, request.flags & SFTP_OPEN_APPEND);
}

static void open_directory(void)
{
    DIR *directory = opendir(request.path);
    if (directory)
        answer_handle(dirfd(directory), directory, false);
    else
        answer_error(errno);
}

static void read_file(const struct handle *h)
{
    size_t wanted = request.length < SFTP_MAX_DATA ? request.length : SFTP_MAX_DATA;
    uint8_t *at = begin(SFTP_IS_DATA);
    ssize_t size = request.offset > INT64_MAX ? 0 : pread(h->fd, at + LENGTH_BYTES, wanted, (off_t)request.offset);
    if (size < 0) {
        answer_error(errno);
    } else if (size == 0) {
        answer_status(SFTP_EOF, "End of file");
    } else {
        sftp_put_u32(at, (uint32_t)size);
        finish(at + LENGTH_BYTES + size);
    }
}

static void write_file(const struct handle *h)
{
    uint32_t done = 0;
    while (done < request.length) {
        uint64_t place = request.offset + done;
        ssize_t size = h->appends          ? write(h->fd, request.data + done, request.length - done)
                       : place > INT64_MAX ? (errno = EFBIG, -1)
                                           : pwrite(h->fd, request.data + done, request.length - done, (off_t)place);
        if (size < 0 && errno == EINTR)
            continue;
        if (size <= 0) {
            answer_error(size < 0 ? errno : EIO);
            return;
        }
        done += (uint32_t)size;
    }
    answer_error(0);
}

static void read_directory(const struct handle *h)
{
    uint8_t *begun = begin(SFTP_IS_NAME), *at = begun + LENGTH_BYTES;
    uint32_t count = 0;
    struct dirent *entry;
    errno = 0;
    while (count < NAMES_AT_ONCE && (entry = readdir(h->directory))) {
        char line[SFTP_LONG_NAME];
        struct stat about;
        if (fstatat(h->fd, entry->d_name, &about, AT_SYMLINK_NOFOLLOW) < 0)
            continue; /* it went meanwhile */
        struct sftp_attrs attrs = sftp_attrs_of(&about);
        sftp_long_name(line, entry->d_name, &about);
        at = sftp_put_attrs(sftp_put_text(sftp_put_text(at, entry->d_name), line), &attrs);
        count++;
        errno = 0;
    }
    if (count > 0) {
        sftp_put_u32(begun, count);
        finish(at);
    } else if (errno && errno != ENOENT) {
        answer_error(errno);
    } else {
        answer_status(SFTP_EOF, "End of file");
    }
}

/* ---- requests ---- */

static void answer_version(void)
{
    uint8_t *at = begin(SFTP_IS_VERSION) - LENGTH_BYTES; /* it has no id */
    at = sftp_put_u32(at, SFTP_VERSION);
    for (size_t i = 0; i < sftp_extension_count; i++)
        at = sftp_put_text(sftp_put_text(at, sftp_extensions[i].name), sftp_extensions[i].version);
    finish(at);
}

static void answer_limits(void)
{
    uint8_t *at = begin(SFTP_IS_EXTENDED);
    at = sftp_put_u64(sftp_put_u64(at, SFTP_MAX_PACKET), SFTP_MAX_DATA);
    finish(sftp_put_u64(sftp_put_u64(at, SFTP_MAX_DATA), MAX_HANDLES));
}

static void serve_handle(void)
{
    struct handle *h = find();
    struct stat about;
    struct statvfs room;
    if (!h || (h->directory ? request.type == SFTP_READ || request.type == SFTP_WRITE : request.type == SFTP_READDIR)) {
        answer_status(SFTP_FAILURE, "No such handle");
        return;
    }
    switch (request.type) {
    case SFTP_CLOSE:
        close_handle(h);
        break;
    case SFTP_READ:
        read_file(h);
        break;
    case SFTP_WRITE:
        write_file(h);
        break;
    case SFTP_READDIR:
        read_directory(h);
        break;
    case SFTP_FSTAT:
        answer_attrs(fstat(h->fd, &about), &about);
        break;
    case SFTP_FSETSTAT:
        answer_error(sftp_set_attrs(h->fd, NULL, &request.attrs, true));
        break;
    case SFTP_FSTATVFS:
        answer_statvfs(fstatvfs(h->fd, &room), &room);
        break;
    default:
        answer_result(fsync(h->fd));
    }
}

static void serve_path(void)
{
    const char *path = *request.path ? request.path : ".";
    char found[PATH_MAX];
    struct stat about;
    struct statvfs room;
    ssize_t size;
    switch (request.type) {
    case SFTP_OPEN:
        open_file();
        break;
    case SFTP_OPENDIR:
        open_directory();
        break;
    case SFTP_STAT:
        answer_attrs(stat(path, &about), &about);
        break;
    case SFTP_LSTAT:
        answer_attrs(lstat(path, &about), &about);
        break;
    case SFTP_SETSTAT:
    case SFTP_LSETSTAT:
        answer_error(sftp_set_attrs(-1, path, &request.attrs, request.type == SFTP_SETSTAT));
        break;
    case SFTP_REMOVE:
        answer_result(unlink(path));
        break;
    case SFTP_MKDIR:
        answer_result(mkdir(path, request.attrs.flags & SFTP_MODE ? request.attrs.mode & 07777 : 0777));
        break;
    case SFTP_RMDIR:
        answer_result(rmdir(path));
        break;
    case SFTP_REALPATH:
        answer_name(sftp_real_path(path, found), found);
        break;
    case SFTP_EXPAND_PATH:
        answer_name(sftp_expand_path(path, found), found);
        break;
    case SFTP_READLINK:
        size = readlink(path, found, sizeof found - 1);
        found[size < 0 ? 0 : size] = 0;
        answer_name(size < 0 ? errno : 0, found);
        break;
    case SFTP_STATVFS:
        answer_statvfs(statvfs(path, &room), &room);
        break;
    case SFTP_RENAME:
        answer_error(sftp_rename_new(path, request.other));
        break;
    case SFTP_POSIX_RENAME:
        answer_result(rename(path, request.other));
        break;
    case SFTP_HARDLINK:
        answer_result(link(path, request.other));
        break;
    default:
        /* What it leads to comes first: OpenSSH's order, which all clients have, and not the draft's. */
        answer_result(symlink(path, request.other));
    }
}

static void serve(enum sftp_verdict verdict)
{
    if (verdict == SFTP_MALFORMED)
        answer_status(SFTP_BAD_MESSAGE, "Bad message");
    else if (verdict == SFTP_UNKNOWN)
        answer_status(SFTP_UNSUPPORTED, "Not served here");
    else if (request.type == SFTP_LIMITS)
        answer_limits();
    else if (request.type == SFTP_CLOSE || request.type == SFTP_READ || request.type == SFTP_WRITE ||
             request.type == SFTP_READDIR || request.type == SFTP_FSTAT || request.type == SFTP_FSETSTAT ||
             request.type == SFTP_FSTATVFS || request.type == SFTP_FSYNC)
        serve_handle();
    else
        serve_path();
}

/* ---- packets ---- */

/* The next whole packet, or NULL when more has to be read. */
static const uint8_t *next(uint32_t *size)
{
    const uint8_t *at = in + in_start;
    if (in_end - in_start < LENGTH_BYTES)
        return NULL;
    *size = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
    if (*size <= SFTP_MAX_PACKET && in_end - in_start < LENGTH_BYTES + *size)
        return NULL;
    in_start += LENGTH_BYTES + *size;
    return at + LENGTH_BYTES;
}

/* Reads more. False at the end, with errno when that is a failure. */
static bool fill(void)
{
    ssize_t size;
    memmove(in, in + in_start, in_end - in_start);
    in_end -= in_start;
    in_start = 0;
    do {
        size = read(STDIN_FILENO, in + in_end, IN_BYTES - in_end);
    } while (size < 0 && errno == EINTR);
    errno = size == 0 ? 0 : errno;
    in_end += size > 0 ? (size_t)size : 0;
    return size > 0;
}

static int broken(const char *what)
{
    fprintf(stderr, "causeway: sftp: %s\n", what);
    return BROKEN;
}

int sftp_main(int argc, char **argv)
{
    bool greeted = false;
    const uint8_t *packet;
    uint32_t size;
    in = malloc(IN_BYTES);
    out = malloc(OUT_BYTES);
    if (!in || !out)
        return broken("no memory");
    if (argc < 2 || chdir(argv[1]) < 0)
        return broken(argc < 2 ? "no directory was named" : strerror(errno));
    for (int i = 0; i < MAX_HANDLES; i++)
        handles[i].fd = -1;
    for (;;) {
        while ((packet = next(&size))) {
            if (size > SFTP_MAX_PACKET)
                return broken("a request is too long");
            enum sftp_verdict verdict = sftp_parse(packet, size, &request);
            if (verdict == SFTP_UNREADABLE || greeted == (request.type == SFTP_INIT))
                return broken("the client does not speak SFTP");
            if (OUT_BYTES - out_end < LENGTH_BYTES + SFTP_MAX_PACKET && !flush())
                return broken(strerror(errno));
            if (greeted)
                serve(verdict);
            else
                answer_version();
            greeted = true;
        }
        if (!flush())
            return broken(strerror(errno));
        if (!fill())
            return errno ? broken(strerror(errno)) : 0;
    }
}
