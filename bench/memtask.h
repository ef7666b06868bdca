/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memtask's parts have in common: what the task and its threads are, what each page must hold, and how stalls are timed.
 * memtask.c tells what it all is for.
 */
#ifndef MEMTASK_H
#define MEMTASK_H

#define _GNU_SOURCE
#include <alloca.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL
#define WORDS (PAGE / sizeof(uint64_t))
#define HUGE (2UL << 20)
#define MAX_THREADS 64
#define MAX_EXTENTS 1024
#define STACK_PAGES 64UL
#define HEAP_PAGES 512UL
#define MAX_OP_PAGES 512UL
#define OCTAVE_BUCKETS 16
#define BUCKETS (28 * OCTAVE_BUCKETS) /* bucket i holds stalls below 2^(i/16) us */
#define STALL_MIN_NS 5000
#define STEPS_PER_CLOCK_CHECK 4096
#define STEPS_PER_OP 256
#define MAX_CHILDREN 2
#define FORK_EVERY_MS 150
#define ZIPF_THETA 0.99
#define UNSET 101
#define WIPED_PAGES 1024UL
#define WIPED_BYTE 0xa5
#define GUARDED_PAGES 64UL /* of these, 16 to 31 and 40 are guards */
#define GUARDED_BYTE 0x5a
#define ADVISED_PAGES 256UL
#define ADVISED_BYTE 0xc3
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

enum mode { MODE_VERIFY, MODE_RANDOM, MODE_SEQUENTIAL, MODE_STRIDED, MODE_ZIPF, MODE_IDLE, NR_MODES };
static const char *const mode_names[NR_MODES] = {"verify", "random", "sequential", "strided", "zipf", "idle"};

enum op { OP_FORK, OP_MREMAP, OP_MUNMAP, OP_DONTNEED, OP_MPROTECT, NR_OPS };
static const char *const op_names[NR_OPS] = {"fork", "mremap", "munmap", "dontneed", "mprotect"};

/* What is advised later of memory. */
enum later { LATER_WIPED, LATER_KEPT, LATER_GUARDED, NR_LATER };

/* Consecutive pages at consecutive addresses, all with one protection. */
struct extent {
	uint8_t *addr;
	size_t nr_pages;
	size_t page; /* number of the first one */
	int prot;
	bool pinned; /* stack, heap: never moved or unmapped */
};

struct counters {
	uint64_t steps, checked_pages, written_pages, first_touches, last_first_touch_us, start_us;
	uint64_t stalls, stall_sum_ns, stall_max_ns, stall_hist[BUCKETS];
};

struct worker {
	struct task *task;
	unsigned int index;
	pthread_t thread;
	pthread_mutex_t lock; /* held while pages or extents change: fork takes all of them */
	struct extent extents[MAX_EXTENTS];
	size_t nr_extents;
	size_t first_page, nr_pages;
	uint64_t rng;
	size_t sweep_extent, sweep_page;
	int64_t cpu_ns;
	long switches;
	unsigned int epoch; /* epoch: 1, and one more for every restore */
	struct counters c;
	uint64_t ops[NR_OPS];
};

struct zipf {
	double zetan, alpha, eta, half_pow_theta;
};

struct task {
	enum mode mode;
	size_t nr_pages, stride;
	bool like_a_heap; /* its pages shrink as a program's do */
	unsigned int nr_threads, write_percent, hot_percent; /* hot: of each thread's pages, the only ones it writes */
	bool op_enabled[NR_OPS];
	bool hold, wipe_on_fork, guards, advise_later, advised;
	uint64_t seed;
	const char *status_path;
	char *status_tmp;
	sigset_t signals; /* that control it */
	uint8_t *later[NR_LATER]; /* ADVISED_PAGES of each; NULL: none */
	uint8_t *guarded; /* GUARDED_PAGES; NULL: none */
	uint8_t *wiped; /* WIPED_PAGES of WIPED_BYTE, which a forked child has zeroes of; NULL: none */

	uint64_t *state; /* what each page must hold */
	_Atomic uint8_t *touched_in; /* the last epoch in which the page was touched */
	struct zipf zipf;
	struct worker *workers;
	atomic_bool running, stopping, verified;
	atomic_uint filled;
	atomic_ullong errors;
	pthread_mutex_t error_lock;
	char first_error[256];
	uint64_t seq, forks, children_ok, children_bad;
	unsigned int children_alive;
};

/* --- contents ------------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

static uint64_t next_random(uint64_t *rng)
{
	return mix(*rng += 0x9e3779b97f4a7c15ULL);
}

/* An entry of the table: bits 0-30 the version, bit 31 "is zero", bits 32-63 a check sum over page and those. */
#define STATE_ZERO 0x80000000U

static uint64_t make_state(const struct task *t, size_t page, uint32_t low)
{
	return (mix(t->seed ^ mix(page) ^ ((uint64_t)low << 32)) & 0xffffffff00000000ULL) | low;
}

static uint64_t page_base(const struct task *t, size_t page, uint32_t version)
{
	return mix(t->seed + mix(page) * 3 + version);
}

/* A word of an object of 64 bytes: its type, a count, nothing, a pointer, text of a few thousand words, and some number. */
static uint64_t heap_word(uint64_t random, size_t word)
{
	uint64_t bits = random >> 8, common = (bits & 0xffff) * (bits & 0xffff) >> 20;

	switch (word % 8) {
	case 0:
		return 0x7f5a30001000ULL + (bits & 3) * 416;
	case 1:
		return bits % 3;
	case 2:
		return 0;
	case 3:
		return 0x7f5a30000000ULL | (bits & 0xfffff0);
	case 7:
		return random & 1 ? random : 0;
	default:
		return (mix(common) & 0x0f0f0f0f0f0f0f0fULL) | 0x6060606060606060ULL;
	}
}

