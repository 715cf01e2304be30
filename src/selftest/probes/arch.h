// SPDX-License-Identifier: MIT OR Apache-2.0
// All that differs between the architectures: the entry point, the system call instruction, the
// numbers of the system calls and the layout of the kernel's struct sigaction.
//
// Numbers: the kernel's arch/*/entry/syscalls/*.tbl, and asm-generic/unistd.h for arm64, riscv64
// and loongarch64. Registers: syscall(2). Every one of them is run by the tests.
#ifndef ARCH_H
#define ARCH_H

// The entry point hands the initial stack (argc, argv...) to begin() in the first argument register.
#define ENTRY(instructions) \
    __asm__(".section .text.entry,\"ax\"\n.globl _start\n.type _start,%function\n_start:\n" instructions "\n.text\n")

#define REGISTER(variable, name, value) register long variable __asm__(name) = (value)

// The kernel's sigset_t, in bytes.
#if defined(__mips__)
#define SIGNAL_SET_SIZE 16
#else
#define SIGNAL_SET_SIZE 8
#endif

// The same on every architecture whose depth is probed.
enum { SIGNAL_CHILD = 17 };
enum { SYS_io_uring_setup = 425, SYS_pidfd_open = 434, SYS_clone3 = 435, SYS_close_range = 436, SYS_openat2 = 437 };

// What a thread's own pointer is made from. Where that is a register, nothing but its value.
#if defined(__x86_64__) || defined(__aarch64__) || defined(__arm__)
struct thread_local_area {
    void *base;
};

static inline long prepare_local(struct thread_local_area *area, void *base)
{
    area->base = base;
    return 0;
}
#endif

#if defined(__x86_64__)

enum { SYS_read = 0, SYS_write = 1, SYS_rt_sigaction = 13, SYS_setitimer = 38, SYS_execve = 59, SYS_uname = 63, SYS_exit_group = 231 };

ENTRY("xorl %ebp, %ebp\n movq %rsp, %rdi\n andq $-16, %rsp\n call begin");

static inline long system_call(long number, long a, long b, long c, long d)
{
    REGISTER(r10, "r10", d);
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
}

#define HAS_DEPTH 1
enum {
    SYS_close = 3, SYS_mmap = 9, SYS_mprotect = 10, SYS_munmap = 11, SYS_getpid = 39, SYS_fork = 57, SYS_wait4 = 61,
    SYS_kill = 62, SYS_ftruncate = 77, SYS_chdir = 80, SYS_sigaltstack = 131, SYS_arch_prctl = 158, SYS_futex = 202,
    SYS_clone = 56, SYS_getuid = 102, SYS_geteuid = 107, SYS_prctl = 157, SYS_getrandom = 318, SYS_memfd_create = 319, SYS_statx = 332, SYS_rseq = 334,
};

static inline long system_call_6(long number, long a, long b, long c, long d, long e, long f)
{
    REGISTER(r10, "r10", d);
    REGISTER(r8, "r8", e);
    REGISTER(r9, "r9", f);
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

// Where a signal's handler returns to: rt_sigreturn(2).
__asm__(".text\ncome_back:\n movl $15, %eax\n syscall");
void come_back(void);

// The word that the thread's own pointer leads to.
static inline unsigned long read_local(void)
{
    unsigned long word;
    __asm__ volatile("movq %%fs:0, %0" : "=r"(word));
    return word;
}

// clone(2) with a stack of which end is behind the last word. The thread calls function and ends.
static inline long start_thread(long flags, unsigned long *end, int *number, struct thread_local_area *area,
                                void (*function)(void *))
{
    end[-2] = (unsigned long)function;
    end[-1] = 0;
    REGISTER(r10, "r10", (long)number);
    REGISTER(r8, "r8", (long)area->base);
    long result;
    __asm__ volatile("syscall\n testq %%rax, %%rax\n jnz 1f\n"
                     "xorl %%ebp, %%ebp\n popq %%rax\n popq %%rdi\n call *%%rax\n"
                     "movl $60, %%eax\n xorl %%edi, %%edi\n syscall\n hlt\n1:"
                     : "=a"(result)
                     : "a"(SYS_clone), "D"(flags), "S"(end - 2), "d"(number), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}

#elif defined(__i386__)

enum { SYS_read = 3, SYS_write = 4, SYS_execve = 11, SYS_setitimer = 104, SYS_uname = 122, SYS_rt_sigaction = 174, SYS_exit_group = 252 };

ENTRY("xorl %ebp, %ebp\n movl %esp, %eax\n andl $-16, %esp\n subl $12, %esp\n pushl %eax\n call begin");

static inline long system_call(long number, long a, long b, long c, long d)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d) : "memory");
    return result;
}

