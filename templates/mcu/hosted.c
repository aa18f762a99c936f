#include <stdio.h>

static void begin(void) {}

static void take(void *to, size_t size)
{
    if (fread(to, size, 1, stdin) != 1) {
        fputs("the input ends early\n", stderr);
    }
}

static void give(const void *from, size_t size)
{
    fwrite(from, size, 1, stdout);
}

static int end(void)
{
    return fflush(stdout) == 0 ? 0 : 5;
}
