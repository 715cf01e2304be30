// SPDX-License-Identifier: MIT OR Apache-2.0
// Whether a program can start another one, in all the ways in which programs do that.
#ifndef EXEC_H
#define EXEC_H

#include "depth.h"

// The first argument of a program that was started to say what it was given.
#define CHILD "=child"
// What is behind the program's own path in that of a script that it interprets.
#define SCRIPT ".script"

enum { AS_TOLD = 77, OTHERWISE = 78, NOT_STARTED = 100 };
enum { LONG_ARGUMENT = 131071, LONG_VARIABLE = 100000, LONG_VARIABLES = 8 };

static inline long length_of(const char *text)
{
    long length = 0;
    while (text[length])
        length++;
    return length;
}

// What such a child was given: its mode, and what goes with that.
static inline __attribute__((noreturn)) void be_child(const struct start *start)
{
    const char *const *arguments = start->arguments;
    const char *mode = arguments[2] ? arguments[2] : "";
    int right = 0;
    if (*mode == '/') {
        // The path of a script, which the kernel put there.
        right = 1;
    } else if (same(mode, "name")) {
        right = arguments[3] && same(arguments[0], arguments[3]);
    } else if (same(mode, "rights")) {
        right = system_call(SYS_geteuid, 0, 0, 0, 0) == 0 && system_call(SYS_getuid, 0, 0, 0, 0) != 0;
    } else if (same(mode, "long")) {
        right = arguments[3] && length_of(arguments[3]) == LONG_ARGUMENT && !arguments[4];
        int variables = 0;
        for (const char *const *variable = start->environment; *variable; variable++)
            variables += length_of(*variable) == LONG_VARIABLE;
        right &= variables == LONG_VARIABLES;
    }
    leave(right ? AS_TOLD : OTHERWISE);
}

// Starts a program, and gives the status of wait(2) with which it ended.
static long run_child(const char *part, const char *path, const char *const *arguments, const char *const *environment)
{
    long child = make_child();
    if (child == 0) {
        long result = system_call(SYS_execve, (long)path, (long)arguments, (long)environment, 0);
        leave(NOT_STARTED - result);
    }
    if (failed(child)) {
        tell_error(part, UNKNOWN, "fork", child);
        leave(0);
    }
    return await_child(child);
}

static void tell_child(const char *part, const char *path, const char *const *arguments, const char *const *environment)
{
    long status = run_child(part, path, arguments, environment), code = code_of(status);
    struct line line;
    if (code == AS_TOLD) {
        tell(part, WORKS, "");
    } else if (code == OTHERWISE) {
        tell(part, BROKEN, "it was not given what it was started with");
    } else if (code > NOT_STARTED) {
        tell_error(part, BROKEN, "execve", NOT_STARTED - code);
    } else {
        begin_finding(&line, part, BROKEN);
        append(&line, code < 0 ? " it was ended by signal " : " it ended with status ", 32);
        append_number(&line, (unsigned long)(code < 0 ? status & 127 : code));
        finish_finding(&line);
    }
}

static void exec_as(const char *part, const char *path, const char *name)
{
    const char *arguments[5], *environment[1];
    arguments[0] = name;
    arguments[1] = CHILD;
    arguments[2] = "name";
    arguments[3] = name;
    arguments[4] = environment[0] = 0;
    tell_child(part, path, arguments, environment);
}

static void exec_path(const char *part, const struct start *start)
{
    exec_as(part, start->arguments[0], start->arguments[0]);
}

// QEMU is told a program's own name only where its handler has the flag P.
static void exec_argv0(const char *part, const struct start *start)
{
    exec_as(part, start->arguments[0], "another name");
}

static void exec_self(const char *part, const struct start *start)
{
    (void)start;
    long proc = system_call(SYS_chdir, (long)"/proc/self", 0, 0, 0);
    if (failed(proc))
        tell_error(part, UNKNOWN, "/proc/self", proc);
    else
        exec_as(part, "/proc/self/exe", "/proc/self/exe");
}