#define HAS_DEPTH 1
enum {
    SYS_fork = 2, SYS_close = 6, SYS_chdir = 12, SYS_getpid = 20, SYS_kill = 37, SYS_clone = 120, SYS_sigaltstack = 186,
    SYS_prctl = 172, SYS_getuid = 199, SYS_geteuid = 201, SYS_futex = 240, SYS_set_thread_area = 243, SYS_mmap = 90, SYS_munmap = 91, SYS_ftruncate = 93,
    SYS_wait4 = 114, SYS_mprotect = 125, SYS_getrandom = 355, SYS_memfd_create = 356, SYS_statx = 383, SYS_rseq = 386,
};

static inline long system_call_5(long number, long a, long b, long c, long d, long e)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e) : "memory");
    return result;
}

// The old call, which takes its arguments from memory: a sixth register would be the frame pointer.
static inline long map_memory(long at, long length, long protection, long flags, long file, long offset)
{
    volatile long arguments[6];
    arguments[0] = at;
    arguments[1] = length;
    arguments[2] = protection;
    arguments[3] = flags;
    arguments[4] = file;
    arguments[5] = offset;
    return system_call(SYS_mmap, (long)arguments, 0, 0, 0);
}

// struct user_desc (arch/x86/include/uapi/asm/ldt.h).
struct thread_local_area {
    unsigned entry, base, limit, flags;
};

// Takes a free entry of the process's table of segments: set_thread_area(2).
static inline long prepare_local(struct thread_local_area *area, void *base)
{
    enum { SEGMENT_32BIT = 1, LIMIT_IN_PAGES = 16, USEABLE = 64 };
    area->entry = -1u;
    area->base = (unsigned)base;
    area->limit = 0xfffff;
    area->flags = SEGMENT_32BIT | LIMIT_IN_PAGES | USEABLE;
    long result = system_call(SYS_set_thread_area, (long)area, 0, 0, 0);
    if (result == 0)
        __asm__ volatile("movl %0, %%gs" : : "r"(area->entry * 8 + 3));
    return result;
}

static inline unsigned long read_local(void)
{
    unsigned long word;
    __asm__ volatile("movl %%gs:0, %0" : "=r"(word));
    return word;
}

static inline long start_thread(long flags, unsigned long *end, int *number, struct thread_local_area *area,
                                void (*function)(void *))
{
    end[-4] = (unsigned long)function;
    end[-3] = 0;
    long result;
    __asm__ volatile("int $0x80\n testl %%eax, %%eax\n jnz 1f\n"
                     "popl %%eax\n call *%%eax\n"
                     "movl $1, %%eax\n xorl %%ebx, %%ebx\n int $0x80\n hlt\n1:"
                     : "=a"(result)
                     : "a"(SYS_clone), "b"(flags), "c"(end - 4), "d"(number), "S"(area), "D"(number)
                     : "memory");
    return result;
}

#elif defined(__aarch64__)

enum { SYS_read = 63, SYS_write = 64, SYS_exit_group = 94, SYS_setitimer = 103, SYS_rt_sigaction = 134, SYS_uname = 160, SYS_execve = 221 };

ENTRY("mov x29, #0\n mov x30, #0\n mov x0, sp\n b begin");

static inline long system_call(long number, long a, long b, long c, long d)
{
    REGISTER(x8, "x8", number);
    REGISTER(x0, "x0", a);
    REGISTER(x1, "x1", b);
    REGISTER(x2, "x2", c);
    REGISTER(x3, "x3", d);
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory", "cc");
    return x0;
}

