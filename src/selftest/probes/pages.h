// SPDX-License-Identifier: MIT OR Apache-2.0
// What programs that are laid out for pages of 4096 bytes ask of memory, which QEMU cannot always
// give on a host whose pages are larger: linux-user/mmap.c of QEMU, and tonistiigi/binfmt issue 307.
#ifndef PAGES_H
#define PAGES_H

#include "depth.h"

static void end_by_fault(int signal)
{
    (void)signal;
    leave(42);
}

// Whether writing to an address ends a child with SIGSEGV: 1 or 0, or -1 where that cannot be seen.
static inline int faults(volatile char *address)
{
    enum { SIGNAL_FAULT = 11 };
    long child = make_child();
    if (child == 0) {
        unsigned long action[8];
        fill_sigaction(action, end_by_fault);
        if (system_call(SYS_rt_sigaction, SIGNAL_FAULT, (long)action, 0, SIGNAL_SET_SIZE) != 0)
            leave(1);
        *address = 1;
        leave(0);
    }
    long code = child > 0 ? code_of(await_child(child)) : -1;
    return code == 42 ? 1 : code == 0 ? 0 : -1;
}

// A file of so many pages, each of which begins with its number.
static inline long numbered_file(const char *part, int pages)
{
    long file = system_call(SYS_memfd_create, (long)"pages", 0, 0, 0);
    if (failed(file)) {
        tell_error(part, UNKNOWN, "memfd_create", file);
        leave(0);
    }
    long failure = system_call(SYS_ftruncate, file, (long)pages * PAGE, 0, 0);
    long memory = failed(failure) ? failure : map_memory(0, (long)pages * PAGE, READ | WRITE, SHARED, file, 0);
    if (failed(memory)) {
        tell_error(part, UNKNOWN, "a file in memory", memory);
        leave(0);
    }
    for (int page = 0; page < pages; page++)
        ((volatile char *)memory)[(long)page * PAGE] = (char)page;
    system_call(SYS_munmap, memory, (long)pages * PAGE, 0, 0);
    return file;
}

// What the dynamic linker does with a library whose data begin in the page that its code ends in: the
// file is mapped for more than it has, and its last page then once more behind its end, to be written.
static void pages_fragment(const char *part, const struct start *start)
{
    (void)start;
    enum { PAGES = 16, BEHIND = 4 };
    long file = numbered_file(part, PAGES);
    long base = map_memory(0, (PAGES + BEHIND) * PAGE, READ, PRIVATE, file, 0);
    if (failed(base)) {
        tell_error(part, BROKEN, "mmap of a file", base);
        return;
    }
    long placed = map_memory(base + PAGES * PAGE, PAGE, READ | WRITE, PRIVATE | FIXED, file, (PAGES - 1) * PAGE);
    if (failed(placed)) {
        tell_error(part, BROKEN, "mmap of a page behind the end of a file", placed);
        return;
    }
    volatile char *data = (volatile char *)placed;
    int right = data[0] == PAGES - 1 && data[PAGE - 1] == 0;
    data[0] = 77;
    data[PAGE - 1] = 78;
    volatile char *before = (volatile char *)base;
    for (int page = 0; page < PAGES; page++)
        right &= before[(long)page * PAGE] == page;
    right &= data[0] == 77 && data[PAGE - 1] == 78;
    tell(part, right ? WORKS : BROKEN, right ? "" : "the page has another content than its file");
}

static void tell_faults(const char *part, int found, const char *otherwise)
{
    if (found < 0)
        tell(part, UNKNOWN, "what a child did could not be seen");
    else
        tell(part, found ? WORKS : BROKEN, found ? "" : otherwise);
}

static void pages_guard(const char *part, const struct start *start)
{
    (void)start;
    long base = map_memory(0, 16 * PAGE, READ | WRITE, PRIVATE | ANONYMOUS, -1, 0);
    // In the middle of whatever the host's pages are, up to 16 KiB.
    long guard = base + 5 * PAGE;
    long failure = failed(base) ? base : system_call(SYS_mprotect, guard, PAGE, 0, 0);
    if (failed(failure))
        tell_error(part, BROKEN, "mprotect of one page", failure);
    else
        tell_faults(part, faults((volatile char *)guard), "a page that is forbidden can be written");
}

static void pages_wx(const char *part, const struct start *start)
{
    (void)start;
    long base = map_memory(0, 16 * PAGE, READ | WRITE, PRIVATE | ANONYMOUS, -1, 0);
    long code = base + 5 * PAGE;
    long failure = failed(base) ? base : system_call(SYS_mprotect, code, PAGE, READ | EXECUTE, 0);
    if (failed(failure))
        tell_error(part, BROKEN, "mprotect of one page", failure);
    else
        tell_faults(part, faults((volatile char *)code), "a page of code can be written, since its neighbours can");
}

static void pages_shared(const char *part, const struct start *start)
{
    (void)start;
    enum { PAGES = 16 };
    long file = numbered_file(part, PAGES);
    long whole = map_memory(0, PAGES * PAGE, READ | WRITE, SHARED, file, 0);
    long room = map_memory(0, 2 * PAGES * PAGE, 0, PRIVATE | ANONYMOUS, -1, 0);
    if (failed(whole) || failed(room)) {
        tell_error(part, UNKNOWN, "mmap", failed(whole) ? whole : room);
        return;
    }
    long placed = map_memory(room + 3 * PAGE, PAGE, READ | WRITE, SHARED | FIXED, file, 6 * PAGE);
    if (failed(placed)) {
        tell_error(part, BROKEN, "mmap of one shared page", placed);
        return;
    }
    volatile char *one = (volatile char *)placed, *other = (volatile char *)(whole + 6 * PAGE);
    int right = one[0] == 6;
    one[1] = 55;
    right &= other[1] == 55;
    other[2] = 66;
    right &= one[2] == 66;
    tell(part, right ? WORKS : BROKEN, right ? "" : "what one writes the other does not read");
}

#endif
