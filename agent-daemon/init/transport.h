/* The bytes to and from the agent: a unix socket that is dialled again for ever, or stdin and stdout. */
#ifndef CAUSEWAY_TRANSPORT_H
#define CAUSEWAY_TRANSPORT_H

#include "loop.h"

#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

enum dial { DIAL_OK, DIAL_ABSENT, DIAL_CROWDED };

/* `path` is NULL for stdin and stdout. */
void transport_start(const char *path);
/* What the agent sends over stdin to begin a conversation, and gets back. 0xff comes only at its start. */
void transport_expect(const uint8_t *call, size_t size);
/* Over stdin the agent began a conversation, whatever was under way: dial now. */
bool transport_is_called(void);
/* Connects: to the path itself, or, when `name` is given, to that name in the path's directory. */
enum dial transport_dial(const char *name);
void transport_hang_up(void);
void transport_want_read(bool wanted);
void transport_want_write(bool wanted);
/* Return the number of bytes, 0 at the end of input, -1 with errno EAGAIN when there is nothing to do now. */
ssize_t transport_read(void *data, size_t size);
ssize_t transport_write(struct iovec *vectors, int count);

#endif
