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

#if defined(__x86_64__)

enum { SYS_read = 0, SYS_write = 1, SYS_rt_sigaction = 13, SYS_setitimer = 38, SYS_uname = 63, SYS_exit_group = 231 };

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

#elif defined(__i386__)

enum { SYS_read = 3, SYS_write = 4, SYS_setitimer = 104, SYS_uname = 122, SYS_rt_sigaction = 174, SYS_exit_group = 252 };

ENTRY("xorl %ebp, %ebp\n movl %esp, %eax\n andl $-16, %esp\n subl $12, %esp\n pushl %eax\n call begin");

static inline long system_call(long number, long a, long b, long c, long d)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d) : "memory");
    return result;
}

#elif defined(__aarch64__)

enum { SYS_read = 63, SYS_write = 64, SYS_exit_group = 94, SYS_setitimer = 103, SYS_rt_sigaction = 134, SYS_uname = 160 };

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

#elif defined(__arm__)

enum { SYS_read = 3, SYS_write = 4, SYS_setitimer = 104, SYS_uname = 122, SYS_rt_sigaction = 174, SYS_exit_group = 248 };

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

#elif defined(__riscv)

enum { SYS_read = 63, SYS_write = 64, SYS_exit_group = 94, SYS_setitimer = 103, SYS_rt_sigaction = 134, SYS_uname = 160 };

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

enum { SYS_read = 3, SYS_write = 4, SYS_setitimer = 104, SYS_uname = 122, SYS_rt_sigaction = 173, SYS_exit_group = 234 };

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

enum { SYS_read = 3, SYS_write = 4, SYS_setitimer = 104, SYS_uname = 122, SYS_rt_sigaction = 174, SYS_exit_group = 248 };

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

enum { SYS_read = 63, SYS_write = 64, SYS_exit_group = 94, SYS_setitimer = 103, SYS_rt_sigaction = 134, SYS_uname = 160 };

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
