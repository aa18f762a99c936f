{% include "mcu/semihosted.c" %}

/* templates/mcu/rp2040.cjs notes the cycle of a write here, where the watchdog's registers are. */
#define MARKS (*(volatile uint32_t *)0x40058000u)