static uint64_t word_at(const struct task *t, uint64_t base, size_t word)
{
	uint64_t random = mix(base + word * 0xd1342543de82ef95ULL);

	return t->like_a_heap ? heap_word(random, word) : random;
}

__attribute__((format(printf, 2, 3))) static void wrong(struct task *t, const char *format, ...)
{
	if (atomic_fetch_add(&t->errors, 1) != 0)
		return;
	va_list args;
	va_start(args, format);
	pthread_mutex_lock(&t->error_lock);
	vsnprintf(t->first_error, sizeof(t->first_error), format, args);
	pthread_mutex_unlock(&t->error_lock);
	va_end(args);
}

/* The page's entry, checked; a damaged one is reported, and taken as it stands. */
static uint32_t read_state(struct task *t, size_t page)
{
	uint64_t entry = t->state[page];
	uint32_t low = (uint32_t)entry;
	if (entry != make_state(t, page, low))
		wrong(t, "table entry of page %zu is damaged: %#llx", page, (unsigned long long)entry);
	return low;
}

static bool check_words(struct task *t, const uint8_t *addr, size_t page, size_t first, size_t count)
{
	uint32_t low = read_state(t, page);
	uint64_t base = page_base(t, page, low);
	const volatile uint64_t *words = (const volatile uint64_t *)(const volatile void *)addr;
	for (size_t w = first; w < first + count; w++) {
		uint64_t want = low & STATE_ZERO ? 0 : word_at(t, base, w);
		uint64_t got = words[w];
		if (got == want)
			continue;
		wrong(t, "pid %d: page %zu at %p, word %zu: %#llx instead of %#llx (version %u%s)", (int)getpid(),
		      page, (const void *)addr, w, (unsigned long long)got, (unsigned long long)want,
		      low & ~STATE_ZERO, low & STATE_ZERO ? ", zero" : "");
		return false;
	}
	return true;
}

static void write_page(struct task *t, uint8_t *addr, size_t page)
{
	uint32_t low = ((read_state(t, page) & ~STATE_ZERO) + 1) & ~STATE_ZERO;
	uint64_t base = page_base(t, page, low);
	uint64_t *words = (uint64_t *)(void *)addr;
	for (size_t w = 0; w < WORDS; w++)
		words[w] = word_at(t, base, w);
	t->state[page] = make_state(t, page, low);
}

static void set_zero(struct task *t, size_t page, size_t count)
{
	for (size_t p = page; p < page + count; p++)
		t->state[p] = make_state(t, p, (read_state(t, p) & ~STATE_ZERO) | STATE_ZERO);
}

/* --- time and stalls ------------------------------------------------------------------------------------ */

static int64_t now_ns(clockid_t clock)
{
	struct timespec ts;
	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static uint64_t unix_us(void)
{
	return (uint64_t)now_ns(CLOCK_REALTIME) / 1000;
}

static unsigned int stall_bucket(uint64_t ns)
{
	double us = (double)ns / 1000.0;
	int bucket = (int)floor(OCTAVE_BUCKETS * log2(us)) + 1;
	return bucket < 0 ? 0 : bucket >= BUCKETS ? BUCKETS - 1 : (unsigned int)bucket;
}


static long voluntary_switches(void)
{
	struct rusage usage;
	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_nvcsw;
}

/* Where the thread's CPU clock went back it was restored: its counters start anew, in a new epoch. */
static bool notice_restore(struct worker *w)
{
	int64_t cpu = now_ns(CLOCK_THREAD_CPUTIME_ID);
	bool restored = cpu < w->cpu_ns;
	w->cpu_ns = cpu;
	if (restored) {
		w->epoch++;
		w->c = (struct counters){.start_us = unix_us()};
		w->switches = voluntary_switches();
	}
	return restored;
}

static void slow_step(struct worker *w, uint64_t ns)
{
	/* A step that began before the dump would count the freeze too. */
	if (notice_restore(w))
		return;
	long before = w->switches;
	w->switches = voluntary_switches();
	if (w->switches == before)
		return; /* only preempted */
	w->c.stalls++;
	w->c.stall_sum_ns += ns;
	if (ns > w->c.stall_max_ns)
		w->c.stall_max_ns = ns;
	w->c.stall_hist[stall_bucket(ns)]++;
}

/* Account for the part of a step that began at `start`; returns the time, which is the start of the next one. */
static int64_t end_part(struct worker *w, int64_t start)
{
	int64_t end = now_ns(CLOCK_MONOTONIC);
	if (end - start >= STALL_MIN_NS)
		slow_step(w, (uint64_t)(end - start));
	return end;
}

static int64_t end_step(struct worker *w, int64_t start)
{
	int64_t end = end_part(w, start);
	if (++w->c.steps % STEPS_PER_CLOCK_CHECK == 0)
		notice_restore(w);
	return end;
}

static void touched(struct worker *w, size_t page)
{
	_Atomic uint8_t *mark = &w->task->touched_in[page];
	uint8_t epoch = (uint8_t)w->epoch;
	if (atomic_load_explicit(mark, memory_order_relaxed) == epoch)
		return;
	if (atomic_exchange_explicit(mark, epoch, memory_order_relaxed) != epoch) {
		w->c.first_touches++;
		w->c.last_first_touch_us = unix_us();
	}
}

#endif
