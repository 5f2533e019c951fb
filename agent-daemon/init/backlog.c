#define _GNU_SOURCE
#include "backlog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MEMORY = 8 << 20, FIRST_ROOM = 64 << 10, KEPT_ROOM = 1 << 20, PUNCH = 16 << 20 };

static uint8_t *bytes;
static size_t from, to, room;
/* Bytes [head, tail) of the file come behind those in memory; before `punched` it takes no room. */
static int file = -1;
static uint64_t punched, head, tail;
static bool file_failed;

bool backlog_is_empty(void) { return from == to && head == tail; }
uint64_t backlog_in_file(void) { return file_failed ? BACKLOG_FILE : tail - punched; }

/* Where the disk is, not the memory: /tmp of a session counts as memory. */
static bool open_file(void)
{
    const char *const folders[] = {getenv("HOME"), "/var/tmp", "/tmp"};
    for (size_t i = 0; file < 0 && i < sizeof folders / sizeof folders[0]; i++)
        if (folders[i] && *folders[i])
            file = open(folders[i], O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    return file >= 0;
}

static bool make_room(size_t size)
{
    if (from > 0 && room - to < size) {
        memmove(bytes, bytes + from, to - from);
        to -= from;
        from = 0;
    }
    if (room - to >= size)
        return true;
    size_t wanted = room ? room : FIRST_ROOM;
    while (wanted - to < size)
        wanted *= 2;
    uint8_t *more = realloc(bytes, wanted);
    if (!more)
        return false;
    bytes = more;
    room = wanted;
    return true;
}

static bool put_into_file(const struct span *spans, size_t count)
{
    uint64_t at = tail;
    for (size_t i = 0; i < count; i++)
        for (size_t done = 0; done < spans[i].size;) {
            ssize_t size = pwrite(file, (const uint8_t *)spans[i].data + done, spans[i].size - done, (off_t)(at + done));
            if (size <= 0 && errno != EINTR)
                return false;
            done += size > 0 ? (size_t)size : 0;
            at += done == spans[i].size ? done : 0;
        }
    tail = at;
    return true;
}

bool backlog_put(const struct span *spans, size_t count, uint64_t spare)
{
    size_t size = 0;
    for (size_t i = 0; i < count; i++)
        size += spans[i].size;
    /* One record of any size has room where nothing else waits. */
    if (head == tail && (from == to || to - from + size <= MEMORY) && make_room(size)) {
        for (size_t i = 0; i < count; i++) {
            memcpy(bytes + to, spans[i].data, spans[i].size);
            to += spans[i].size;
        }
        return true;
    }
    if (tail - punched + size > BACKLOG_FILE + spare)
        return false;
    file_failed = (file < 0 && !open_file()) || !put_into_file(spans, count);
    return !file_failed;
}

/* Takes the next part of the file into the memory, which is empty. */
static bool refill(void)
{
    from = to = 0;
    if (head == tail || !make_room(KEPT_ROOM))
        return head == tail;
    ssize_t size = pread(file, bytes, tail - head < KEPT_ROOM ? (size_t)(tail - head) : KEPT_ROOM, (off_t)head);
    if (size <= 0)
        return false;
    to = (size_t)size;
    head += to;
    if (head == tail) {
        punched = head = tail = 0;
        file_failed = false;
        return ftruncate(file, 0) == 0;
    }
    if (head - punched >= PUNCH &&
        fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)punched, (off_t)(head - punched)) == 0)
        punched = head;
    return true;
}

static void give_back(void)
{
    from = to = 0;
    if (room <= KEPT_ROOM)
        return;
    free(bytes);
    bytes = NULL;
    room = 0;
}

bool backlog_write(int fd)
{
    while (!backlog_is_empty()) {
        if (from == to && !refill())
            return false;
        ssize_t size = write(fd, bytes + from, to - from);
        if (size < 0)
            return errno == EAGAIN || errno == EINTR;
        from += (size_t)size;
    }
    give_back();
    return true;
}
