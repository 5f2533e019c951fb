/*
 * What waits for a reader, first in, first out: in memory, then in a file without a name, up to a limit. A kernel publishes
 * whether anybody reads or not, and drops what is not taken from it.
 */
#ifndef CAUSEWAY_BACKLOG_H
#define CAUSEWAY_BACKLOG_H

#include "sha256.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BACKLOG_FILE = 256 << 20 };

/* False when it does not fit: nothing of it was taken. The file may be larger by `spare`. */
bool backlog_put(const struct span *spans, size_t count, uint64_t spare);
/* Writes what the descriptor takes now. False when it never takes anything again. */
bool backlog_write(int fd);
bool backlog_is_empty(void);
/* Bytes of the file; all of it when it takes no more. */
uint64_t backlog_in_file(void);

#endif
