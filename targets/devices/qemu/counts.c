/* A QEMU plugin that counts what a marked piece of an aarch64 program executes, by class.
 *
 * The program marks the piece with getpriority(MARK, 1) and getpriority(MARK, 2); elsewhere that
 * is a harmless EINVAL. Counted are the instructions between the two svc's, the second included,
 * of the marking thread alone: other threads wait and spin, differently each time. For each piece
 * one line of JSON is appended to the file given as out=FILE.
 *
 * Exact: each translated block has a record that says what is in it, and a call before each of
 * its executions adds one. A system call ends its block, so a mark never falls inside one.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The part of QEMU's plugin interface, version 1, that is used here; Debian ships no header. */
typedef uint64_t qemu_plugin_id_t;
typedef struct {
    const char *target_name;
    struct { int min, cur; } version;
    bool system_emulation;
    union { struct { int smp_vcpus, max_vcpus; } system; };
} qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);
void qemu_plugin_register_vcpu_tb_trans_cb(
    qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(
    struct qemu_plugin_tb *, void (*)(unsigned, void *), enum qemu_plugin_cb_flags, void *);
void qemu_plugin_register_vcpu_syscall_cb(
    qemu_plugin_id_t, void (*)(qemu_plugin_id_t, unsigned, int64_t, uint64_t, uint64_t, uint64_t,
                               uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));
#define EXPORTED __attribute__((visibility("default")))
EXPORTED int qemu_plugin_version = 1;

#define MARK UINT64_C(0x41524d52)
#define GETPRIORITY 141 /* its number on aarch64 */

/* The first seven are apart and make up the total; the others are parts of SIMD. */
enum {
    LOAD, STORE, BRANCH, INTEGER, SIMD, SVE, OTHER,
    FMLA, SDOT, UDOT, USDOT, SMMLA, UMMLA, USMMLA, MLAL, MULL, BF16,
    CLASSES
};
static const char *const NAMES[CLASSES] = {
    "load", "store", "branch", "int", "simd", "sve", "other",
    "fmla", "sdot", "udot", "usdot", "smmla", "ummla", "usmmla", "mlal", "mull", "bf16",
};

/* Arm Architecture Reference Manual (DDI 0487), C4.1 "A64 instruction set encoding", Advanced SIMD:
 * an instruction is of the class where the bits of `mask` are those of `bits`. Left free: Q (30,
 * 64 or 128 bits), registers, an element's index (L 21, M 20, H 11), and the size where any does.
 */
static const struct { uint32_t mask, bits; int class; } KERNELS[] = {
    {0xBFA0FC00, 0x0E20CC00, FMLA},   /* FMLA vector, single and double */
    {0xBFE0FC00, 0x0E400C00, FMLA},   /*      vector, half */
    {0xBF80F400, 0x0F801000, FMLA},   /*      by element, single and double */
    {0xBFC0F400, 0x0F001000, FMLA},   /*      by element, half */
    {0xBFE0FC00, 0x0E809400, SDOT},   /* vector */
    {0xBFC0F400, 0x0F80E000, SDOT},   /* by element */
    {0xBFE0FC00, 0x2E809400, UDOT},
    {0xBFC0F400, 0x2F80E000, UDOT},
    {0xBFE0FC00, 0x0E809C00, USDOT},
    {0xBFC0F400, 0x0F80F000, USDOT},  /* by element */
    {0xBFC0F400, 0x0F00F000, USDOT},  /* SUDOT by element */
    {0xFFE0FC00, 0x4E80A400, SMMLA},
    {0xFFE0FC00, 0x6E80A400, UMMLA},
    {0xFFE0FC00, 0x4E80AC00, USMMLA},
    {0x9F20FC00, 0x0E208000, MLAL},   /* SMLAL, UMLAL, of any size */
    {0x9F00F400, 0x0F002000, MLAL},   /*      by element */
    {0x9F20FC00, 0x0E20C000, MULL},   /* SMULL, UMULL */
    {0x9F00F400, 0x0F00A000, MULL},   /*      by element */
    {0xBFE0FC00, 0x2E40FC00, BF16},   /* BFDOT */
    {0xBFC0F400, 0x0F40F000, BF16},   /*      by element */
    {0xFFE0FC00, 0x6E40EC00, BF16},   /* BFMMLA */
    {0xBFE0FC00, 0x2EC0FC00, BF16},   /* BFMLALB, BFMLALT */
    {0xBFC0F400, 0x0FC0F000, BF16},   /*      by element */
};

typedef struct block {
    struct block *next;
    uint64_t executed;       /* since the mark */
    uint32_t instructions;
    uint16_t of[CLASSES];
} block;

static block *blocks;        /* all, newest first; read and changed under `lock` */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool taken;           /* a thread is counting; changed under `lock` */
static FILE *out;
/* Each thread of the program is one of ours, so this needs no atomics and costs other threads
 * nothing: only the marking one ever touches `executed`. */
static __thread bool counting;

/* C4.1 "Loads and stores". An atomic that returns the old value is a load. */
static bool is_load(uint32_t w)
{
    uint32_t opc = w >> 22 & 3;
    if ((w & 0x3F000000) == 0x08000000)             /* exclusive, ordered, compare and swap */
        return (opc & 1) || (w & 0x00A07C00) == 0x00A07C00 || (w & 0x80A07C00) == 0x00207C00;
    if ((w & 0xFF200000) == 0xD9200000)             /* memory tags */
        return (opc & 1) && !(w & 0x00000C00);
    if ((w & 0x3B000000) == 0x18000000)             /* literal */
        return true;
    if ((w & 0xBE000000) == 0x0C000000 || (w & 0x3A000000) == 0x28000000) /* structures, pairs */
        return opc & 1;
    if ((w & 0x3B200000) == 0x38200000 && (w & 0x00000C00) != 0x00000800) /* atomics, LDRAA */
        return true;
    return w >> 26 & 1 ? opc & 1 : opc != 0;        /* one register; vector, then general */
}

/* C4.1, "Main encoding table": by bits 28 to 25. */
static int class_of(uint32_t w)
{
    uint32_t op0 = w >> 25 & 15;
    if ((op0 & 5) == 4)
        return is_load(w) ? LOAD : STORE;
    if ((op0 & 14) == 8 || (op0 & 7) == 5)
        return INTEGER;
    if ((op0 & 14) == 10)                           /* D4: exceptions; D5: system; hints */
        return (w & 0xFE000000) == 0xD4000000 ? OTHER : BRANCH;
    if ((op0 & 7) == 7)
        return SIMD;
    return op0 == 2 ? SVE : OTHER;
}

static void classify(uint32_t w, uint16_t of[CLASSES])
{
    int class = class_of(w);
    of[class]++;
    if (class != SIMD)
        return;
    for (size_t i = 0; i < sizeof KERNELS / sizeof *KERNELS; i++)
        if ((w & KERNELS[i].mask) == KERNELS[i].bits) {
            of[KERNELS[i].class]++;
            return;
        }
}

static void execute(unsigned cpu, void *record)
{
    (void)cpu;
    if (counting)
        ((block *)record)->executed++;
}

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    size_t n = qemu_plugin_tb_n_insns(tb);
    block *b = calloc(1, sizeof *b);
    (void)id;
    /* A count that leaves something out is worse than none: give up, and loudly. */
    if (!b || n > UINT16_MAX) {
        fprintf(stderr, "counts: no memory for a block of %zu instructions\n", n);
        abort();
    }
    b->instructions = (uint32_t)n;
    for (size_t i = 0; i < n; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        uint32_t w = 0; /* an instruction that is not a word is UDF, hence OTHER */
        if (qemu_plugin_insn_size(insn) == sizeof w)
            memcpy(&w, qemu_plugin_insn_data(insn), sizeof w);
        classify(w, b->of);
    }
    pthread_mutex_lock(&lock);
    b->next = blocks;
    blocks = b;
    pthread_mutex_unlock(&lock);
    qemu_plugin_register_vcpu_tb_exec_cb(tb, execute, QEMU_PLUGIN_CB_NO_REGS, b);
}

