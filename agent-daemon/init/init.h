/* What the whole init is doing: alive, ending everything, leaving. */
#ifndef CAUSEWAY_INIT_H
#define CAUSEWAY_INIT_H

#include "wire.h"

#include <stdbool.h>
#include <stdint.h>

bool init_lease_expired(void);
bool init_terminating(void);
void init_lease(uint64_t deadline_boot_ms);
void init_terminate(uint32_t grace_ms);
void init_shutdown(uint8_t mode);

#endif
