// SPDX-License-Identifier: MIT OR Apache-2.0
// Maps, remaps, protects, writes and forks at random, in pages of 4096 bytes, and compares what memory holds with what it
// would hold under Linux on amd64. It runs anywhere: natively, where it proves the model, and in an emulator.
//   stress SECONDS [SEED [strict]]
// `strict` says that pages without rights are to fault, which an emulator cannot have them do on a host with larger pages.
// Of what is refused, only that which such a host cannot give may be. Linux itself refuses to move what it holds in
// several pieces, though the model has it in one; how often depends on what a fork left behind, and is told apart.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    PAGE = 4096,
    PAGES = 64,          // of the arena, and as many of room to move into
    ROOM = 2 * PAGES,
    FILE_PAGES = 13,
    FILE_TAIL = 1234,    // bytes in the page after those
    HISTORY = 64,
    WORDS = PAGE / 8,
};

enum kind { NOTHING, ANONYMOUS, FROM_FILE, BEHIND, COMMON };

struct page {
    enum kind kind;
    int rights;
    int common;          // the page of the shared memory, of a COMMON one
    int mapping;         // which call of mmap made it, since mremap does not reach over two
    uint64_t words[WORDS];
};

static struct page model[ROOM];
static uint64_t shared_model[PAGES][WORDS];
static char *arena, *shared;
static int file, shared_file, is_strict, mappings;
static uint64_t state, done, refused, in_pieces;
static char history[HISTORY][120];
static const char *doing = "";

static uint64_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545f4914f6cdd1dull >> 16;
}

static int below(int limit) { return (int)(draw() % (uint64_t)limit); }

static void show_history(void)
{
    for (uint64_t i = done < HISTORY ? 0 : done - HISTORY; i <= done; i++)
        if (history[i % HISTORY][0])
            fprintf(stderr, "  %llu: %s\n", (unsigned long long)i, history[i % HISTORY]);
}

#define FAIL(...)                                        \
    do {                                                 \
        show_history();                                  \
        fprintf(stderr, "DIFFERENCE: " __VA_ARGS__);     \
        fprintf(stderr, " (%s, process %d)\n", doing, (int)getpid()); \
        _exit(1);                                        \
    } while (0)

#define DO(...) snprintf(history[done % HISTORY], sizeof history[0], __VA_ARGS__)

static sigjmp_buf faulted;
static volatile sig_atomic_t may_fault;

static void on_fault(int signal, siginfo_t *info, void *context)
{
    (void)context;
    if (may_fault)
        siglongjmp(faulted, 1);
    FAIL("signal %d at %p, page %ld of the arena", signal, info->si_addr, (long)((char *)info->si_addr - arena) / PAGE);
}

// The word that the file has at a place of a page; what is behind its end reads as zero.
static uint64_t file_word(int page, int word)
{
    uint64_t value = 0x9e3779b97f4a7c15ull * (uint64_t)(page * WORDS + word + 1);
    int here = page < FILE_PAGES ? 8 : page > FILE_PAGES ? 0 : FILE_TAIL - word * 8;
    return here >= 8 ? value : here <= 0 ? 0 : value & ((1ull << (here * 8)) - 1);
}

static int readable(const struct page *page)
{
    return (page->kind != NOTHING && page->kind != BEHIND) && page->rights & PROT_READ;
}

static uint64_t *expected(struct page *page) { return page->kind == COMMON ? shared_model[page->common] : page->words; }

static void compare(int page)
{
    if (!readable(&model[page]))
        return;
    uint64_t *is = (uint64_t *)(arena + (long)page * PAGE), *want = expected(&model[page]);
    if (memcmp(is, want, PAGE) != 0)
        for (int i = 0; i < WORDS; i++)
            if (is[i] != want[i])
                FAIL("page %d, word %d is %llx and should be %llx", page, i, (unsigned long long)is[i], (unsigned long long)want[i]);
}

static int faults(volatile char *address, int writing)
{
    may_fault = 1;
    if (sigsetjmp(faulted, 1)) {
        may_fault = 0;
        return 1;
    }
    if (writing)
        *address = *address;
    else
        (void)*address;
    may_fault = 0;
    return 0;
}