static void begin(void)
{
    pthread_mutex_lock(&lock);
    if (!taken || counting) {
        taken = counting = true;
        for (block *b = blocks; b; b = b->next)
            b->executed = 0;
    }
    pthread_mutex_unlock(&lock);
}

static void end(void)
{
    uint64_t total = 0, sum[CLASSES] = {0};
    if (!counting)
        return;
    counting = false;
    pthread_mutex_lock(&lock);
    for (block *b = blocks; b; b = b->next) {
        total += b->executed * b->instructions;
        for (int i = 0; b->executed && i < CLASSES; i++)
            sum[i] += b->executed * b->of[i];
    }
    fprintf(out, "{\"insns\": %" PRIu64, total);
    for (int i = 0; i < CLASSES; i++)
        fprintf(out, ", \"%s\": %" PRIu64, NAMES[i], sum[i]);
    fprintf(out, "}\n");
    fflush(out);
    taken = false;
    pthread_mutex_unlock(&lock);
}

static void system_call(qemu_plugin_id_t id, unsigned cpu, int64_t number, uint64_t which,
                        uint64_t who, uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6,
                        uint64_t a7, uint64_t a8)
{
    (void)id, (void)cpu, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number != GETPRIORITY || which != MARK)
        return;
    if (who == 1)
        begin();
    else if (who == 2)
        end();
}

EXPORTED int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc,
                                 char **argv)
{
    if (strcmp(info->target_name, "aarch64") != 0 || info->system_emulation) {
        fprintf(stderr, "counts: only for qemu-aarch64, not for %s\n", info->target_name);
        return 1;
    }
    if (argc != 1 || strncmp(argv[0], "out=", 4) != 0 || !(out = fopen(argv[0] + 4, "a"))) {
        fprintf(stderr, "counts: give out=FILE, a file that can be written\n");
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
    qemu_plugin_register_vcpu_syscall_cb(id, system_call);
    return 0;
}
