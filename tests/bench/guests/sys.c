/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* System calls: cheap ones, files, pipes, mappings, signals. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile int hits;
static void on(int s) { hits += s; }
int main(void)
{
    int p[2];
    char buf[512] = {0};
    struct stat st;
    struct timespec ts;
    unsigned long sum = 0;
    if (pipe(p)) return 1;
    signal(SIGUSR1, on);
    for (int i = 0; i < 250000; i++) sum += syscall(SYS_getppid) > 0;
    for (int i = 0; i < 60000; i++) { if (write(p[1], buf, 64) != 64 || read(p[0], buf, 64) != 64) return 2; sum += clock_gettime(CLOCK_MONOTONIC, &ts) == 0; }
    for (int i = 0; i < 15000; i++) { int f = open("/dev/null", O_RDONLY | O_CLOEXEC); fstat(f, &st); sum += stat("/", &st) == 0; close(f); }
    for (int i = 0; i < 6000; i++) { char *m = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); m[4096] = 1; mprotect(m, 4096, PROT_READ); munmap(m, 65536); }
    for (int i = 0; i < 15000; i++) raise(SIGUSR1);
    printf("%lu %d\n", sum, hits);
}
