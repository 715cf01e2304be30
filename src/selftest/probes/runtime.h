// SPDX-License-Identifier: MIT OR Apache-2.0
// What every probe is built on: its start, its end, its time limit, and its one line of output.
//
// A probe is one C file that includes this one and defines run(). It has no libc, no writable data
// but the stack (a single read-and-execute segment is all there is to map), and needs a few
// hundred bytes of that. Division and floating point would need a compiler's library: avoid them.
#ifndef RUNTIME_H
#define RUNTIME_H

#include "arch.h"

// Seconds after which a probe ends whatever happens.
#ifndef LIFETIME
#define LIFETIME 120
#endif

// How a probe ends.
enum status {
    ANSWERED = 0,        // the line was written, and standard input has ended
    CANNOT_WRITE = 1,    // the line could not be written
    CANNOT_ASK = 2,      // the system call that was to be probed failed
    OUT_OF_TIME = 3,     // LIFETIME is over, or could not be limited
    ARGUMENT_TOO_LONG = 4, // the tester's nonce does not fit
    CANNOT_BECOME = 5,   // the next program could not be started
};

// The longest nonce a probe repeats, without the zero at its end.
enum { NONCE_MAX = 64 };

// The probe itself. nonce is the tester's argument, or 0; arguments are all of them, with the program's
// own name first and a 0 behind the last.
static enum status run(const char *nonce, const char *const *arguments);

// Ends this process with any code.
static inline __attribute__((noreturn)) void leave(long code)
{
    for (;;)
        system_call(SYS_exit_group, code, 0, 0, 0);
}

static inline __attribute__((noreturn)) void end(enum status status)
{
    leave(status);
}

static __attribute__((noreturn)) void end_late(int signal)
{
    (void)signal;
    end(OUT_OF_TIME);
}

// The process 1 of a container ignores a signal that has no handler, so the default action of
// SIGALRM would not end it.
static inline int limit_lifetime(long seconds)
{
    enum { SIGNAL_ALARM = 14, REAL_TIME = 0 };
    unsigned long action[8];
    // struct itimerval: the interval's seconds and microseconds, then the value's.
    long timer[4];
    ((volatile long *)timer)[0] = ((volatile long *)timer)[1] = ((volatile long *)timer)[3] = 0;
    ((volatile long *)timer)[2] = seconds;
    fill_sigaction(action, end_late);
    return system_call(SYS_rt_sigaction, SIGNAL_ALARM, (long)action, 0, SIGNAL_SET_SIZE) == 0 &&
           system_call(SYS_setitimer, REAL_TIME, (long)timer, 0, 0) == 0;
}

// A line that is put together here and written at once.
struct line {
    unsigned length;
    char text[256];
};

// Appends at most limit characters of text; what does not fit is left out.
static inline void append(struct line *line, const char *text, unsigned limit)
{
    while (limit-- && *text && line->length < sizeof line->text)
        line->text[line->length++] = *text++;
}

// Writes the whole line to standard output: 1 if that was done.
static inline int write_line(const struct line *line)
{
    for (unsigned done = 0; done < line->length;) {
        long written = system_call(SYS_write, 1, (long)(line->text + done), line->length - done, 0);
        if (written <= 0)
            return 0;
        done += (unsigned)written;
    }
    return 1;
}

// Waits until standard input ends or cannot be read, so that a tester can look at the process.
static inline void await_end_of_input(void)
{
    char ignored[64];
    while (system_call(SYS_read, 0, (long)ignored, sizeof ignored, 0) > 0)
        ;
}

// Called by the entry point with the initial stack: argc, then the arguments.
__attribute__((noreturn, used)) void begin(const unsigned long *stack)
{
    if (!limit_lifetime(LIFETIME))
        end(OUT_OF_TIME);
    const char *nonce = stack[0] > 1 ? (const char *)stack[2] : 0;
    unsigned length = 0;
    while (nonce && nonce[length])
        if (++length > NONCE_MAX)
            end(ARGUMENT_TOO_LONG);
    end(run(nonce, (const char *const *)(stack + 1)));
}

#endif
