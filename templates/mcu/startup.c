/* The smallest Cortex-M image: vectors, data, bss, and main's result as the emulator's exit code. */
#include <stdint.h>

extern uint32_t stack_top, data_load, data_start, data_end, bss_start, bss_end;
int main(void);

static __attribute__((noreturn)) void leave(uint32_t code)
{
    uint32_t block[2];
    register int r0 __asm__("r0") = 0x20;
    register const void *r1 __asm__("r1") = block;
    block[0] = 0x20026u;
    block[1] = code;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    for (;;) {
    }
}

static __attribute__((noreturn)) void fault(void)
{
    leave(99u);
}

static __attribute__((noreturn)) void start(void)
{
    volatile uint32_t *to = &data_start;
    const uint32_t *from = &data_load;
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    /* Before any loop, for it may be vectorised: access to the coprocessors of floats and vectors. */
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20;
    __asm__ volatile("dsb\n isb" ::: "memory");
#endif
    while (to < &data_end) {
        *to++ = *from++;
    }
    for (to = &bss_start; to < &bss_end;) {
        *to++ = 0u;
    }
    leave((uint32_t)main());
}

__attribute__((used, section(".vectors"))) static const void *const vectors[8] = {
    &stack_top, (const void *)start, (const void *)fault, (const void *)fault,
    (const void *)fault, (const void *)fault, (const void *)fault, (const void *)fault,
};
