/* Where a tool may have a file that none but its user gets at. */
#ifndef CAUSEWAY_FOLDER_H
#define CAUSEWAY_FOLDER_H

#include <stdbool.h>
#include <stddef.h>

/* Makes a folder of a fresh name that begins with `prefix`, where the user may have one. False with errno. */
bool folder_make(char *out, size_t size, const char *prefix);

#endif
