/* Files of the machine that runs the emulator, through Arm's semihosting calls. */
#if defined(__riscv)
long host_call(long operation, const void *block);

static int host(int operation, const void *block)
{
    return (int)host_call(operation, block);
}
#else
static int host(int operation, const void *block)
{
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = block;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}
#endif

static uint32_t input, output;

static uint32_t open_file(const char *name, uint32_t mode, uint32_t length)
{
    uint32_t block[3];
    block[0] = (uint32_t)name;
    block[1] = mode;
    block[2] = length;
    return (uint32_t)host(0x01, block);
}

static void begin(void)
{
    input = open_file("samples.bin", 1u, 11u);
    output = open_file("states.bin", 5u, 10u);
}

static void take(void *to, uint32_t size)
{
    uint32_t block[3];
    block[0] = input;
    block[1] = (uint32_t)to;
    block[2] = size;
    (void)host(0x06, block);
}

static void give(const void *from, uint32_t size)
{
    uint32_t block[3];
    block[0] = output;
    block[1] = (uint32_t)from;
    block[2] = size;
    (void)host(0x05, block);
}

static int end(void)
{
    (void)host(0x02, &output);
    return 0;
}
