// SPDX-License-Identifier: MIT OR Apache-2.0
// System calls that newer programs make, and that QEMU, an old kernel or a container's filter may not know.
#ifndef SYSCALLS_H
#define SYSCALLS_H

#include "depth.h"

enum { HERE = -100 };

// What a call gave where success is not negative. right says whether it also did what it should. Programs fall back where
// there is no such call; with a filter that says EPERM instead many do not (glibc with clone3, moby/moby issue 42680).
static inline void tell_call(const char *part, long result, int right)
{
    if (result == NO_SUCH_CALL)
        tell(part, ABSENT, "ENOSYS");
    else if (failed(result))
        tell_error(part, BROKEN, "it fails with", result);
    else
        tell(part, right ? WORKS : BROKEN, right ? "" : "it has another result than it should");
}

static inline void zero(volatile unsigned char *memory, unsigned length)
{
    while (length--)
        memory[length] = 0;
}

static void call_openat2(const char *part, const struct start *start)
{
    (void)start;
    // struct open_how: flags, mode, resolve, each of 64 bits.
    unsigned char how[24];
    zero(how, sizeof how);
    tell_call(part, system_call(SYS_openat2, HERE, (long)"/", (long)how, sizeof how), 1);
}

static void call_statx(const char *part, const struct start *start)
{
    (void)start;
    // struct statx: stx_mode is at 28, and holds the kind of file.
    enum { BASIC = 0x7ff, MODE = 28, KIND = 0170000, DIRECTORY = 0040000 };
    unsigned char buffer[256];
    zero(buffer, sizeof buffer);
    long result = system_call_5(SYS_statx, HERE, (long)"/", 0, BASIC, (long)buffer);
    unsigned mode = (unsigned)((volatile unsigned char *)buffer)[MODE] | (unsigned)((volatile unsigned char *)buffer)[MODE + 1] << 8;
    tell_call(part, result, (mode & KIND) == DIRECTORY);
}

static void call_clone3(const char *part, const struct start *start)
{
    (void)start;
    // struct clone_args, of which exit_signal is the fifth word of 64 bits.
    unsigned char arguments[64];
    zero(arguments, sizeof arguments);
    arguments[32] = SIGNAL_CHILD;
    long child = system_call(SYS_clone3, (long)arguments, sizeof arguments, 0, 0);
    if (child == 0)
        leave(77);
    tell_call(part, child, failed(child) || code_of(await_child(child)) == 77);
}

static void call_rseq(const char *part, const struct start *start)
{
    (void)start;
    // struct rseq has to be aligned to 32 bytes.
    unsigned char area[32] __attribute__((aligned(32)));
    zero(area, sizeof area);
    tell_call(part, system_call(SYS_rseq, (long)area, sizeof area, 0, 0x53053053), 1);
}

static void call_io_uring_setup(const char *part, const struct start *start)
{
    (void)start;
    unsigned char parameters[120];
    zero(parameters, sizeof parameters);
    long result = system_call(SYS_io_uring_setup, 1, (long)parameters, 0, 0);
    // Docker's own profile refuses it on purpose, and there is a setting for that (kernel.io_uring_disabled).
    if (result == NOT_PERMITTED)
        tell(part, ABSENT, "EPERM");
    else
        tell_call(part, result, 1);
}

static void call_close_range(const char *part, const struct start *start)
{
    (void)start;
    tell_call(part, system_call(SYS_close_range, 100, 200, 0, 0), 1);
}

static void call_getrandom(const char *part, const struct start *start)
{
    (void)start;
    unsigned char bytes[16];
    enum { DO_NOT_WAIT = 1 };
    long result = system_call(SYS_getrandom, (long)bytes, sizeof bytes, DO_NOT_WAIT, 0);
    tell_call(part, result, result == sizeof bytes);
}

static void call_memfd_create(const char *part, const struct start *start)
{
    (void)start;
    tell_call(part, system_call(SYS_memfd_create, (long)"probe", 0, 0, 0), 1);
}

static void call_pidfd_open(const char *part, const struct start *start)
{
    (void)start;
    tell_call(part, system_call(SYS_pidfd_open, system_call(SYS_getpid, 0, 0, 0, 0), 0, 0, 0), 1);
}

#endif
