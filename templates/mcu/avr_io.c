/* Three I/O registers that templates/mcu/simavr.c connects: bytes, marks of time, and results. */
#define BYTES (*(volatile uint8_t *){{ part.bytes_at }})
#define MARKS (*(volatile uint8_t *){{ part.marks_at }})
#define NOTES (*(volatile uint8_t *){{ part.notes_at }})
#define STACK (*(volatile uint16_t *)0x5D)
#define PAINT 0xA5u

extern uint8_t _end; /* the linker's: the end of variables */

static void begin(void)
{
    volatile uint8_t *at;
    for (at = &_end; at < (volatile uint8_t *)STACK; at++) {
        *at = PAINT;
    }
}

static void take(void *to, uint16_t size)
{
    uint8_t *at = (uint8_t *)to;
    for (; size != 0u; size--) {
        *at++ = BYTES;
    }
}

static void give(const void *from, uint16_t size)
{
    const uint8_t *at = (const uint8_t *)from;
    for (; size != 0u; size--) {
        BYTES = *at++;
    }
}

static int end(void)
{
    const volatile uint8_t *at = &_end;
    uint16_t untouched = 0u;
    while (at < (const volatile uint8_t *){{ part.ram_end }} && *at == PAINT) {
        at++;
        untouched++;
    }
    NOTES = (uint8_t)untouched;
    NOTES = (uint8_t)(untouched >> 8);
    return 0;
}

int program(void);

int main(void)
{
    MARKS = (uint8_t)(0x80u | (uint8_t)program());
    for (;;) {
    }
}

#define main program