#define HAS_DEPTH 1
enum {
    SYS_ftruncate = 46, SYS_chdir = 49, SYS_futex = 98, SYS_kill = 129, SYS_sigaltstack = 132, SYS_close = 57,
    SYS_prctl = 167, SYS_getuid = 174, SYS_geteuid = 175, SYS_getpid = 172, SYS_munmap = 215, SYS_clone = 220, SYS_mmap = 222,
    SYS_mprotect = 226, SYS_wait4 = 260, SYS_getrandom = 278, SYS_memfd_create = 279, SYS_statx = 291, SYS_rseq = 293,
};

static inline long system_call_6(long number, long a, long b, long c, long d, long e, long f)
{
    REGISTER(x8, "x8", number);
    REGISTER(x0, "x0", a);
    REGISTER(x1, "x1", b);
    REGISTER(x2, "x2", c);
    REGISTER(x3, "x3", d);
    REGISTER(x4, "x4", e);
    REGISTER(x5, "x5", f);
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory", "cc");
    return x0;
}

static inline long make_child(void)
{
    return system_call(SYS_clone, SIGNAL_CHILD, 0, 0, 0);
}

static inline unsigned long read_local(void)
{
    unsigned long *base;
    __asm__ volatile("mrs %0, tpidr_el0" : "=r"(base));
    return *base;
}

static inline long start_thread(long flags, unsigned long *end, int *number, struct thread_local_area *area,
                                void (*function)(void *))
{
    end[-2] = (unsigned long)function;
    end[-1] = 0;
    REGISTER(x8, "x8", SYS_clone);
    REGISTER(x0, "x0", flags);
    REGISTER(x1, "x1", (long)(end - 2));
    REGISTER(x2, "x2", (long)number);
    REGISTER(x3, "x3", (long)area->base);
    REGISTER(x4, "x4", (long)number);
    __asm__ volatile("svc #0\n cbnz x0, 1f\n"
                     "ldp x1, x0, [sp], #16\n mov x29, #0\n blr x1\n"
                     "mov x8, #93\n mov x0, #0\n svc #0\n1:"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4)
                     : "memory", "cc");
    return x0;
}

#elif defined(__arm__)

enum { SYS_read = 3, SYS_write = 4, SYS_execve = 11, SYS_setitimer = 104, SYS_uname = 122, SYS_rt_sigaction = 174, SYS_exit_group = 248 };

ENTRY("mov r11, #0\n mov lr, #0\n mov r0, sp\n bic sp, sp, #7\n b begin");

static inline long system_call(long number, long a, long b, long c, long d)
{
    REGISTER(r7, "r7", number);
    REGISTER(r0, "r0", a);
    REGISTER(r1, "r1", b);
    REGISTER(r2, "r2", c);
    REGISTER(r3, "r3", d);
    __asm__ volatile("svc #0" : "+r"(r0) : "r"(r7), "r"(r1), "r"(r2), "r"(r3) : "memory", "cc");
    return r0;
}

#define HAS_DEPTH 1
enum {
    SYS_fork = 2, SYS_close = 6, SYS_chdir = 12, SYS_getpid = 20, SYS_kill = 37, SYS_clone = 120, SYS_sigaltstack = 186,
    SYS_prctl = 172, SYS_getuid = 199, SYS_geteuid = 201, SYS_futex = 240, SYS_munmap = 91, SYS_ftruncate = 93, SYS_wait4 = 114,
    SYS_mprotect = 125, SYS_mmap2 = 192, SYS_getrandom = 384, SYS_memfd_create = 385, SYS_statx = 397, SYS_rseq = 398,
};

static inline long system_call_6(long number, long a, long b, long c, long d, long e, long f)
{
    REGISTER(r7, "r7", number);
    REGISTER(r0, "r0", a);
    REGISTER(r1, "r1", b);
    REGISTER(r2, "r2", c);
    REGISTER(r3, "r3", d);
    REGISTER(r4, "r4", e);
    REGISTER(r5, "r5", f);
    __asm__ volatile("svc #0" : "+r"(r0) : "r"(r7), "r"(r1), "r"(r2), "r"(r3), "r"(r4), "r"(r5) : "memory", "cc");
    return r0;
}

