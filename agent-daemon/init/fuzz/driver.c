/* Runs a fuzz target without libFuzzer: blind mutations of a few inputs, for -max_total_time=SECONDS, reproducibly. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* A target may have inputs of its own: writes one of at most MOST bytes and returns its size. */
__attribute__((weak)) size_t fuzz_seed(uint8_t *input, uint32_t number);

enum { INPUTS = 64, MOST = 4096 };

static uint64_t state = 88172645463325252u;

static uint32_t next(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32) % below;
}

/* SPAWN of `a`, then bytes of every value. */
static size_t seed(uint8_t *input, uint32_t number)
{
    static const uint8_t spawn[] = "\x10prc_01234567890123456789abcdef\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0/"
                                   "\x01\0\x01\0\0\0a\x01\0\x03\0\0\0A=b";
    if (fuzz_seed)
        return fuzz_seed(input, number);
    if (number % 2 == 0) {
        memcpy(input, spawn, sizeof spawn - 1);
        input[0] = (uint8_t)(16 + number % 12);
        return sizeof spawn - 1;
    }
    size_t size = next(MOST);
    for (size_t i = 0; i < size; i++)
        input[i] = (uint8_t)next(256);
    return size;
}

static size_t mutate(uint8_t *input, size_t size)
{
    for (uint32_t i = next(8); i-- > 0;) {
        uint32_t at = next((uint32_t)size + 1);
        if (next(3) && at < size)
            input[at] = (uint8_t)next(256);
        else if (next(2) && size < MOST)
            memmove(input + at + 1, input + at, size++ - at);
        else if (at < size)
            memmove(input + at, input + at + 1, --size - at);
    }
    return size;
}

int main(int argc, char **argv)
{
    static uint8_t inputs[INPUTS][MOST], work[MOST];
    size_t sizes[INPUTS];
    int seconds = 10;
    unsigned long runs = 0;
    for (int i = 1; i < argc; i++)
        sscanf(argv[i], "-max_total_time=%d", &seconds);
    for (uint32_t i = 0; i < INPUTS; i++)
        sizes[i] = seed(inputs[i], i);
    for (time_t end = time(NULL) + seconds; time(NULL) < end; runs++) {
        uint32_t which = next(INPUTS);
        memcpy(work, inputs[which], sizes[which]);
        LLVMFuzzerTestOneInput(work, mutate(work, sizes[which]));
    }
    fprintf(stderr, "Done %lu runs in %d second(s)\n", runs, seconds);
    return 0;
}
