// SPDX-License-Identifier: MIT OR Apache-2.0
// Where memory lies that a program asks for.
#ifndef MEMORY_H
#define MEMORY_H

#include "depth.h"

#ifdef __LP64__

#if defined(ADDRESS_BITS)
// Given to see whether fewer are noticed.
#elif defined(__x86_64__)
// Go packs pointers of amd64 programs into 48 bits with a sign (runtime/tagptr_64bit.go), as every processor
// without 57-bit addresses does; beyond that it ends with "lfstack.push: invalid packing".
#define ADDRESS_BITS 47
#else
#define ADDRESS_BITS 48
#endif

// The highest address of some mappings, small and large.
static void address_space(const char *part, const struct start *start)
{
    (void)start;
    unsigned long highest = 0;
    for (unsigned shift = 12; shift <= 30; shift += 3) {
        long memory = map_memory(0, 1L << shift, READ | WRITE, PRIVATE | ANONYMOUS, -1, 0);
        unsigned long end_of_it = (unsigned long)memory + (1UL << shift) - 1;
        if (!failed(memory) && end_of_it > highest)
            highest = end_of_it;
    }
    // The stack counts as well.
    if ((unsigned long)&highest > highest)
        highest = (unsigned long)&highest;
    unsigned bits = 0;
    for (unsigned long rest = highest; rest; rest >>= 1)
        bits++;
    struct line line;
    begin_finding(&line, part, bits <= ADDRESS_BITS ? WORKS : BROKEN);
    append(&line, " ", 1);
    append_number(&line, bits);
    append(&line, " bits", 8);
    finish_finding(&line);
}

#endif
#endif
