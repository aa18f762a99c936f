/* Runs an AVR image with libsimavr: what the image reads from one I/O register comes from stdin,
   what it writes there goes to STATES, and cycles and instructions are noted when it writes to
   another.

   simavr LIBRARY MCU IMAGE BYTES MARKS NOTES STATES RESULT

   The library is opened by name and declared here: its own headers are seldom installed. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct avr avr_t;
typedef uint8_t (*read_t)(avr_t *, uint16_t, void *);
typedef void (*write_t)(avr_t *, uint16_t, uint8_t, void *);
typedef uint64_t (*timer_t_)(avr_t *, uint64_t, void *);

#define FAR ((uint64_t)1 << 48)
#define DONE 6
#define CRASHED 7

static uint64_t (*left)(avr_t *, timer_t_, void *);
static FILE *states, *result;
static int starved, finished, status;
static unsigned long long executed;

static uint64_t never(avr_t *avr, uint64_t when, void *param)
{
    (void)avr, (void)when, (void)param;
    return 0;
}

static uint64_t cycles(avr_t *avr)
{
    return FAR - left(avr, never, NULL);
}

static uint8_t take(avr_t *avr, uint16_t at, void *param)
{
    const int byte = getchar();
    (void)avr, (void)at, (void)param;
    starved += byte == EOF;
    return (uint8_t)byte;
}

static void give(avr_t *avr, uint16_t at, uint8_t byte, void *param)
{
    (void)avr, (void)at, (void)param;
    putc(byte, states);
}

static void mark(avr_t *avr, uint16_t at, uint8_t code, void *param)
{
    (void)at, (void)param;
    if ((code & 0x80u) != 0u) {
        finished = 1;
        status = code & 0x7F;
    } else {
        fprintf(result, "%d %llu %llu\n", code, (unsigned long long)cycles(avr), executed);
    }
}

static void note(avr_t *avr, uint16_t at, uint8_t byte, void *param)
{
    (void)avr, (void)at, (void)param;
    fprintf(result, "note %d\n", byte);
}

static void *library;

static void *found(const char *name)
{
    void *at = dlsym(library, name);
    if (at == NULL) {
        fprintf(stderr, "libsimavr has no %s\n", name);
        exit(91);
    }
    return at;
}

/* A function of the library: ISO C converts no pointer to data into one to a function. */
#define FUNCTION(type, name, arguments) \
    type(*name) arguments;              \
    *(void **)&name = found(#name)

int main(int count, char **words)
{
    static uint64_t firmware[1 << 14]; /* larger than the library's own structure in any version */
    avr_t *avr;
    int state = 0;
    if (count != 9 || (library = dlopen(words[1], RTLD_NOW)) == NULL) {
        fprintf(stderr, "no libsimavr: %s\n", dlerror());
        return 91;
    }
    FUNCTION(avr_t *, avr_make_mcu_by_name, (const char *));
    FUNCTION(int, avr_init, (avr_t *));
    FUNCTION(int, elf_read_firmware, (const char *, void *));
    FUNCTION(void, avr_load_firmware, (avr_t *, void *));
    FUNCTION(int, avr_run, (avr_t *));
    FUNCTION(void, avr_register_io_read, (avr_t *, uint16_t, read_t, void *));
    FUNCTION(void, avr_register_io_write, (avr_t *, uint16_t, write_t, void *));
    FUNCTION(void, avr_cycle_timer_register, (avr_t *, uint64_t, timer_t_, void *));
    *(void **)&left = found("avr_cycle_timer_status");
    avr = avr_make_mcu_by_name(words[2]);
    if (avr == NULL || elf_read_firmware(words[3], firmware) != 0) {
        fprintf(stderr, "libsimavr knows no %s, or cannot read %s\n", words[2], words[3]);
        return 92;
    }
    avr_init(avr);
    avr_load_firmware(avr, firmware);
    avr_register_io_read(avr, (uint16_t)atoi(words[4]), take, NULL);
    avr_register_io_write(avr, (uint16_t)atoi(words[4]), give, NULL);
    avr_register_io_write(avr, (uint16_t)atoi(words[5]), mark, NULL);
    avr_register_io_write(avr, (uint16_t)atoi(words[6]), note, NULL);
    avr_cycle_timer_register(avr, FAR, never, NULL);
    states = fopen(words[7], "wb");
    result = fopen(words[8], "w");
    if (states == NULL || result == NULL) {
        return 93;
    }
    while (!finished && !starved && state != DONE && state != CRASHED) {
        state = avr_run(avr);
        executed++;
    }
    if (fclose(states) != 0 || fclose(result) != 0) {
        return 96;
    }
    if (starved) {
        fprintf(stderr, "the input ends early\n");
        return 94;
    }
    if (!finished) {
        fprintf(stderr, "the image crashes\n");
        return 95;
    }
    return status;
}