static void compare_all(void)
{
    for (int page = 0; page < ROOM; page++) {
        compare(page);
        if (!is_strict)
            continue;
        int no_read = model[page].kind == NOTHING || model[page].kind == BEHIND || !(model[page].rights & PROT_READ);
        if (faults(arena + (long)page * PAGE, 0) != no_read)
            FAIL("page %d %s", page, no_read ? "can be read" : "cannot be read");
        if (!no_read && faults(arena + (long)page * PAGE, 1) != !(model[page].rights & PROT_WRITE))
            FAIL("page %d: the right to write is not as it was asked for", page);
    }
    for (int page = 0; page < PAGES; page++)
        if (memcmp(shared + (long)page * PAGE, shared_model[page], PAGE) != 0)
            FAIL("page %d of the shared memory was changed", page);
}

static int any_rights(void)
{
    static const int some[] = {PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ, PROT_NONE, PROT_READ | PROT_EXEC};
    return some[below(sizeof some / sizeof *some)];
}

static int is_shared_around(int first, int count)
{
    // As far as the largest pages that a host has.
    for (int page = first & ~15; page < ((first + count + 15) & ~15) && page < ROOM; page++)
        if (model[page].kind == COMMON)
            return 1;
    return 0;
}

static void set(int first, int count, enum kind kind, int rights, int offset)
{
    mappings++;
    for (int i = 0; i < count; i++) {
        struct page *page = &model[first + i];
        *page = (struct page){kind, rights, offset + i, mappings, {0}};
        if (kind == FROM_FILE) {
            if (offset + i > FILE_PAGES)
                page->kind = BEHIND;
            for (int word = 0; word < WORDS; word++)
                page->words[word] = file_word(offset + i, word);
        }
    }
}

static int random_range(int *first, int limit)
{
    int count = 1 + (below(3) ? below(6) : below(24));
    *first = below(limit - count);
    return count;
}

static void map(void)
{
    int first, count = random_range(&first, PAGES), what = below(8), rights = any_rights(), offset = 0, from = -1;
    int flags = MAP_PRIVATE | MAP_FIXED;
    enum kind kind = ANONYMOUS;
    if (what < 4) {
        flags |= MAP_ANONYMOUS;
    } else if (what < 7) {
        kind = FROM_FILE, from = file, offset = below(FILE_PAGES + 6);
    } else {
        // Read-only, an emulator on a host with larger pages gives a copy of what it cannot share.
        kind = COMMON, from = shared_file, offset = below(PAGES - count + 1), flags = MAP_SHARED | MAP_FIXED;
        rights = PROT_READ | PROT_WRITE;
    }
    int taken = 0;
    if (below(6) == 0) {
        flags = (flags & ~MAP_FIXED) | MAP_FIXED_NOREPLACE;
        for (int i = 0; i < count; i++)
            taken |= model[first + i].kind != NOTHING;
    }
    DO("mmap %d+%d %s rights %d offset %d%s", first, count, kind == ANONYMOUS ? "anonymous" : kind == COMMON ? "shared" : "file",
       rights, offset, flags & MAP_FIXED_NOREPLACE && !(flags & MAP_FIXED) ? " noreplace" : "");
    char *want = arena + (long)first * PAGE;
    char *got = mmap(want, (size_t)count * PAGE, rights, flags, from, (long)offset * PAGE);
    if (got == want) {
        if (taken)
            FAIL("MAP_FIXED_NOREPLACE replaced a page");
        set(first, count, kind, rights, offset);
    } else if (got != MAP_FAILED) {
        FAIL("mmap gave another address");
    } else if (taken && errno == EEXIST) {
        return;
    } else if (errno == EINVAL && (kind == COMMON || is_shared_around(first, count))) {
        refused++;
        // What stands in its own pages of the host may have been replaced before.
        munmap(want, (size_t)count * PAGE);
        set(first, count, NOTHING, 0, 0);
    } else {
        FAIL("mmap failed: %s", strerror(errno));
    }
}

static void unmap(void)
{
    int first, count = random_range(&first, PAGES);
    DO("munmap %d+%d", first, count);
    if (munmap(arena + (long)first * PAGE, (size_t)count * PAGE) != 0)
        FAIL("munmap failed: %s", strerror(errno));
    set(first, count, NOTHING, 0, 0);
}

static void protect(void)
{
    int first, count = random_range(&first, PAGES), rights = any_rights();
    for (int i = 0; i < count; i++)
        if (model[first + i].kind == NOTHING)
            return;
    DO("mprotect %d+%d rights %d", first, count, rights);
    if (mprotect(arena + (long)first * PAGE, (size_t)count * PAGE, rights) != 0)
        FAIL("mprotect failed: %s", strerror(errno));
    for (int i = 0; i < count; i++)
        model[first + i].rights = rights;
}

