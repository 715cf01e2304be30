/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Threads: a contended mutex, atomic counters, a condition variable hand-over, thread creation. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cv = PTHREAD_COND_INITIALIZER;
static long shared;
static atomic_long count;
static int turn;
static void *work(void *arg)
{
    long me = (long)arg;
    unsigned long h = (unsigned long)me;
    for (int i = 0; i < 500000; i++) {
        for (int k = 0; k < 8; k++) h = h * 6364136223846793005u + 1442695040888963407u;
        if (i % 4 == 0) { pthread_mutex_lock(&mu); shared += (long)(h >> 60); pthread_mutex_unlock(&mu); }
        atomic_fetch_add(&count, (long)(h >> 62));
    }
    for (int i = 0; i < 1500; i++) {
        pthread_mutex_lock(&mu);
        while (turn % 4 != me) pthread_cond_wait(&cv, &mu);
        turn++;
        pthread_cond_broadcast(&cv);
        pthread_mutex_unlock(&mu);
    }
    return NULL;
}
static void *nop(void *a) { return a; }
int main(void)
{
    pthread_t t[4];
    for (long i = 0; i < 4; i++) pthread_create(&t[i], NULL, work, (void *)i);
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    for (int i = 0; i < 300; i++) { pthread_create(t, NULL, nop, NULL); pthread_join(*t, NULL); }
    printf("%ld %ld %d\n", shared, (long)count, turn);
}