// Copies text and what follows it, and gives whether there was room.
static inline int join(char *to, unsigned room, const char *text, const char *more)
{
    unsigned length = 0;
    for (; *text && length < room; text++)
        ((volatile char *)to)[length++] = *text;
    for (; *more && length < room; more++)
        ((volatile char *)to)[length++] = *more;
    if (length >= room)
        return 0;
    ((volatile char *)to)[length] = 0;
    return 1;
}

static void exec_relative(const char *part, const struct start *start)
{
    char directory[256];
    const char *path = start->arguments[0], *name = path;
    if (!join(directory, sizeof directory, path, "")) {
        tell(part, UNKNOWN, "the path is too long");
        return;
    }
    for (const char *at = path; *at; at++)
        if (*at == '/')
            name = at + 1;
    // "/" itself keeps its slash.
    directory[name - path > 1 ? name - path - 1 : name - path] = 0;
    if (name != path)
        system_call(SYS_chdir, (long)directory, 0, 0, 0);
    exec_as(part, name, name);
}

static void exec_script(const char *part, const struct start *start)
{
    char script[256];
    const char *arguments[2], *environment[1];
    if (!join(script, sizeof script, start->arguments[0], SCRIPT)) {
        tell(part, UNKNOWN, "the path is too long");
        return;
    }
    arguments[0] = script;
    arguments[1] = environment[0] = 0;
    tell_child(part, script, arguments, environment);
}

// What is behind the program's own path in that of a copy that is root's and setuid.
#define SETUID ".setuid"

// Whether a setuid program gains its owner's rights, which is no merit: where the handler has the flag C, QEMU itself
// runs with them.
static void setuid_rights(const char *part, const struct start *start)
{
    enum { GET_NO_NEW_PRIVILEGES = 39 };
    char program[256];
    const char *arguments[4], *environment[1];
    if (!join(program, sizeof program, start->arguments[0], SETUID)) {
        tell(part, UNKNOWN, "the path is too long");
        return;
    }
    if (system_call(SYS_getuid, 0, 0, 0, 0) == 0) {
        tell(part, UNKNOWN, "it is root itself here");
        return;
    }
    if (system_call_5(SYS_prctl, GET_NO_NEW_PRIVILEGES, 0, 0, 0, 0) != 0) {
        tell(part, UNKNOWN, "no program gains rights in this container");
        return;
    }
    arguments[0] = program;
    arguments[1] = CHILD;
    arguments[2] = "rights";
    arguments[3] = environment[0] = 0;
    long code = code_of(run_child(part, program, arguments, environment));
    if (code == AS_TOLD || code == OTHERWISE)
        tell(part, WORKS, code == AS_TOLD ? "gained" : "not gained");
    else if (code > NOT_STARTED)
        tell_error(part, UNKNOWN, "execve", NOT_STARTED - code);
    else
        tell(part, UNKNOWN, "it did not say");
}

// One argument of the greatest length (MAX_ARG_STRLEN), and nearly a megabyte in all. No two variables have the same
// name, since QEMU keeps one of each.
static void exec_limits(const char *part, const struct start *start)
{
    enum { WHOLE = LONG_ARGUMENT + 1 + LONG_VARIABLES * (LONG_VARIABLE + 1) };
    long memory = map_memory(0, WHOLE, READ | WRITE, PRIVATE | ANONYMOUS, -1, 0);
    if (failed(memory)) {
        tell_error(part, UNKNOWN, "mmap", memory);
        return;
    }
    volatile char *text = (volatile char *)memory;
    for (long at = 0; at < WHOLE - 1; at++)
        text[at] = 'x';
    const char *arguments[5], *environment[LONG_VARIABLES + 1];
    arguments[0] = start->arguments[0];
    arguments[1] = CHILD;
    arguments[2] = "long";
    arguments[3] = (const char *)text;
    arguments[4] = 0;
    text[LONG_ARGUMENT] = 0;
    for (int i = 0; i < LONG_VARIABLES; i++) {
        volatile char *variable = text + LONG_ARGUMENT + 1 + i * (LONG_VARIABLE + 1);
        variable[0] = (char)('A' + i);
        variable[1] = '=';
        variable[LONG_VARIABLE] = 0;
        ((const char *volatile *)environment)[i] = (const char *)variable;
    }
    environment[LONG_VARIABLES] = 0;
    tell_child(part, start->arguments[0], arguments, environment);
}

#endif
