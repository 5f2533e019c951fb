/*
 * Who is at the other end. The agent gives the session key at first contact, before anything of the tenant runs; later
 * both ends prove that they have it (SPEC.md, "Handshake"). Pure, but for the random nonce.
 */
#ifndef CAUSEWAY_HANDSHAKE_H
#define CAUSEWAY_HANDSHAKE_H

#include "wire.h"

enum { HELLO_BYTES = 2 + 1 + 1 + 2 * NONCE_BYTES, SOCKET_NAME_BYTES = 18, CALL_BYTES = 33 };

bool handshake_has_key(void);
/* Writes the payload of HELLO, with a new nonce. False when the kernel has no randomness. */
bool handshake_hello(uint8_t payload[HELLO_BYTES]);
/* Checks KEY or CHALLENGE and writes the payload of PROOF. False when the other end is not the agent. */
bool handshake_answer(const struct command *command, uint8_t proof[NONCE_BYTES]);
/* The name of the socket for every contact but the first, which nobody without the key can guess. */
void handshake_socket_name(char name[SOCKET_NAME_BYTES + 1]);
/* What begins a conversation over stdin and stdout: 0xff and hexadecimal digits, a secret too after first contact. */
void handshake_call(uint8_t call[CALL_BYTES]);

#endif
