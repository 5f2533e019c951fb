#define _GNU_SOURCE
#include "link.h"

#include "handshake.h"
#include "init.h"
#include "send.h"
#include "transport.h"

#include <errno.h>
#include <string.h>

enum {
    BUFFER_BYTES = HEADER_BYTES + MAX_PAYLOAD,
    DIAL_MS = 100,
    DIAL_MAX_MS = 1000,
    CROWDED_MS = 5,      /* the agent is there, but others stand in its queue */
    HANDSHAKE_MS = 5000,
    SILENCE_MS = 30000,  /* the agent pings every 10 s */
};

static enum { DOWN, GREETING, PROVING, OPEN } state = DOWN;
static uint64_t dial_at, dial_wait = DIAL_MS, heard_at;
static uint8_t received[BUFFER_BYTES];
static size_t received_size;
static bool held_back; /* commands wait until there is room for their answers */

static void expect_agent(void)
{
    uint8_t call[CALL_BYTES];
    handshake_call(call);
    transport_expect(call, sizeof call);
}

void link_start(const char *socket_path)
{
    transport_start(socket_path);
    expect_agent();
}

bool link_is_open(void) { return state == OPEN; }

static void hang_up(void)
{
    bool was_open = state == OPEN;
    transport_hang_up();
    state = DOWN;
    received_size = 0;
    held_back = false;
    dial_at = transport_is_called() ? 0 : clock_ms() + dial_wait;
    if (!was_open)
        return;
    send_stop();
    process_contact(false);
}

/* A handshake frame goes into an empty socket buffer: it fits or the connection is no good. */
static bool write_now(uint8_t type, const uint8_t *payload, size_t size)
{
    uint8_t header[HEADER_BYTES];
    struct iovec frame[] = {{header, sizeof header}, {(void *)payload, size}};
    put_header(header, type, 0, (uint32_t)size);
    return transport_write(frame, 2) == (ssize_t)(sizeof header + size);
}

static void dial(void)
{
    char name[SOCKET_NAME_BYTES + 1];
    uint8_t hello[HELLO_BYTES];
    if (handshake_has_key())
        handshake_socket_name(name);
    enum dial result = transport_dial(handshake_has_key() ? name : NULL);
    if (result != DIAL_OK) {
        dial_at = clock_ms() + (result == DIAL_CROWDED ? CROWDED_MS : dial_wait);
        dial_wait = result == DIAL_CROWDED ? DIAL_MS : dial_wait * 2 < DIAL_MAX_MS ? dial_wait * 2 : DIAL_MAX_MS;
        return;
    }
    state = GREETING;
    heard_at = clock_ms();
    if (!handshake_hello(hello) || !write_now(FRAME_HELLO, hello, sizeof hello))
        hang_up();
}

/* One frame of the handshake. False when the other end is not the agent. */
static bool shake_hands(const struct command *c)
{
    uint8_t proof[NONCE_BYTES];
    if (state == GREETING) {
        if (!handshake_answer(c, proof) || !write_now(FRAME_PROOF, proof, sizeof proof))
            return false;
        expect_agent();
        state = PROVING;
        return true;
    }
    if (c->type != FRAME_WELCOME)
        return false;
    state = OPEN;
    dial_wait = DIAL_MS;
    send_begin();
    process_contact(true);
    return true;
}

static void answer(uint32_t seq, int refusal, const char *message)
{
    if (refusal)
        send_refusal(seq, refusal, message);
    else
        send_done(seq);
}

static void resume(struct process *p, const struct command *c)
{
    struct stream *s = &p->streams[c->stream - 1];
    s->resumed = true;
    output_seek(&s->output, c->offset);
    send_queue(s);
}