static void write_some(void)
{
    int page = below(ROOM);
    if (!readable(&model[page]) || !(model[page].rights & PROT_WRITE))
        return;
    DO("write %d", page);
    for (int i = below(20); i >= 0; i--) {
        int word = below(4) ? below(WORDS) : below(2) ? 0 : WORDS - 1;
        uint64_t value = draw();
        ((volatile uint64_t *)(arena + (long)page * PAGE))[word] = value;
        expected(&model[page])[word] = value;
    }
}

static void forget(void)
{
    int first, count = random_range(&first, PAGES);
    for (int i = 0; i < count; i++)
        if (model[first + i].kind != ANONYMOUS || !(model[first + i].rights & PROT_WRITE))
            return;
    DO("madvise %d+%d MADV_DONTNEED", first, count);
    if (madvise(arena + (long)first * PAGE, (size_t)count * PAGE, MADV_DONTNEED) != 0)
        FAIL("madvise failed: %s", strerror(errno));
    for (int i = 0; i < count; i++)
        memset(model[first + i].words, 0, PAGE);
}

// Private anonymous memory of one mapping and of one kind of rights, which Linux moves whole.
static int is_one(int first, int count)
{
    for (int i = 0; i < count; i++)
        if (model[first + i].kind != ANONYMOUS || model[first + i].mapping != model[first].mapping ||
            model[first + i].rights != model[first].rights)
            return 0;
    return 1;
}

static int is_free(int first, int count)
{
    for (int i = 0; i < count; i++)
        if (model[first + i].kind != NOTHING)
            return 0;
    return 1;
}

static void remap(void)
{
    static struct page kept[PAGES];
    int first, count = random_range(&first, PAGES), size = 1 + below(count + 6), how = below(4);
    // What shrinks in place may be of several mappings.
    if (!is_one(first, count) && !(how == 0 && size <= count && model[first].kind != NOTHING))
        return;
    memcpy(kept, &model[first], sizeof *kept * (size_t)count);
    char *from = arena + (long)first * PAGE;
    int rights = model[first].rights;
    if (how == 0) {
        if (size > count && first + size > PAGES)
            return;
        int fits = size <= count || is_free(first + count, size - count);
        DO("mremap %d+%d to %d in place", first, count, size);
        char *got = mremap(from, (size_t)count * PAGE, (size_t)size * PAGE, 0);
        // Linux itself refuses where the range ends before its mapping.
        if (got == MAP_FAILED && size > count && (errno == ENOMEM || errno == EFAULT)) {
            in_pieces += errno == EFAULT;
            return;
        }
        if (got != from || !fits)
            FAIL("mremap in place: %s", got == MAP_FAILED ? strerror(errno) : "it should have failed");
        if (size < count)
            set(first + size, count - size, NOTHING, 0, 0);
        else if (size > count)
            set(first + count, size - count, ANONYMOUS, rights, 0);
        for (int i = 0; size > count && i < size; i++)
            model[first + i].mapping = mappings;
        return;
    }
    int to = PAGES + below(PAGES - 32);
    size = how == 3 ? count : size > 30 ? 30 : size;
    static const char *const hows[] = {"", " fixed", " anywhere, then there", " anywhere, leaving it mapped, then there"};
    DO("mremap %d+%d to %d+%d%s", first, count, to, size, hows[how]);
    char *want = arena + (long)to * PAGE, *got;
    if (how == 1) {
        got = mremap(from, (size_t)count * PAGE, (size_t)size * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, want);
    } else {
        char *any = mremap(from, (size_t)count * PAGE, (size_t)size * PAGE, MREMAP_MAYMOVE | (how == 3 ? MREMAP_DONTUNMAP : 0), NULL);
        if (any == MAP_FAILED && errno == EFAULT) {
            in_pieces++;
            return;
        }
        if (any == MAP_FAILED)
            FAIL("mremap: %s", strerror(errno));
        if (any == from && how == 2) {
            if (size > count && !is_free(first + count, size - count))
                FAIL("mremap grew over other pages");
            set(first, count > size ? count : size, NOTHING, 0, 0);
            set(first, size, ANONYMOUS, rights, 0);
            for (int i = 0; i < size && i < count; i++)
                memcpy(model[first + i].words, kept[i].words, PAGE);
            return;
        }
        if (any >= arena && any < arena + (long)ROOM * PAGE)
            FAIL("mremap took a place that it was not given");
        got = mremap(any, (size_t)size * PAGE, (size_t)size * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, want);
        int failed_with = errno;
        set(first, count, how == 3 ? ANONYMOUS : NOTHING, rights, 0);
        if (got == MAP_FAILED)
            munmap(any, (size_t)size * PAGE);
        errno = failed_with;
    }
    int why = errno;
    if (got == MAP_FAILED && (why == EFAULT || (why == EINVAL && is_shared_around(to, size)))) {
        *(why == EFAULT ? &in_pieces : &refused) += 1;
        // Linux has unmapped the place by then, and what the range is to lose.
        munmap(want, (size_t)size * PAGE);
        set(to, size, NOTHING, 0, 0);
        if (why == EFAULT && how == 1 && size < count) {
            munmap(from + (long)size * PAGE, (size_t)(count - size) * PAGE);
            set(first + size, count - size, NOTHING, 0, 0);
        }
        return;
    }
    if (got != want)
        FAIL("mremap: %s", got == MAP_FAILED ? strerror(errno) : "another address");
    if (how == 1)
        set(first, count, NOTHING, 0, 0);
    set(to, size, ANONYMOUS, rights, 0);
    for (int i = 0; i < size && i < count; i++)
        memcpy(model[to + i].words, kept[i].words, PAGE);
}

