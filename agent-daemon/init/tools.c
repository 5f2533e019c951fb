#include "tools.h"

#include <string.h>

static const struct {
    const char *name;
    int (*main)(int argc, char **argv);
} tools[] = {
    {"accepted", accepted_main},
    {"connect", connect_main},
    {"connect-unix", connect_unix_main},
    {"kernel", kernel_main},
    {"kernelspecs", kernelspecs_main},
    {"listen", listen_main},
    {"listen-fresh", listen_fresh_main},
    {"listen-unix", listen_unix_main},
    {"sftp", sftp_main},
};

bool run_tool(int argc, char **argv, int *status)
{
    for (size_t i = 0; argc > 1 && i < sizeof tools / sizeof tools[0]; i++) {
        if (strcmp(argv[1], tools[i].name) != 0)
            continue;
        *status = tools[i].main(argc - 1, argv + 1);
        return true;
    }
    return false;
}