static inline long map_memory(long at, long length, long protection, long flags, long file, long offset)
{
    // In units of 4096 bytes whatever the size of a page.
    return system_call_6(SYS_mmap2, at, length, protection, flags, file, offset / 4096);
}

static inline unsigned long read_local(void)
{
    // mrc p15, 0, r0, c13, c0, 3, which ARMv5 does not have: all that containers run on does.
    REGISTER(r0, "r0", 0);
    __asm__ volatile(".inst 0xee1d0f70" : "+r"(r0));
    return *(unsigned long *)r0;
}

static inline long start_thread(long flags, unsigned long *end, int *number, struct thread_local_area *area,
                                void (*function)(void *))
{
    end[-4] = (unsigned long)function;
    end[-3] = 0;
    REGISTER(r7, "r7", SYS_clone);
    REGISTER(r0, "r0", flags);
    REGISTER(r1, "r1", (long)(end - 4));
    REGISTER(r2, "r2", (long)number);
    REGISTER(r3, "r3", (long)area->base);
    REGISTER(r4, "r4", (long)number);
    __asm__ volatile("svc #0\n cmp r0, #0\n bne 1f\n"
                     "ldr r1, [sp], #4\n ldr r0, [sp], #4\n mov r11, #0\n blx r1\n"
                     "mov r7, #1\n mov r0, #0\n svc #0\n1:"
                     : "+r"(r0)
                     : "r"(r7), "r"(r1), "r"(r2), "r"(r3), "r"(r4)
                     : "memory", "cc");
    return r0;
}

#elif defined(__riscv)

enum { SYS_read = 63, SYS_write = 64, SYS_exit_group = 94, SYS_setitimer = 103, SYS_rt_sigaction = 134, SYS_uname = 160, SYS_execve = 221 };

ENTRY("li ra, 0\n mv a0, sp\n andi sp, sp, -16\n j begin");

static inline long system_call(long number, long a, long b, long c, long d)
{
    REGISTER(a7, "a7", number);
    REGISTER(a0, "a0", a);
    REGISTER(a1, "a1", b);
    REGISTER(a2, "a2", c);
    REGISTER(a3, "a3", d);
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2), "r"(a3) : "memory");
    return a0;
}

#elif defined(__powerpc64__)

enum { SYS_read = 3, SYS_write = 4, SYS_execve = 11, SYS_setitimer = 104, SYS_uname = 122, SYS_rt_sigaction = 173, SYS_exit_group = 234 };

// r2, the TOC pointer, is nobody's but ours to set; the frame is the smallest that ELFv2 allows.
ENTRY("lis 2, .TOC.@ha\n addi 2, 2, .TOC.@l\n mr 3, 1\n clrrdi 1, 1, 4\n"
      "li 0, 0\n stdu 0, -32(1)\n mtlr 0\n b begin");

static inline long system_call(long number, long a, long b, long c, long d)
{
    REGISTER(r0, "r0", number);
    REGISTER(r3, "r3", a);
    REGISTER(r4, "r4", b);
    REGISTER(r5, "r5", c);
    REGISTER(r6, "r6", d);
    // An error is told by the summary overflow bit, not by the sign.
    __asm__ volatile("sc\n bns+ 1f\n neg 3, 3\n1:"
                     : "+r"(r0), "+r"(r3), "+r"(r4), "+r"(r5), "+r"(r6)
                     :
                     : "memory", "cr0", "ctr", "xer", "r7", "r8", "r9", "r10", "r11", "r12");
    return r3;
}

#elif defined(__s390x__)

enum { SYS_read = 3, SYS_write = 4, SYS_execve = 11, SYS_setitimer = 104, SYS_uname = 122, SYS_rt_sigaction = 174, SYS_exit_group = 248 };

