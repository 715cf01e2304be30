// SPDX-License-Identifier: MIT OR Apache-2.0
// What the parts of the depth probe are built on.
#ifndef DEPTH_H
#define DEPTH_H

#include "runtime.h"

enum { PAGE = 4096 };
enum { READ = 1, WRITE = 2, EXECUTE = 4 };
enum { SHARED = 1, PRIVATE = 2, FIXED = 16, ANONYMOUS = 32 };
enum { NO_SUCH_CALL = -38, NOT_PERMITTED = -1 };

// What the kernel, or QEMU in its place, gives a program at its start.
struct start {
    const char *const *arguments;
    const char *const *environment;
    // Pairs of a kind and a value: getauxval(3).
    const unsigned long *auxiliary;
};

static inline void find_start(struct start *start, const char *const *arguments)
{
    start->arguments = arguments;
    while (*arguments++)
        ;
    start->environment = arguments;
    while (*arguments++)
        ;
    start->auxiliary = (const unsigned long *)arguments;
}

static inline unsigned long auxiliary(const struct start *start, unsigned long kind)
{
    const unsigned long *pair = start->auxiliary;
    while (*pair && *pair != kind)
        pair += 2;
    return *pair ? pair[1] : 0;
}

// What a part has found out.
#define WORKS "works"
#define BROKEN "broken"
// Nothing is there that could be broken: programs are told so and can do without.
#define ABSENT "absent"
// It could not be found out.
#define UNKNOWN "unknown"

// Appends a number in decimal, without a division, which some processors do not have.
static inline void append_number(struct line *line, unsigned long number)
{
    int begun = 0;
    for (unsigned long power = 1000000000; power; power = power == 1000000000 ? 100000000 : power == 100000000 ? 10000000
             : power == 10000000 ? 1000000 : power == 1000000 ? 100000 : power == 100000 ? 10000 : power == 10000 ? 1000
             : power == 1000 ? 100 : power == 100 ? 10 : power == 10 ? 1 : 0) {
        char digit = '0';
        while (number >= power) {
            number -= power;
            digit++;
        }
        begun |= digit != '0' || power == 1;
        if (begun)
            append(line, &digit, 1);
    }
}

static inline void append_hex(struct line *line, unsigned long number)
{
    int begun = 0;
    append(line, "0x", 2);
    for (int shift = (int)sizeof number * 8 - 4; shift >= 0; shift -= 4) {
        char digit = "0123456789abcdef"[number >> shift & 15];
        begun |= digit != '0' || shift == 0;
        if (begun)
            append(line, &digit, 1);
    }
}

// The line of a part: its name, what it found out, and in what that shows.
static inline void begin_finding(struct line *line, const char *part, const char *found)
{
    line->length = 0;
    append(line, part, 64);
    append(line, " ", 1);
    append(line, found, 16);
}

static inline void finish_finding(struct line *line)
{
    append(line, "\n", 1);
    if (!write_line(line))
        end(CANNOT_WRITE);
}

static inline void tell(const char *part, const char *found, const char *detail)
{
    struct line line;
    begin_finding(&line, part, found);
    if (*detail) {
        append(&line, " ", 1);
        append(&line, detail, 120);
    }
    finish_finding(&line);
}

// As tell(), of a system call that failed: result is the negative number of its error.
static inline void tell_error(const char *part, const char *found, const char *call, long result)
{
    struct line line;
    begin_finding(&line, part, found);
    append(&line, " ", 1);
    append(&line, call, 64);
    append(&line, " errno ", 16);
    append_number(&line, (unsigned long)-result);
    finish_finding(&line);
}

static inline int failed(long result)
{
    return (unsigned long)result >= (unsigned long)-4095;
}

static inline int same(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

// Waits for a child and gives the status of wait(2), or a negative number.
static inline long await_child(long child)
{
    volatile int status = 0;
    long result = system_call(SYS_wait4, child, (long)&status, 0, 0);
    return result == child ? status : -1;
}

// The exit code that a status of wait(2) holds; -1 for a signal's.
static inline long code_of(long status)
{
    return status >= 0 && (status & 127) == 0 ? status >> 8 & 255 : -1;
}

#endif
