// SPDX-License-Identifier: MIT OR Apache-2.0
// Which instructions a program is told that it may use.
#ifndef ISA_H
#define ISA_H

#include "depth.h"

#if defined(__x86_64__) || defined(__i386__)

struct registers {
    unsigned a, b, c, d;
};

static inline struct registers cpuid(unsigned leaf)
{
    struct registers r;
    __asm__ volatile("cpuid" : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d) : "a"(leaf), "c"(0));
    return r;
}

static inline int has(unsigned word, unsigned bits)
{
    return (word & bits) == bits;
}

// The states that the system keeps (XCR0).
static inline unsigned kept_states(struct registers one)
{
    unsigned low = 0, high;
    if (has(one.c, 1u << 27))
        __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

// The levels of the x86-64 psABI, "Micro-Architecture Levels".
static unsigned level(void)
{
    struct registers most = cpuid(0), one = cpuid(1), extended = cpuid(0x80000000u), more = { 0, 0, 0, 0 };
    struct registers seven = { 0, 0, 0, 0 };
    if (most.a >= 7)
        seven = cpuid(7);
    if (extended.a >= 0x80000001u)
        more = cpuid(0x80000001u);
    unsigned states = kept_states(one);
    // SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT; LAHF.
    if (!has(one.c, 1u << 0 | 1u << 9 | 1u << 13 | 1u << 19 | 1u << 20 | 1u << 23) || !has(more.c, 1u << 0))
        return 1;
    // FMA, MOVBE, OSXSAVE, AVX, F16C; BMI1, AVX2, BMI2; LZCNT.
    if (!has(one.c, 1u << 12 | 1u << 22 | 1u << 27 | 1u << 28 | 1u << 29) || !has(seven.b, 1u << 3 | 1u << 5 | 1u << 8) ||
        !has(more.c, 1u << 5) || !has(states, 6))
        return 2;
    // AVX512F, DQ, CD, BW, VL.
    if (!has(seven.b, 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31) || !has(states, 0xe6))
        return 3;
    return 4;
}

static void isa_level(const char *part, const struct start *start)
{
    (void)start;
    static const char *const names[] = { "x86-64-v1", "x86-64-v2", "x86-64-v3", "x86-64-v4" };
    tell(part, WORKS, names[level() - 1]);
}

// Whether an instruction that is offered gives the right result: one of AVX2 on all of 256 bits.
static void isa_avx2(const char *part, const struct start *start)
{
    (void)start;
    if (cpuid(0).a < 7 || !has(cpuid(7).b, 1u << 5) || !has(kept_states(cpuid(1)), 6)) {
        tell(part, ABSENT, "programs are told that there is no AVX2");
        return;
    }
    unsigned sum[8], one[8], other[8];
    for (unsigned i = 0; i < 8; i++) {
        ((volatile unsigned *)one)[i] = 0x01020304u + i;
        ((volatile unsigned *)other)[i] = 0xfffffff0u + 5 * i;
        ((volatile unsigned *)sum)[i] = 0;
    }
    __asm__ volatile("vmovdqu (%0), %%ymm0\n vpaddd (%1), %%ymm0, %%ymm0\n vmovdqu %%ymm0, (%2)\n vzeroupper"
                     :
                     : "r"(one), "r"(other), "r"(sum)
                     : "memory");
    int right = 1;
    for (unsigned i = 0; i < 8; i++)
        right &= ((volatile unsigned *)sum)[i] == 0x01020304u + i + 0xfffffff0u + 5 * i;
    tell(part, right ? WORKS : BROKEN, right ? "" : "an addition of eight numbers gave a wrong result");
}

#else

// The words of getauxval(3), whose bits are in arch/*/include/uapi/asm/hwcap.h.
static void isa_level(const char *part, const struct start *start)
{
    enum { AT_HWCAP = 16, AT_HWCAP2 = 26 };
    struct line line;
    begin_finding(&line, part, WORKS);
    append(&line, " ", 1);
    append_hex(&line, auxiliary(start, AT_HWCAP));
    append(&line, " ", 1);
    append_hex(&line, auxiliary(start, AT_HWCAP2));
    finish_finding(&line);
}

#endif
#endif
