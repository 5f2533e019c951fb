/*
 * What the binary also is, by its first argument: programs that every container has, whatever its image lacks. None of these
 * is PID 1: they are processes of the tenant like any other (SPEC.md, "Tools").
 */
#ifndef CAUSEWAY_TOOLS_H
#define CAUSEWAY_TOOLS_H

#include <stdbool.h>

/* Runs the tool that `argv[1]` names, with `argv[1]` as its own `argv[0]`. False when it names none. */
bool run_tool(int argc, char **argv, int *status);

int accepted_main(int argc, char **argv);
int connect_main(int argc, char **argv);
int connect_unix_main(int argc, char **argv);
int kernel_main(int argc, char **argv);
int kernelspecs_main(int argc, char **argv);
int listen_fresh_main(int argc, char **argv);
int listen_main(int argc, char **argv);
int listen_unix_main(int argc, char **argv);
int sftp_main(int argc, char **argv);

#endif
