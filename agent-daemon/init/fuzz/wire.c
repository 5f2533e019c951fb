/* The parser of the agent's frames: type, then a payload of exactly the rest, in memory of exactly its size. */
#include "wire.h"

#include <stdlib.h>
#include <string.h>

static void copy_all(const struct strings *strings)
{
    char *text = malloc(strings->bytes + 1), **list = malloc((strings->count + 1) * sizeof *list);
    copy_strings(strings, text, list);
    size_t total = 0;
    for (uint32_t i = 0; i < strings->count; i++)
        total += strlen(list[i]) + 1;
    if (total != strings->bytes || list[strings->count])
        abort();
    free(list);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct header header;
    static struct command command;
    if (size >= HEADER_BYTES && parse_header(data, &header) && header.length > MAX_PAYLOAD)
        abort();
    if (size < 1 || size - 1 > MAX_PAYLOAD)
        return 0;
    uint8_t *payload = malloc(size);
    memcpy(payload, data + 1, size - 1);
    header = (struct header){.type = data[0], .length = (uint32_t)(size - 1)};
    if (parse_command(&header, payload, &command)) {
        if (command.type == FRAME_SPAWN) {
            copy_all(&command.spawn.argv);
            copy_all(&command.spawn.env);
        }
        if (command.type == FRAME_STDIN && (command.size == 0 || command.size > MAX_DATA))
            abort();
    }
    free(payload);
    return 0;
}
