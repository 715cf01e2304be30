/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Integer: sieve, sorting, hashing, and a small byte-code interpreter. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static uint32_t seed = 12345;
static uint32_t rnd(void) { seed = seed * 1664525u + 1013904223u; return seed >> 8; }
static int cmp(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}
static uint64_t sieve(unsigned n)
{
    char *c = calloc(n + 1, 1);
    uint64_t sum = 0;
    for (unsigned i = 2; i <= n; i++) {
        if (!c[i]) {
            sum += i;
            for (uint64_t j = (uint64_t)i * i; j <= n; j += i) c[j] = 1;
        }
    }
    free(c);
    return sum;
}
/* Byte-code machine: indirect branches, as interpreters make them. */
static uint64_t run(unsigned loops)
{
    static const unsigned char prog[] = {0, 1, 2, 3, 1, 4, 2, 5, 0, 3, 6, 1, 5, 7};
    uint64_t a = 1, b = 2, r = 0;
    while (loops--) {
        for (const unsigned char *p = prog;; p++) {
            static void *const op[] = {&&o0, &&o1, &&o2, &&o3, &&o4, &&o5, &&o6, &&o7};
            goto *op[*p];
        o0: a += b; continue;
        o1: b ^= a << 3; continue;
        o2: a = (a >> 7) | (a << 57); continue;
        o3: b -= r; continue;
        o4: r += a * b; continue;
        o5: if (a & 1) r++; continue;
        o6: a ^= r; continue;
        o7: break;
        }
    }
    return r;
}
int main(void)
{
    uint64_t h = sieve(3000000);
    unsigned n = 300000;
    uint32_t *v = malloc(n * sizeof *v);
    for (unsigned i = 0; i < n; i++) v[i] = rnd();
    qsort(v, n, sizeof *v, cmp);
    for (unsigned i = 0; i < n; i++) h = (h ^ v[i]) * 1099511628211u;
    for (unsigned k = 0; k < 60; k++)
        for (unsigned i = 0; i < n; i++) h = h * 31 + (v[i] % 1009) / (1 + (h & 15));
    h ^= run(700000);
    printf("%016llx\n", (unsigned long long)h);
}