/* Commands about one process. False when the agent claims what can not be. */
static bool command_process(struct process *p, const struct command *c)
{
    switch (c->type) {
    case FRAME_STDIN:
        process_write(p, c);
        return true;
    case FRAME_STDIN_CLOSE:
        answer(c->seq, process_close_input(p, c->offset), "not all input was written");
        return true;
    case FRAME_RESIZE:
        answer(c->seq, process_resize(p, c->rows, c->cols), "no terminal");
        return true;
    case FRAME_SIGNAL:
        answer(c->seq, process_signal(p, c->signal, c->scope), "nothing to signal");
        return true;
    case FRAME_RELEASE:
        answer(c->seq, process_release(p), "still running");
        return true;
    case FRAME_ACK:
        return process_ack(p, c->stream, c->offset) == 0;
    case FRAME_RESUME:
        if (c->offset > p->streams[c->stream - 1].output.end)
            return false;
        resume(p, c);
        return true;
    default:
        return false;
    }
}

/* A process that is not there: released already, or never started. */
static bool command_nobody(const struct command *c)
{
    if (c->type == FRAME_RELEASE)
        send_done(c->seq);
    else if (c->type == FRAME_STDIN)
        send_stdin_closed(c->id, c->offset);
    else if (c->type != FRAME_ACK && c->type != FRAME_RESUME)
        send_refusal(c->seq, REFUSED_UNKNOWN, "no such process");
    return true;
}

static void command_spawn(const struct command *c)
{
    char message[MAX_MESSAGE] = "";
    int refusal = process_spawn(c, message);
    if (refusal)
        send_refusal(c->seq, refusal, message);
}

static bool obey(const struct command *c)
{
    if (c->type == FRAME_SPAWN) {
        command_spawn(c);
        return true;
    }
    if (c->type > FRAME_SPAWN && c->type <= FRAME_RELEASE) {
        struct process *p = process_find(c->id);
        return p ? command_process(p, c) : command_nobody(c);
    }
    switch (c->type) {
    case FRAME_LEASE:
        init_lease(c->deadline_ms);
        break;
    case FRAME_TERMINATE:
        init_terminate(c->grace_ms);
        break;
    case FRAME_SHUTDOWN:
        init_shutdown(c->mode);
        break;
    case FRAME_PING:
        send_pong(c->seq);
        return true;
    default:
        return false;
    }
    send_done(c->seq);
    return true;
}

/* Handles the frame at the start of what was received. Returns its size, 0 when it is incomplete, -1 when malformed. */
static ssize_t take_frame(const uint8_t *at, size_t size)
{
    static struct command command;
    struct header header;
    if (size < HEADER_BYTES)
        return 0;
    if (!parse_header(at, &header))
        return -1;
    if (size < HEADER_BYTES + header.length)
        return 0;
    if (!parse_command(&header, at + HEADER_BYTES, &command))
        return -1;
    if (!(state == OPEN ? obey(&command) : shake_hands(&command)))
        return -1;
    return (ssize_t)(HEADER_BYTES + header.length);
}

static void take_frames(void)
{
    size_t start = 0;
    held_back = false;
    while (state != DOWN) {
        held_back = state == OPEN && !send_has_room();
        if (held_back)
            break;
        ssize_t size = take_frame(received + start, received_size - start);
        if (size < 0) {
            hang_up();
            return;
        }
        if (size == 0)
            break;
        start += (size_t)size;
    }
    received_size -= start;
    memmove(received, received + start, received_size);
    transport_want_read(received_size < BUFFER_BYTES);
}

void link_event(void)
{
    if (state == DOWN)
        received_size = 0; /* stdin: only the beginning of a conversation counts */
    if (received_size < BUFFER_BYTES) {
        ssize_t size = transport_read(received + received_size, BUFFER_BYTES - received_size);
        if (size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR)) {
            hang_up();
            return;
        }
        if (size > 0) {
            received_size += (size_t)size;
            heard_at = clock_ms();
        }
    }
    take_frames();
}

uint64_t link_deadline(void)
{
    if (state == DOWN)
        return dial_at;
    if (held_back && send_has_room())
        return 0;
    return heard_at + (state == OPEN ? SILENCE_MS : HANDSHAKE_MS);
}

void link_tick(void)
{
    if (clock_ms() < link_deadline())
        return;
    if (held_back && send_has_room())
        take_frames();
    else if (state == DOWN)
        dial();
    else
        hang_up();
}
