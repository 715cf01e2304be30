// SPDX-License-Identifier: MIT OR Apache-2.0
// Says what machine the kernel, or QEMU in its place, claims to be:
//
//     qemu-persist-probe 1 MACHINE [NONCE]
//
// and then lives until its standard input ends. What is behind the nonce is a program and its
// arguments, which it then becomes.
#include "runtime.h"

// Six fields of 65 bytes in all of these ABIs: include/uapi/linux/utsname.h, struct new_utsname.
struct utsname {
    char before[4][65];
    char machine[65];
    char domain[65];
};

static enum status run(const char *nonce, const char *const *arguments)
{
    struct utsname name;
    struct line line;
    if (system_call(SYS_uname, (long)&name, 0, 0, 0) != 0)
        return CANNOT_ASK;
    line.length = 0;
    append(&line, "qemu-persist-probe 1 ", 64);
    append(&line, name.machine, sizeof name.machine);
    if (nonce) {
        append(&line, " ", 1);
        append(&line, nonce, NONCE_MAX);
    }
    append(&line, "\n", 1);
    if (!write_line(&line))
        return CANNOT_WRITE;
    await_end_of_input();
    if (!nonce || !arguments[2])
        return ANSWERED;
    const char *const environment[1] = { 0 };
    system_call(SYS_execve, (long)arguments[2], (long)(arguments + 2), (long)environment, 0);
    return CANNOT_BECOME;
}
