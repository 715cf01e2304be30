// SPDX-License-Identifier: MIT OR Apache-2.0
// A 32-bit ARM program that does nothing but end. It is made twice: laid out for pages of 4 KiB, and of 64 KiB.

volatile int arguments[2] = {0, 1};

void _start(void) {
    register int status __asm__("r0") = arguments[0];
    register int number __asm__("r7") = arguments[1]; // exit
    __asm__ volatile("svc 0" : : "r"(status), "r"(number));
    __builtin_unreachable();
}
