// SPDX-License-Identifier: MIT OR Apache-2.0
// Processes, signals and threads.
#ifndef THREADS_H
#define THREADS_H

#include "depth.h"

// What threads and signal handlers share: a probe has no data of its own that could be written.
struct scratch {
    volatile int thread;        // the thread's number, which the kernel zeroes when it has ended
    volatile int steps;
    volatile unsigned long inside;
    volatile unsigned long local;
    char between[128];
    volatile long data;
    char also_between[128];
    volatile long flag;
};
#define SCRATCH ((struct scratch *)0x20000000)

enum { STACK = 65536 };

static inline void make_scratch(const char *part)
{
    long memory = map_memory((long)SCRATCH, STACK, READ | WRITE, PRIVATE | ANONYMOUS | FIXED, -1, 0);
    if (memory != (long)SCRATCH) {
        tell_error(part, UNKNOWN, "mmap", memory);
        leave(0);
    }
}

static void threads_fork(const char *part, const struct start *start)
{
    (void)start;
    make_scratch(part);
    SCRATCH->steps = 1;
    long child = make_child();
    if (child == 0) {
        SCRATCH->steps = 2;
        leave(AS_TOLD);
    }
    int right = !failed(child) && code_of(await_child(child)) == AS_TOLD && SCRATCH->steps == 1;
    tell(part, right ? WORKS : BROKEN, right ? "" : "a child did not end as it should, or changed its parent's memory");
}

static void note_signal(int signal)
{
    char here;
    SCRATCH->inside = (unsigned long)&here;
    SCRATCH->steps = signal;
}

// A handler that runs on a stack of its own, and comes back.
static void threads_signal(const char *part, const struct start *start)
{
    (void)start;
    enum { SIGNAL_USER = 10, ON_STACK = 0x08000000 };
    make_scratch(part);
    long room = map_memory(0, STACK, READ | WRITE, PRIVATE | ANONYMOUS, -1, 0);
    // stack_t: the address, flags, the size.
    unsigned long stack[3];
    ((volatile unsigned long *)stack)[0] = (unsigned long)room;
    ((volatile unsigned long *)stack)[1] = 0;
    ((volatile unsigned long *)stack)[2] = STACK;
    unsigned long action[8];
    fill_sigaction(action, note_signal);
    action[1] |= ON_STACK;
#if defined(__x86_64__)
    action[2] = (unsigned long)come_back;
#endif
    long failure = failed(room) ? room : system_call(SYS_sigaltstack, (long)stack, 0, 0, 0);
    if (!failed(failure))
        failure = system_call(SYS_rt_sigaction, SIGNAL_USER, (long)action, 0, SIGNAL_SET_SIZE);
    if (!failed(failure))
        failure = system_call(SYS_kill, system_call(SYS_getpid, 0, 0, 0, 0), SIGNAL_USER, 0, 0);
    if (failed(failure)) {
        tell_error(part, BROKEN, "a signal on a stack of its own", failure);
        return;
    }
    unsigned long inside = SCRATCH->inside, bottom = (unsigned long)room;
    int right = SCRATCH->steps == SIGNAL_USER && inside >= bottom && inside < bottom + STACK;
    tell(part, right ? WORKS : BROKEN, right ? "" : "its handler did not run on the stack that it was given");
}

enum { OF_ONE_PROCESS = 0x50f00, SET_TLS = 0x80000, TELL_PARENT = 0x100000, CLEAR_CHILD = 0x200000 };

// Starts a thread and waits until it has ended: 1 if it has.
static int run_thread(const char *part, void (*function)(void *), void (*meanwhile)(void))
{
    long stack = map_memory(0, STACK, READ | WRITE, PRIVATE | ANONYMOUS, -1, 0);
    SCRATCH->thread = 0;
    struct thread_local_area area;
    long failure = failed(stack) ? stack : prepare_local(&area, (void *)&SCRATCH->local);
    SCRATCH->local = 4711;
    long thread = failed(failure) ? failure
                                  : start_thread(OF_ONE_PROCESS | SET_TLS | TELL_PARENT | CLEAR_CHILD,
                                                 (unsigned long *)(stack + STACK), (int *)&SCRATCH->thread, &area, function);
    if (failed(thread)) {
        tell_error(part, BROKEN, "clone of a thread", thread);
        return 0;
    }
    if (meanwhile)
        meanwhile();
    enum { WAIT = 0 };
    for (int number; (number = SCRATCH->thread) != 0;)
        system_call(SYS_futex, (long)&SCRATCH->thread, WAIT, number, 0);
    return 1;
}

static void count_steps(void *nothing)
{
    (void)nothing;
    for (int i = 0; i < 1000; i++)
        SCRATCH->steps++;
    SCRATCH->inside = read_local();
}

static void threads_run(const char *part, const struct start *start)
{
    (void)start;
    make_scratch(part);
    SCRATCH->steps = 0;
    if (!run_thread(part, count_steps, 0))
        return;
    int counted = SCRATCH->steps == 1000, local = SCRATCH->inside == 4711;
    tell(part, counted && local ? WORKS : BROKEN,
         !counted ? "a thread did not do what it should" : !local ? "a thread does not find what is its own" : "");
}

#if defined(__x86_64__) || defined(__i386__)

// How many messages have to be seen coming, and the most that are sent.
enum { SEEN = 2000, MESSAGES = 30000000 };

static void send_messages(void *nothing)
{
    (void)nothing;
    for (long message = 1; message <= MESSAGES && SCRATCH->inside < SEEN; message++) {
#ifdef SEND_IN_WRONG_ORDER
        SCRATCH->flag = message;
        SCRATCH->data = message;
#else
        SCRATCH->data = message;
        __asm__ volatile("" ::: "memory");
        SCRATCH->flag = message;
#endif
    }
    SCRATCH->flag = -1;
}

static void receive_messages(void)
{
    long message, last = 0;
    while ((message = SCRATCH->flag) != -1) {
        __asm__ volatile("" ::: "memory");
        if (SCRATCH->data < message)
            SCRATCH->steps++;
        if (message != last)
            SCRATCH->inside++;
        last = message;
    }
}

// x86 lets no processor see two writes of another in the other order (TSO), and ARM does: QEMU has to
// take care of that. Where the host is an x86 one as well this cannot fail.
static void threads_order(const char *part, const struct start *start)
{
    (void)start;
    make_scratch(part);
    SCRATCH->steps = 0;
    SCRATCH->inside = 0;
    if (!run_thread(part, send_messages, receive_messages))
        return;
    if (SCRATCH->steps)
        tell(part, BROKEN, "a thread saw what another wrote in the wrong order");
    else if (SCRATCH->inside < SEEN)
        tell(part, UNKNOWN, "two threads hardly ran at the same time");
    else
        tell(part, WORKS, "");
}

#endif
#endif
