/* What else the binary is, by its first argument. None of these is PID 1: they are processes of the tenant like any other. */
#ifndef CAUSEWAY_TOOLS_H
#define CAUSEWAY_TOOLS_H

#include <stdbool.h>

/* Runs the tool that `argv[1]` names, with `argv[1]` as its own `argv[0]`. False when it names none. */
bool run_tool(int argc, char **argv, int *status);

int kernel_main(int argc, char **argv);
int kernelspecs_main(int argc, char **argv);

#endif
