// SPDX-License-Identifier: MIT OR Apache-2.0
// Looks at what programs of its platform can rely on, in parts that each run in a process of their own:
//
//     depth NONCE PART...
//
// For each part that is named, or begins with that name and a dot, it writes one or more lines
//
//     PART works|broken|absent|unknown [DETAIL]
//
// and then how the part's process ended:
//
//     PART exit CODE
//     PART signal NUMBER
//
// and at the very end the nonce in a line "end NONCE". Its first line is "qemu-persist-depth 1".
#include "depth.h"
#include "exec.h"
#include "isa.h"
#include "memory.h"
#include "syscalls.h"
#include "threads.h"
#if defined(__x86_64__) || defined(__i386__)
#include "pages.h"
#endif

// Seconds after which a part is ended.
#ifndef PART_LIFETIME
#define PART_LIFETIME 15
#endif

typedef void part_function(const char *part, const struct start *start);

struct part {
    const char *name;
    part_function *run;
};

static const struct part parts[] = {
#if defined(__x86_64__) || defined(__i386__)
    { "pages.fragment", pages_fragment },
    { "pages.guard", pages_guard },
    { "pages.wx", pages_wx },
    { "pages.shared", pages_shared },
#endif
    { "isa", isa_level },
#if defined(__x86_64__) || defined(__i386__)
    { "isa.avx2", isa_avx2 },
#endif
    { "exec.path", exec_path },
    { "exec.relative", exec_relative },
    { "exec.argv0", exec_argv0 },
    { "exec.script", exec_script },
    { "exec.self", exec_self },
    { "exec.limits", exec_limits },
    { "setuid", setuid_rights },
    { "threads.fork", threads_fork },
    { "threads.signal", threads_signal },
    { "threads.run", threads_run },
#if defined(__x86_64__) || defined(__i386__)
    { "threads.order", threads_order },
#endif
    { "syscalls.openat2", call_openat2 },
    { "syscalls.statx", call_statx },
    { "syscalls.clone3", call_clone3 },
    { "syscalls.rseq", call_rseq },
    { "syscalls.io_uring_setup", call_io_uring_setup },
    { "syscalls.close_range", call_close_range },
    { "syscalls.getrandom", call_getrandom },
    { "syscalls.memfd_create", call_memfd_create },
    { "syscalls.pidfd_open", call_pidfd_open },
#ifdef __LP64__
    { "address-space", address_space },
#endif
};

static int is_named(const char *part, const char *name)
{
    while (*name && *name == *part) {
        name++;
        part++;
    }
    return !*name && (!*part || *part == '.');
}

static void run_part(const struct part *part, const struct start *start)
{
    long child = make_child();
    if (child == 0) {
        if (!limit_lifetime(PART_LIFETIME))
            leave(OUT_OF_TIME);
#ifdef HANG
        while (same(part->name, HANG))
            __asm__ volatile("");
#endif
#ifdef CRASH
        if (same(part->name, CRASH))
            __builtin_trap();
#endif
        part->run(part->name, start);
        leave(0);
    }
    if (failed(child)) {
        tell_error(part->name, UNKNOWN, "fork", child);
        return;
    }
    long status = await_child(child);
    struct line line;
    int by_signal = status >= 0 && (status & 127) != 0;
    begin_finding(&line, part->name, by_signal ? "signal " : "exit ");
    append_number(&line, by_signal ? (unsigned long)(status & 127) : status < 0 ? 255 : (unsigned long)(status >> 8 & 255));
    finish_finding(&line);
}

static enum status run(const char *nonce, const char *const *arguments)
{
    struct start start;
    find_start(&start, arguments);
    if (nonce && same(nonce, CHILD))
        be_child(&start);
    struct line line;
    line.length = 0;
    append(&line, "qemu-persist-depth 1", 64);
    finish_finding(&line);
    for (const char *const *name = arguments + 2; nonce && *name; name++)
        for (const struct part *part = parts; part < parts + sizeof parts / sizeof *parts; part++)
            if (is_named(part->name, *name))
                run_part(part, &start);
    line.length = 0;
    append(&line, "end ", 4);
    if (nonce)
        append(&line, nonce, NONCE_MAX);
    finish_finding(&line);
    return ANSWERED;
}
