/* A plugin of QEMU's TCG that counts the instructions of functions, exactly. Arguments:
     ranges=FILE  a line "start end role" in hexadecimal for each function; its role is 1 where a
                  call begins a new row of counts, 2 where it counts for the function that was
                  running before it, else 0
     out=FILE     a line for each row, the first for what ran before any; functions of role 2 are
                  not in it
   It declares the functions of QEMU's plugin API, version 1, that it uses: no header is needed. */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef void (*translated_t)(uint64_t id, struct qemu_plugin_tb *block);
typedef void (*executed_t)(unsigned int cpu, void *data);
typedef void (*ended_t)(uint64_t id, void *data);

extern void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, translated_t callback);
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *block, executed_t callback,
                                                 int flags, void *data);
extern void qemu_plugin_register_atexit_cb(uint64_t id, ended_t callback, void *data);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *block,
                                                        size_t index);
extern uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *instruction);

#define EXPORTED __attribute__((visibility("default")))
EXPORTED int qemu_plugin_version = 1;
EXPORTED int qemu_plugin_install(uint64_t id, const void *info, int count, char **arguments);

typedef struct function {
    uint64_t start, end, executed;
    unsigned int role;
} function_t;

enum { BEGINS_ROW = 1, HELPS = 2 };

/* A translated block: how many of its instructions belong to which function. */
typedef struct part {
    function_t *function;
    uint64_t instructions;
} part_t;

typedef struct block {
    bool begins_row;
    size_t parts;
    part_t part[];
} block_t;

static function_t *functions;
static size_t function_count;
static function_t *running;
static FILE *out;

static void write_row(void)
{
    size_t i;
    for (i = 0; i < function_count; i++) {
        if (functions[i].role != HELPS) {
            fprintf(out, "%" PRIu64 " ", functions[i].executed);
            functions[i].executed = 0;
        }
    }
    fputc('\n', out);
}

static void executed(unsigned int cpu, void *data)
{
    const block_t *const block = data;
    size_t i;
    (void)cpu;
    if (block->begins_row) {
        write_row();
    }
    for (i = 0; i < block->parts; i++) {
        function_t *const function = block->part[i].function;
        running = function->role == HELPS && running != NULL ? running : function;
        running->executed += block->part[i].instructions;
    }
}

static function_t *function_at(uint64_t address)
{
    size_t i;
    for (i = 0; i < function_count; i++) {
        if (address >= functions[i].start && address < functions[i].end) {
            return &functions[i];
        }
    }
    return NULL;
}

/* Blocks are kept until the end: QEMU may run one again after it was translated anew. */
static void translated(uint64_t id, struct qemu_plugin_tb *tb)
{
    const size_t count = qemu_plugin_tb_n_insns(tb);
    block_t *const block = calloc(1, sizeof *block + count * sizeof block->part[0]);
    size_t i;
    (void)id;
    if (block == NULL) {
        abort();
    }
    for (i = 0; i < count; i++) {
        const uint64_t address = qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, i));
        function_t *const function = function_at(address);
        if (function == NULL) {
            continue;
        }
        block->begins_row |=
            i == 0 && function->role == BEGINS_ROW && address == function->start;
        if (block->parts == 0 || block->part[block->parts - 1].function != function) {
            block->part[block->parts++].function = function;
        }
        block->part[block->parts - 1].instructions++;
    }
    if (block->parts == 0) {
        free(block);
        return;
    }
    qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, 0, block);
}

static void ended(uint64_t id, void *data)
{
    (void)id;
    (void)data;
    write_row();
    fclose(out);
}

static bool read_ranges(const char *path)
{
    FILE *const file = fopen(path, "r");
    function_t one = {0, 0, 0, 0};
    if (file == NULL) {
        return false;
    }
    while (fscanf(file, "%" SCNx64 " %" SCNx64 " %x", &one.start, &one.end, &one.role) == 3) {
        functions = realloc(functions, (function_count + 1) * sizeof *functions);
        if (functions == NULL) {
            abort();
        }
        functions[function_count++] = one;
    }
    fclose(file);
    return function_count > 0;
}

int qemu_plugin_install(uint64_t id, const void *info, int count, char **arguments)
{
    bool ready = false;
    int i;
    (void)info;
    for (i = 0; i < count; i++) {
        if (strncmp(arguments[i], "ranges=", 7) == 0) {
            ready = read_ranges(arguments[i] + 7);
        } else if (strncmp(arguments[i], "out=", 4) == 0) {
            out = fopen(arguments[i] + 4, "w");
        }
    }
    if (!ready || out == NULL) {
        fputs("count: needs ranges=FILE and out=FILE\n", stderr);
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
