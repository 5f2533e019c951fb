/*
 * Carries bytes between stdin and stdout and a socket, each way to its own end. What the agent has to know is said in
 * lines on stderr: `connected`, `end N` (the far end has said all, at byte N of stdout), else what went wrong.
 */
#ifndef CAUSEWAY_RELAY_H
#define CAUSEWAY_RELAY_H

#include <sys/socket.h>
#include <sys/un.h>

enum { RELAY_DONE = 0, RELAY_FAILED = 1 };

/* To be called first: SIGHUP, by which the agent says that nobody listens any more, then ends it soon, not at once. */
void relay_prepare(void);
/* Says that there is a connection, and carries it to its end. Returns the exit status. */
int relay_run(int socket);
/* Says what went wrong with `what`, by errno. Returns the exit status. */
int relay_failed(const char *what);

/* The address of a path, or (`abstract`) of a name that is in no directory. False when it is too long. */
int relay_unix_address(const char *path, int abstract, struct sockaddr_un *out, socklen_t *size);

#endif
