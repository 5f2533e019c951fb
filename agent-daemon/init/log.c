#include "bridge.h"

#include "backlog.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    SPARE = 16 << 20,      /* for what is vital */
    NOTE_SPARE = 17 << 20, /* for saying what was lost */
    MAX_NOTE = 256,
};

static uint64_t lost_messages, lost_bytes, forged;
static bool is_shedding;

static bool put(const char *channel, const struct jupyter_message *m, uint64_t spare)
{
    static uint8_t head[JUPYTER_MAX_HEAD];
    static struct span spans[1 + 4 + JUPYTER_MAX_BUFFERS];
    spans[0] = (struct span){head, jupyter_record_head(head, channel, m)};
    memcpy(spans + 1, m->parts, m->count * sizeof spans[0]);
    return backlog_put(spans, 1 + m->count, spare);
}

static bool put_note(const char *content)
{
    static const char header[] = "{\"msg_type\":\"note\"}", empty[] = "{}";
    struct jupyter_message m = {.count = 4};
    m.parts[PART_HEADER] = (struct span){header, sizeof header - 1};
    m.parts[PART_PARENT] = m.parts[PART_METADATA] = (struct span){empty, 2};
    m.parts[PART_CONTENT] = (struct span){content, strlen(content)};
    return put("causeway", &m, NOTE_SPARE);
}

/* Where there is no room even to say so, it is said later, with what is lost until then. */
static void settle(void)
{
    char note[MAX_NOTE];
    if (forged) {
        snprintf(note, sizeof note, "{\"kind\":\"forged\",\"messages\":%" PRIu64 "}", forged);
        if (put_note(note))
            forged = 0;
    }
    if (!lost_messages)
        return;
    snprintf(note, sizeof note, "{\"kind\":\"lost\",\"messages\":%" PRIu64 ",\"bytes\":%" PRIu64 "}", lost_messages, lost_bytes);
    if (put_note(note))
        lost_messages = lost_bytes = 0;
}

void log_lost(uint64_t messages, uint64_t bytes)
{
    lost_messages += messages;
    lost_bytes += bytes;
}

void log_forged(void) { forged++; }

void log_message(const char *channel, const struct jupyter_message *m, bool is_vital)
{
    uint64_t size = jupyter_record_size(channel, m);
    /* Once something is left out, all is until there is room for much: else there would be a note for every few messages. */
    is_shedding = is_shedding && backlog_in_file() > BACKLOG_FILE / 2;
    if (is_shedding && !is_vital) {
        log_lost(1, size);
        return;
    }
    settle();
    if (lost_messages || !put(channel, m, is_vital ? SPARE : 0)) {
        is_shedding = true;
        log_lost(1, size);
    }
}

void log_tick(void)
{
    is_shedding = is_shedding && backlog_in_file() > BACKLOG_FILE / 2;
    if (!is_shedding)
        settle();
}

void log_note(const char *content)
{
    settle();
    if (!put_note(content))
        log_lost(1, strlen(content));
}