// 160 bytes: the register save area that the caller provides.
ENTRY("lgr %r2, %r15\n aghi %r15, -160\n xc 0(8,%r15), 0(%r15)\n jg begin");

static inline long system_call(long number, long a, long b, long c, long d)
{
    REGISTER(r1, "r1", number);
    REGISTER(r2, "r2", a);
    REGISTER(r3, "r3", b);
    REGISTER(r4, "r4", c);
    REGISTER(r5, "r5", d);
    __asm__ volatile("svc 0" : "+r"(r2) : "r"(r1), "r"(r3), "r"(r4), "r"(r5) : "memory", "cc");
    return r2;
}

#elif defined(__mips64)

enum {
    SYS_read = 5000,
    SYS_write = 5001,
    SYS_rt_sigaction = 5013,
    SYS_setitimer = 5036,
    SYS_execve = 5057,
    SYS_uname = 5061,
    SYS_exit_group = 5205
};

ENTRY(".set noreorder\n move $31, $0\n move $4, $29\n li $2, -16\n and $29, $29, $2\n j begin\n nop\n .set reorder");

static inline long system_call(long number, long a, long b, long c, long d)
{
    REGISTER(v0, "$2", number);
    REGISTER(a0, "$4", a);
    REGISTER(a1, "$5", b);
    REGISTER(a2, "$6", c);
    REGISTER(a3, "$7", d);
    // An error is told by $7, not by the sign.
    __asm__ volatile("syscall"
                     : "+r"(v0), "+r"(a3)
                     : "r"(a0), "r"(a1), "r"(a2)
                     : "memory", "$1", "$3", "$8", "$9", "$10", "$11", "$12", "$13", "$14", "$15", "$24", "$25", "hi", "lo");
    return a3 ? -v0 : v0;
}

#elif defined(__loongarch64)

enum { SYS_read = 63, SYS_write = 64, SYS_exit_group = 94, SYS_setitimer = 103, SYS_rt_sigaction = 134, SYS_uname = 160, SYS_execve = 221 };

ENTRY("move $ra, $zero\n move $a0, $sp\n bstrins.d $sp, $zero, 3, 0\n b begin");

static inline long system_call(long number, long a, long b, long c, long d)
{
    REGISTER(a7, "$a7", number);
    REGISTER(a0, "$a0", a);
    REGISTER(a1, "$a1", b);
    REGISTER(a2, "$a2", c);
    REGISTER(a3, "$a3", d);
    __asm__ volatile("syscall 0"
                     : "+r"(a0)
                     : "r"(a7), "r"(a1), "r"(a2), "r"(a3)
                     : "memory", "$t0", "$t1", "$t2", "$t3", "$t4", "$t5", "$t6", "$t7", "$t8");
    return a0;
}

#else
#error "no such platform"
#endif

#if defined(__x86_64__) || defined(__aarch64__)
static inline long map_memory(long at, long length, long protection, long flags, long file, long offset)
{
    return system_call_6(SYS_mmap, at, length, protection, flags, file, offset);
}
#endif

#if defined(__x86_64__) || defined(__i386__) || defined(__arm__)
static inline long make_child(void)
{
    return system_call(SYS_fork, 0, 0, 0, 0);
}
#endif

#if defined(HAS_DEPTH) && !defined(__i386__)
static inline long system_call_5(long number, long a, long b, long c, long d, long e)
{
    return system_call_6(number, a, b, c, d, e, 0);
}
#endif

// Fills in the kernel's struct sigaction for a handler that never returns. Each member but MIPS's
// flags is a word, and those that are not named here are zero.
static inline void fill_sigaction(unsigned long action[8], void (*handler)(int))
{
    for (int i = 0; i < 8; i++)
        ((volatile unsigned long *)action)[i] = 0;
#if defined(__mips__)
    action[1] = (unsigned long)handler;
#elif defined(__x86_64__)
    // This kernel delivers no signal without SA_RESTORER; the restorer is where handlers return to.
    action[0] = action[2] = (unsigned long)handler;
    action[1] = 0x04000000;
#else
    action[0] = (unsigned long)handler;
#endif
}

#endif
