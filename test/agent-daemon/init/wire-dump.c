/* Reads frames and says, one line each, what the init's parser makes of them. */
#include "wire.h"

#include <stdio.h>
#include <stdlib.h>

static void hex(const uint8_t *bytes, size_t size)
{
    putchar(' ');
    putchar('x');
    for (size_t i = 0; i < size; i++)
        printf("%02x", bytes[i]);
}

static void dump_strings(const struct strings *strings)
{
    char *text = malloc(strings->bytes + 1), **list = malloc((strings->count + 1) * sizeof *list);
    copy_strings(strings, text, list);
    printf(" %u", strings->count);
    for (uint32_t i = 0; list[i]; i++) {
        size_t size = 0;
        while (list[i][size])
            size++;
        hex((uint8_t *)list[i], size);
    }
    free(list);
    free(text);
}

static void dump_spawn(const struct spawn_command *s)
{
    printf(" %u %u %u %u %u %u %u %u", s->flags, s->block_ms, s->drain_ms, s->rows, s->cols, s->uid, s->gid, s->group_count);
    for (int i = 0; i < s->group_count; i++)
        printf(" %u", s->groups[i]);
    printf(" %u", s->rlimit_count);
    for (int i = 0; i < s->rlimit_count; i++)
        printf(" %u %llu %llu", s->rlimits[i].resource, (unsigned long long)s->rlimits[i].soft,
               (unsigned long long)s->rlimits[i].hard);
    hex(s->cwd, s->cwd_bytes);
    dump_strings(&s->argv);
    dump_strings(&s->env);
}

static void dump(const struct command *c)
{
    unsigned long long offset = c->offset;
    printf("%u", c->type);
    if (c->type >= FRAME_SPAWN && c->type <= FRAME_RELEASE)
        printf(" %s", c->id);
    switch (c->type) {
    case FRAME_KEY:
    case FRAME_CHALLENGE:
        hex(c->nonce, NONCE_BYTES);
        hex(c->secret, NONCE_BYTES);
        break;
    case FRAME_SPAWN:
        dump_spawn(&c->spawn);
        break;
    case FRAME_STDIN:
        printf(" %llu", offset);
        hex(c->data, c->size);
        break;
    case FRAME_STDIN_CLOSE:
        printf(" %llu", offset);
        break;
    case FRAME_RESIZE:
        printf(" %u %u", c->rows, c->cols);
        break;
    case FRAME_SIGNAL:
        printf(" %u %u", c->signal, c->scope);
        break;
    case FRAME_ACK:
    case FRAME_RESUME:
        printf(" %u %llu", c->stream, offset);
        break;
    case FRAME_LEASE:
        printf(" %llu", (unsigned long long)c->deadline_ms);
        break;
    case FRAME_TERMINATE:
        printf(" %u", c->grace_ms);
        break;
    case FRAME_SHUTDOWN:
        printf(" %u", c->mode);
        break;
    default:
        break;
    }
    putchar('\n');
}

int main(void)
{
    static uint8_t payload[MAX_PAYLOAD];
    static struct command command;
    uint8_t bytes[HEADER_BYTES];
    struct header header;
    while (fread(bytes, 1, sizeof bytes, stdin) == sizeof bytes) {
        bool good = parse_header(bytes, &header);
        if (!good || fread(payload, 1, header.length, stdin) != header.length)
            return 1;
        if (parse_command(&header, payload, &command))
            dump(&command);
        else
            puts("malformed");
    }
    return 0;
}
