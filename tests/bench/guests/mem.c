/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Memory: copies of many sizes, fills, searches, pointer chasing, structure copies. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct node { struct node *next; uint64_t pad[7]; };
struct rec { uint64_t a[6]; };
static __attribute__((noinline)) void put(struct rec *d, const struct rec *s) { *d = *s; }
int main(void)
{
    enum { N = 32768, B = 1 << 20 };
    struct node *n = malloc(N * sizeof *n);
    uint32_t s = 7;
    unsigned *p = malloc(N * sizeof *p);
    for (unsigned i = 0; i < N; i++) p[i] = i;
    for (unsigned i = N - 1; i; i--) { s = s * 1664525u + 1013904223u; unsigned j = (s >> 8) % i, t = p[i]; p[i] = p[j]; p[j] = t; }
    for (unsigned i = 0; i < N; i++) { n[p[i]].next = &n[p[(i + 1) % N]]; n[i].pad[0] = i; }
    struct node *q = n;
    uint64_t sum = 0;
    for (unsigned i = 0; i < 6000000; i++) { sum += q->pad[0]; q = q->next; }
    char *a = malloc(B + 64), *b = malloc(B + 64);
    memset(a, 1, B + 64); memset(b, 2, B + 64);
    for (unsigned i = 0; i < 60; i++) memcpy(a + (i & 15), b + (i & 7), B);
    for (unsigned i = 0; i < 900000; i++) { unsigned z = 1 + (i * 37 % 200); memcpy(a + (i & 4095), b + (i * 3 & 4095), z); sum += a[i & 4095]; }
    for (unsigned i = 0; i < 40; i++) { memset(a, (int)i, B); a[B - 1] = 0; sum += strlen(a + 1); sum += memchr(a, 255, B) != NULL; sum += memcmp(a, b, B) != 0; }
    struct rec *r = calloc(4096, sizeof *r);
    for (unsigned k = 0; k < 400; k++) for (unsigned i = 1; i < 4096; i++) { put(&r[i], &r[i - 1]); r[i].a[k % 6] += i; }
    sum += r[4095].a[3];
    printf("%016llx\n", (unsigned long long)sum);
}
