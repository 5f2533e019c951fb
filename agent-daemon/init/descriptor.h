/* Gives an open descriptor to another process, over a socket of the file system or a name, with one byte. */
#ifndef CAUSEWAY_DESCRIPTOR_H
#define CAUSEWAY_DESCRIPTOR_H

#include <stdbool.h>

bool descriptor_send(int to, int fd);
/* -1 with errno. */
int descriptor_receive(int from);

#endif
