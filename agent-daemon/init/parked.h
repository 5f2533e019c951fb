/*
 * A kernel that was started in advance. `init kernel --park NAME` leaves a process behind that holds it, booted, under an
 * abstract socket; the bridge of a session comes for it, by the same name, and has it from then on as if it had started it.
 * The connection between the two is the kernel's life: what ends it ends the kernel.
 */
#ifndef CAUSEWAY_PARKED_H
#define CAUSEWAY_PARKED_H

#include "bridge.h"

#include <stdbool.h>

/* ---- who holds it ---- */

/*
 * Goes on in a process of nobody's, in a session of its own, whose standard error is a pipe: what the kernel writes there is
 * for whoever takes it. Returns -1 in that process; in the other, which waits until the kernel is held or nothing becomes of
 * it, the exit status that says so.
 */
int parked_begin(void);
/* Nothing became of it: says what it had to say, and ends what is left of it. */
void parked_give_up(void);
/* Holds the kernel until its end. `signals` is a signalfd of SIGCHLD, SIGINT, SIGTERM and SIGHUP. */
void parked_hold(const char *name, const struct bridge_identity *identity, int signals);

/* ---- who takes it ---- */

/* A connection to who holds a kernel under this name, and what the kernel goes by. -1 where there is none. */
int parked_take(const char *name, int errors, struct bridge_identity *out);
void parked_signal(int connection, int signal);
/* Whether the kernel has ended, and how. Whoever held it is gone without a word: killed. */
bool parked_has_ended(int connection, int *status);

#endif
