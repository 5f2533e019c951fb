/* The parser of the file server's requests, in memory of exactly their size. */
#include "sftp-wire.h"

#include <stdlib.h>
#include <string.h>

enum { NUMBERS = 40 };

/* A whole request of each type and of each extension; the driver changes them. */
size_t fuzz_seed(uint8_t *input, uint32_t number)
{
    static const uint8_t tail[NUMBERS] = {0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 4, 'a', 'b', '/', 'c', 0, 0, 0, 15};
    uint8_t *at = input;
    const struct sftp_extension *extension = &sftp_extensions[number % sftp_extension_count];
    *at++ = number % 2 ? SFTP_EXTENDED : (uint8_t)(1 + number / 2 % 21);
    at = sftp_put_u32(at, number);
    if (number % 2)
        at = sftp_put_text(at, extension->name);
    if (number % 3)
        at = sftp_put_text(at, "some/path");
    memcpy(at, tail, sizeof tail);
    return (size_t)(at - input) + sizeof tail;
}

static void check(int condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct sftp_request request;
    static uint8_t written[64];
    uint8_t *packet = malloc(size + 1);
    memcpy(packet, data, size);
    uint8_t *exact = realloc(packet, size ? size : 1);
    enum sftp_verdict verdict = sftp_parse(exact, size, &request);
    check(verdict == SFTP_UNREADABLE || size >= 5);
    if (verdict == SFTP_PARSED && request.type != SFTP_INIT) {
        check(memchr(request.path, 0, PATH_MAX) && memchr(request.other, 0, PATH_MAX));
        check(strlen(request.path) < size && strlen(request.other) < size);
        if (request.data)
            check(request.data >= exact && request.data + request.length <= exact + size);
        if (request.type == SFTP_WRITE)
            check(request.data != NULL);
        sftp_put_attrs(written, &request.attrs);
    }
    free(exact);
    return 0;
}
