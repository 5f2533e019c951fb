/* The conversation with the agent: dial, handshake, commands. One connection at a time, for the life of the container. */
#ifndef CAUSEWAY_LINK_H
#define CAUSEWAY_LINK_H

#include <stdbool.h>
#include <stdint.h>

void link_start(const char *socket_path);
/* There is something to read or room to write. */
void link_event(void);
/* The earliest moment (clock_ms) at which link_tick() has something to do. */
uint64_t link_deadline(void);
void link_tick(void);
bool link_is_open(void);

#endif
