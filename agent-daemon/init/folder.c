#define _GNU_SOURCE
#include "folder.h"

#include <stdio.h>
#include <stdlib.h>

bool folder_make(char *out, size_t size, const char *prefix)
{
    const char *parents[] = {getenv("TMPDIR"), "/tmp", getenv("HOME"), "/var/tmp"};
    for (size_t i = 0; i < sizeof parents / sizeof parents[0]; i++)
        if (parents[i] && *parents[i] && snprintf(out, size, "%s/%sXXXXXX", parents[i], prefix) < (int)size && mkdtemp(out))
            return true;
    *out = 0;
    return false;
}