// Memory that is shared with nobody but children is of no use to the model, and gone again; what stands beside it stays.
static void intrude(void)
{
    int first, count = random_range(&first, PAGES);
    DO("mmap %d+%d anonymous shared, written, unmapped", first, count);
    char *want = arena + (long)first * PAGE;
    char *got = mmap(want, (size_t)count * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (got == want) {
        for (int i = 0; i < count * WORDS; i++)
            if (((uint64_t *)want)[i] != 0)
                FAIL("new shared memory is not empty");
        memset(want, 0xee, (size_t)count * PAGE);
    } else if (got == MAP_FAILED && errno == EINVAL && !is_strict) {
        refused++;
    } else {
        FAIL("mmap: %s", got == MAP_FAILED ? strerror(errno) : "another address");
    }
    munmap(want, (size_t)count * PAGE);
    set(first, count, NOTHING, 0, 0);
}

static void ask(void)
{
    int first, count = random_range(&first, ROOM);
    unsigned char resident[32];
    char *from = arena + (long)first * PAGE;
    for (int i = 0; i < count; i++)
        if (model[first + i].kind == NOTHING)
            return;
    DO("msync and mincore %d+%d", first, count);
    memset(resident, 0xee, sizeof resident);
    if (msync(from, (size_t)count * PAGE, below(2) ? MS_SYNC : MS_ASYNC) != 0)
        FAIL("msync: %s", strerror(errno));
    if (mincore(from, (size_t)count * PAGE, resident) != 0)
        FAIL("mincore: %s", strerror(errno));
    for (int i = 0; i < (int)sizeof resident; i++)
        if ((resident[i] == 0xee) != (i >= count))
            FAIL("mincore told of %d pages", i);
}

static void step(void);

static void make_child(void)
{
    static int depth;
    if (depth > 1)
        return;
    DO("fork");
    fflush(NULL);
    // What a child writes to shared memory its parent has to see.
    pid_t child = fork();
    if (child < 0)
        FAIL("fork: %s", strerror(errno));
    if (child == 0) {
        depth++;
        compare_all();
        for (int i = below(60); i > 0; i--) {
            doing = "in a child";
            step();
            done++;
        }
        compare_all();
        memcpy(shared, shared_model, sizeof shared_model);
        if (pwrite(shared_file, shared_model, sizeof shared_model, (long)PAGES * PAGE) != sizeof shared_model)
            FAIL("pwrite");
        _exit(0);
    }
    int status;
    if (waitpid(child, &status, 0) != child || status != 0)
        FAIL("a child ended with %x", status);
    if (pread(shared_file, shared_model, sizeof shared_model, (long)PAGES * PAGE) != sizeof shared_model)
        FAIL("pread");
    compare_all();
}

static void step(void)
{
    int what = below(100);
    if (what < 2) intrude();
    else if (what < 4) ask();
    else if (what < 28) map();
    else if (what < 36) unmap();
    else if (what < 48) protect();
    else if (what < 84) write_some();
    else if (what < 90) forget();
    else if (what < 99) remap();
    else if (below(4) == 0) make_child();
    compare(below(ROOM));
}

// Another thread goes on counting in one page while the pages around it change.
static char *busy;
static volatile uint64_t counted;
static volatile int stop;

static void *count(void *nothing)
{
    (void)nothing;
    uint64_t mine = 0;
    while (!stop) {
        volatile uint64_t *place = (volatile uint64_t *)(busy + 4 * PAGE + (mine % WORDS) * 8);
        uint64_t was = *place;
        if (was != mine / WORDS) {
            fprintf(stderr, "DIFFERENCE: a page that another thread writes to lost a write: %llu, not %llu\n",
                    (unsigned long long)was, (unsigned long long)(mine / WORDS));
            _exit(1);
        }
        *place = was + 1;
        counted = ++mine;
    }
    return NULL;
}

static void disturb(void)
{
    int place;
    do
        place = below(9);
    while (place == 4);
    char *want = busy + (long)place * PAGE;
    int what = below(4);
    if (what == 0)
        mprotect(want, PAGE, PROT_READ | (below(2) ? PROT_WRITE : 0));
    else if (mmap(want, PAGE, PROT_READ | (below(2) ? PROT_WRITE : 0), MAP_PRIVATE | MAP_FIXED | (what == 1 ? MAP_ANONYMOUS : 0),
                  what == 1 ? -1 : file, what == 1 ? 0 : (long)below(FILE_PAGES) * PAGE) != want)
        FAIL("mmap beside a busy page: %s", strerror(errno));
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: stress SECONDS [SEED [strict]]\n");
        return 64;
    }
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    is_strict = argc > 3 && strcmp(argv[3], "strict") == 0;
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    uint64_t rounds = 0, in_all = 0;
    time_t end = time(NULL) + atol(argv[1]);
    do {
        state = (seed + rounds) * 0x9e3779b97f4a7c15ull | 1;
        file = memfd_create("file", 0);
        shared_file = memfd_create("shared", 0);
        if (file < 0 || shared_file < 0 || ftruncate(shared_file, 2L * PAGES * PAGE) != 0)
            FAIL("no file in memory: %s", strerror(errno));
        for (int page = 0; page <= FILE_PAGES; page++)
            for (int word = 0; word < WORDS; word++) {
                uint64_t value = file_word(page, word);
                long here = (long)page * PAGE + word * 8, length = (long)FILE_PAGES * PAGE + FILE_TAIL - here;
                if (length > 0 && pwrite(file, &value, length < 8 ? (size_t)length : 8, here) < 0)
                    FAIL("pwrite: %s", strerror(errno));
            }
        // A multiple of 64 KiB, the largest page that a host has, and where nobody looks for a place to put something.
        uintptr_t where = UINTPTR_MAX > UINT32_MAX ? (uintptr_t)0x2000000000 : 0x70000000;
        arena = mmap((void *)where, (long)ROOM * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        shared = mmap(NULL, (long)PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, shared_file, 0);
        busy = mmap(NULL, 9L * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (arena == MAP_FAILED || shared == MAP_FAILED || busy == MAP_FAILED)
            FAIL("no memory: %s", strerror(errno));
        munmap(arena, (long)ROOM * PAGE);
        set(0, ROOM, NOTHING, 0, 0);
        memset(shared_model, 0, sizeof shared_model);
        memset(history, 0, sizeof history);
        pthread_t thread;
        stop = 0;
        if (pthread_create(&thread, NULL, count, NULL) != 0)
            FAIL("no thread");
        for (done = 0; done < 3000; done++) {
            doing = "";
            history[done % HISTORY][0] = 0;
            step();
            disturb();
            if (done % 50 == 0)
                compare_all();
        }
        compare_all();
        stop = 1;
        pthread_join(thread, NULL);
        munmap(arena, (long)ROOM * PAGE);
        munmap(shared, (long)PAGES * PAGE);
        munmap(busy, 9L * PAGE);
        close(file);
        close(shared_file);
        rounds++;
        in_all += done;
    } while (time(NULL) < end);
    // Linux: 3 of 300,000 at most.
    if (in_pieces > 2 + in_all / 10000)
        FAIL("mremap failed too often: %llu of %llu calls", (unsigned long long)in_pieces, (unsigned long long)in_all);
    printf("%llu rounds, %llu calls, %llu in pieces, %llu refused as they may be: no difference\n", (unsigned long long)rounds,
           (unsigned long long)in_all, (unsigned long long)in_pieces, (unsigned long long)refused);
    return 0;
}
