/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memtask: a task whose memory can be checked to the last byte, made to be migrated while it works.
 *
 *   memtask --mib N [--threads N] [--mode verify|random|sequential|strided|zipf|idle] [--write-percent N]
 *           [--ops LIST] [--stride PAGES] [--seed N] [--hold] [--compressible] [--wipe-on-fork]
 *           [--guards] [--advise-later] --status FILE
 *
 * Contents. Every word of a page is a function of (seed, page, version, word); a page never written, or given
 * back to the kernel, is zero. It looks random; with --compressible one word repeats in half of each page. What each page must hold stands in a table (also migrated) whose entries carry
 * their own check sum. A page keeps its number when it is moved, so that a move to a wrong place is seen.
 *
 * Modes. `verify`: each thread owns a share made of every kind of private memory (plain, huge pages, with holes,
 * thread stack, brk heap; with --ops mprotect also read only and without access), and checks and rewrites whole
 * pages of it; --ops says what else happens meanwhile: fork (children, and theirs, check all of the memory as of
 * the fork; with --wipe-on-fork also that what is to be wiped then is zero, an advice that criu 4.1 loses), mremap, munmap, dontneed, mprotect; `all`, `none` or a comma-separated list. The other modes are
 * access patterns over one plain area; `idle` touches nothing. --write-percent: how many steps rewrite their page
 * (verify: 30, others: 0).
 *
 * Guards. With --guards there is memory with guard regions (MADV_GUARD_INSTALL, Linux 6.13), looked at with all pages: no
 * guard's may be readable, and the others hold what they held.
 *
 * Advice. With --advise-later memory that nobody touches before the end gets advice when the pattern is first let go on
 * (after the resume, with --hold): to be wiped on fork; not to be, any more; guards, that are taken off at once. It is
 * looked at with all pages, and in forked children.
 *
 * Stalls. Each step of a thread is timed (of the patterns, each of its parts that touches one page of data or tables);
 * one of STALL_MIN_NS or more in which the thread slept is a stall: the
 * patterns never sleep but in a page fault (verify with --ops also waits for locks), and being preempted does
 * not count. A restored thread sees its CPU clock jump back: then its counters start anew, so that they tell of
 * the time since the restore.
 *
 * Control: SIGUSR1 holds the pattern, or lets it go on (--hold: it is held from the start); SIGUSR2 asks for the state: FILE is replaced
 * by one JSON object whose "seq" is higher than before. It is written on request only, because a file that is
 * open at the moment of a dump must exist, with the same size, on the other host. SIGTERM stops the pattern,
 * checks every page, writes FILE with "state": "verified" and exits: 0 if no wrong byte was ever seen, else 1.
 * Exit status 2: wrong usage, or no memory.
 */
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
	size_t distinct_words; /* of a page; from there on one word repeats */
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

static uint64_t word_at(const struct task *t, uint64_t base, size_t word)
{
	if (word >= t->distinct_words)
		word = t->distinct_words;
	return mix(base + word * 0xd1342543de82ef95ULL);
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

/* --- verify mode: every kind of memory, and what happens to it ------------------------------------------- */

static bool add_extent(struct worker *w, void *addr, size_t nr_pages, size_t page, int prot, bool pinned)
{
	if (w->nr_extents == MAX_EXTENTS)
		return false;
	w->extents[w->nr_extents++] = (struct extent){addr, nr_pages, page, prot, pinned};
	return true;
}

static void set_prot(const struct extent *e, int prot)
{
	if (mprotect(e->addr, e->nr_pages * PAGE, prot) != 0)
		abort();
}

static void rewrite(struct worker *w, const struct extent *e, size_t index)
{
	struct extent one = {e->addr + index * PAGE, 1, e->page + index, e->prot, e->pinned};
	pthread_mutex_lock(&w->lock);
	if (!(e->prot & PROT_WRITE))
		set_prot(&one, PROT_READ | PROT_WRITE);
	write_page(w->task, one.addr, one.page);
	if (!(e->prot & PROT_WRITE))
		set_prot(&one, e->prot);
	pthread_mutex_unlock(&w->lock);
	w->c.written_pages++;
}

static bool check_page(struct task *t, const struct extent *e, size_t index)
{
	struct extent one = {e->addr + index * PAGE, 1, e->page + index, e->prot, e->pinned};
	if (!(e->prot & PROT_READ))
		set_prot(&one, PROT_READ);
	bool right = check_words(t, one.addr, one.page, 0, WORDS);
	if (!(e->prot & PROT_READ))
		set_prot(&one, e->prot);
	return right;
}

/* A private anonymous area of `nr_pages`, on a huge page's boundary if asked; the process ends without memory. */
static uint8_t *new_area(size_t nr_pages, bool huge)
{
	size_t extra = huge ? HUGE : 0;
	uint8_t *area = mmap(NULL, nr_pages * PAGE + extra, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (area == MAP_FAILED) {
		perror("memtask: mmap");
		exit(2);
	}
	if (huge) {
		area += (HUGE - (uintptr_t)area % HUGE) % HUGE;
		madvise(area, nr_pages * PAGE, MADV_HUGEPAGE);
	}
	return area;
}

/* Cut extents so that one of them is exactly pages [off, off + count) of extent `i`; its index, or -1: no room. */
static int isolate(struct worker *w, size_t i, size_t off, size_t count)
{
	struct extent whole = w->extents[i];
	if (w->nr_extents + 2 > MAX_EXTENTS)
		return -1;
	struct extent *e = &w->extents[i];
	*e = (struct extent){whole.addr + off * PAGE, count, whole.page + off, whole.prot, whole.pinned};
	if (off > 0)
		add_extent(w, whole.addr, off, whole.page, whole.prot, whole.pinned);
	size_t end = off + count;
	if (end < whole.nr_pages)
		add_extent(w, whole.addr + end * PAGE, whole.nr_pages - end, whole.page + end, whole.prot,
			   whole.pinned);
	return (int)i;
}

static void op_mremap(struct worker *w, struct extent *e)
{
	size_t bytes = e->nr_pages * PAGE;
	if (next_random(&w->rng) % 4 == 0) {
		/* Grow, which may move it; the new part is zero; shrink again. EFAULT: it is several mappings. */
		uint8_t *grown = mremap(e->addr, bytes, 2 * bytes, MREMAP_MAYMOVE);
		if (grown == MAP_FAILED)
			return;
		e->addr = grown;
		if (e->prot & PROT_READ)
			for (size_t b = bytes; b < 2 * bytes; b += PAGE)
				if (*(volatile uint64_t *)(void *)(grown + b) != 0)
					wrong(w->task, "grown area at %p is not zero", (void *)(grown + b));
		if (mremap(grown, 2 * bytes, bytes, 0) != grown)
			abort();
		return;
	}
	void *place = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (place == MAP_FAILED)
		return;
	void *moved = mremap(e->addr, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, place);
	if (moved == MAP_FAILED)
		munmap(place, bytes);
	else
		e->addr = moved;
}

static void op_munmap(struct worker *w, struct extent *e)
{
	size_t bytes = e->nr_pages * PAGE;
	if (munmap(e->addr, bytes) != 0)
		abort();
	void *area = mmap(e->addr, bytes, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
	e->addr = area == MAP_FAILED ? new_area(e->nr_pages, false) : area;
	e->prot = PROT_READ | PROT_WRITE;
	set_zero(w->task, e->page, e->nr_pages);
}

static void op_dontneed(struct worker *w, struct extent *e)
{
	if (madvise(e->addr, e->nr_pages * PAGE, MADV_DONTNEED) == 0)
		set_zero(w->task, e->page, e->nr_pages);
}

static void op_mprotect(struct worker *w, struct extent *e)
{
	static const int prots[] = {PROT_READ, PROT_NONE, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE};
	e->prot = prots[next_random(&w->rng) % 4];
	set_prot(e, e->prot);
}

static void one_op(struct worker *w)
{
	static void (*const run[NR_OPS])(struct worker *, struct extent *) = {
		[OP_MREMAP] = op_mremap, [OP_MUNMAP] = op_munmap, [OP_DONTNEED] = op_dontneed, [OP_MPROTECT] = op_mprotect};
	enum op op = (enum op)(next_random(&w->rng) % NR_OPS);
	size_t i = next_random(&w->rng) % w->nr_extents;
	struct extent *e = &w->extents[i];
	if (run[op] == NULL || !w->task->op_enabled[op] || (e->pinned && op != OP_DONTNEED))
		return;
	size_t count = 1 + next_random(&w->rng) % (e->nr_pages < MAX_OP_PAGES ? e->nr_pages : MAX_OP_PAGES);
	size_t off = next_random(&w->rng) % (e->nr_pages - count + 1);
	pthread_mutex_lock(&w->lock);
	if (isolate(w, i, off, count) >= 0) {
		run[op](w, e);
		w->ops[op]++;
	}
	pthread_mutex_unlock(&w->lock);
	/* Look at once every other time: a page that comes too late, or twice, is seen soon, or later. */
	if (next_random(&w->rng) % 2 == 0)
		for (size_t p = 0; p < e->nr_pages; p++, w->c.checked_pages++)
			check_page(w->task, e, p);
}

/* The worker's share: which part of it is what kind of memory, in 20ths. */
static void build_share(struct worker *w, uint8_t *stack)
{
	static const struct {
		size_t twentieths;
		int prot;
		bool huge, holes;
	} kinds[] = {
		{7, PROT_READ | PROT_WRITE, false, false},
		{5, PROT_READ | PROT_WRITE, true, false},
		{3, PROT_READ, false, false},
		{1, PROT_NONE, false, false},
		{4, PROT_READ | PROT_WRITE, false, true},
	};
	struct task *t = w->task;
	size_t page = w->first_page, end = w->first_page + w->nr_pages;
	add_extent(w, stack, STACK_PAGES, page, PROT_READ | PROT_WRITE, true);
	page += STACK_PAGES;
	if (w->index == 0) {
		uint8_t *heap = sbrk((HEAP_PAGES + 1) * PAGE);
		if (heap == (void *)-1) {
			perror("memtask: sbrk");
			exit(2);
		}
		add_extent(w, heap + (PAGE - (uintptr_t)heap % PAGE) % PAGE, HEAP_PAGES, page,
			   PROT_READ | PROT_WRITE, true);
		page += HEAP_PAGES;
	}
	size_t rest = end - page;
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		bool last = k + 1 == sizeof(kinds) / sizeof(kinds[0]);
		size_t count = last ? end - page : rest * kinds[k].twentieths / 20;
		add_extent(w, new_area(count, kinds[k].huge), count, page, PROT_READ | PROT_WRITE, false);
		struct extent *e = &w->extents[w->nr_extents - 1];
		for (size_t p = 0; p < count; p++)
			if (!kinds[k].holes || p / 3 % 4 != 0)
				write_page(t, e->addr + p * PAGE, page + p);
		if (t->op_enabled[OP_MPROTECT])
			set_prot(e, e->prot = kinds[k].prot);
		page += count;
	}
}

static void verify_step(struct worker *w)
{
	struct task *t = w->task;
	uint64_t r = next_random(&w->rng);
	if (r % STEPS_PER_OP == 0)
		one_op(w);
	size_t i, p;
	if (r >> 8 & 1) {
		i = next_random(&w->rng) % w->nr_extents;
		p = next_random(&w->rng) % w->extents[i].nr_pages;
	} else {
		if (w->sweep_extent >= w->nr_extents)
			w->sweep_extent = 0;
		i = w->sweep_extent;
		p = w->sweep_page++;
		if (p >= w->extents[i].nr_pages) {
			p = 0;
			w->sweep_page = 1;
		}
		if (w->sweep_page >= w->extents[i].nr_pages) {
			w->sweep_page = 0;
			w->sweep_extent++;
		}
	}
	if ((r >> 16) % 100 < t->write_percent)
		rewrite(w, &w->extents[i], p);
	check_page(t, &w->extents[i], p);
	w->c.checked_pages++;
	touched(w, w->extents[i].page + p);
}

/* --- access patterns --------------------------------------------------------------------------------------- */

static void zipf_init(struct zipf *z, size_t n)
{
	z->zetan = 0;
	for (size_t i = 1; i <= n; i++)
		z->zetan += pow(1.0 / (double)i, ZIPF_THETA);
	z->alpha = 1.0 / (1.0 - ZIPF_THETA);
	z->half_pow_theta = 1.0 + pow(0.5, ZIPF_THETA);
	z->eta = (1.0 - pow(2.0 / (double)n, 1.0 - ZIPF_THETA)) / (1.0 - z->half_pow_theta / z->zetan);
}

/* A rank by Gray et al., "Quickly generating billion-record synthetic databases"; scattered over the pages. */
static size_t zipf_page(const struct zipf *z, uint64_t *rng, size_t n)
{
	double u = (double)(next_random(rng) >> 11) * 0x1p-53, uz = u * z->zetan;
	size_t rank = uz < 1.0 ? 0 : uz < z->half_pow_theta ? 1
							     : (size_t)((double)n * pow(z->eta * u - z->eta + 1.0, z->alpha));
	return mix(rank) % n;
}

/* The next page of the pattern; *whole: all of it is read, not a cache line of it. */
static size_t next_page(struct worker *w, bool *whole)
{
	const struct task *t = w->task;
	*whole = false;
	switch (t->mode) {
	case MODE_SEQUENTIAL:
		*whole = true;
		return w->first_page + w->sweep_page++ % w->nr_pages;
	case MODE_STRIDED: { /* every page is reached: each round starts one page further */
		size_t per_round = (w->nr_pages + t->stride - 1) / t->stride, step = w->sweep_page++;
		size_t page = step % per_round * t->stride + step / per_round % t->stride;
		return w->first_page + page % w->nr_pages;
	}
	case MODE_ZIPF:
		return zipf_page(&t->zipf, &w->rng, t->nr_pages);
	default:
		return next_random(&w->rng) % t->nr_pages;
	}
}

/* From `start` on; returns when its last part began: each may wait for one page. */
static int64_t access_step(struct worker *w, int64_t start)
{
	struct task *t = w->task;
	bool whole;
	size_t page = next_page(w, &whole);
	/* The tables' pages are missing after a restore, too. */
	(void)*(volatile uint64_t *)&t->state[page];
	start = end_part(w, start);
	(void)atomic_load_explicit(&t->touched_in[page], memory_order_relaxed);
	start = end_part(w, start);
	uint8_t *addr = t->workers[0].extents[0].addr + page * PAGE;
	/* Only its owner writes a page; with writers about, only its owner can tell what it should hold. */
	bool mine = page >= w->first_page && page < w->first_page + w->nr_pages;
	bool hot = (page - w->first_page) * 100 < w->nr_pages * t->hot_percent;
	if (mine && hot && next_random(&w->rng) % 100 < t->write_percent) {
		write_page(t, addr, page);
		w->c.written_pages++;
	} else if (mine || t->write_percent == 0) {
		size_t line = whole ? 0 : next_random(&w->rng) % (WORDS / 8) * 8;
		check_words(t, addr, page, line, whole ? WORDS : 8);
		w->c.checked_pages++;
	} else {
		(void)*(volatile uint64_t *)(void *)addr;
	}
	touched(w, page);
	return start;
}

/* --- threads -------------------------------------------------------------------------------------------------- */

/*
 * Run from the middle of a page: if a thread's stack pointer is a multiple of the page size at the dump, criu (4.1, 4.2)
 * takes all pages for the stack's (is_stack() in its mem.c compares the wrong bits), and no page is lazy. An address space
 * laid out at random makes it one time in 256, for each depth of calls anew. What is called from here takes less than
 * three quarters of a page of stack, but for what writes the state file.
 */
__attribute__((noinline)) static void *from_mid_page(void *(*run)(void *), void *arg)
{
	volatile uint8_t *room = alloca(((uintptr_t)__builtin_frame_address(0) + PAGE / 4) % PAGE + 16);
	*room = 0;
	return run(arg);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct task *t = w->task;
	/* Not aligned itself: what is called from here would run from a page's end. */
	uint8_t room[(STACK_PAGES + 1) * PAGE + 64];
	uint8_t *stack = room + (PAGE - (uintptr_t)room % PAGE) % PAGE;
	if (t->mode == MODE_VERIFY) {
		memset(stack, 0, STACK_PAGES * PAGE);
		build_share(w, stack);
	} else {
		for (size_t p = w->first_page; p < w->first_page + w->nr_pages; p++)
			write_page(t, t->workers[0].extents[0].addr + p * PAGE, p);
	}
	notice_restore(w);
	atomic_fetch_add(&t->filled, 1);
	w->c = (struct counters){.start_us = unix_us()};
	int64_t start = 0;
	while (!atomic_load_explicit(&t->stopping, memory_order_relaxed)) {
		if (!atomic_load_explicit(&t->running, memory_order_relaxed) || t->mode == MODE_IDLE) {
			nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
			start = 0;
			continue;
		}
		if (start == 0) {
			w->switches = voluntary_switches();
			start = now_ns(CLOCK_MONOTONIC);
		}
		if (t->mode == MODE_VERIFY)
			verify_step(w);
		else
			start = access_step(w, start);
		start = end_step(w, start);
	}
	/* The stack area must outlive the pattern: the final check reads it. */
	atomic_fetch_sub(&t->filled, 1);
	while (!atomic_load(&t->verified))
		nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
	return NULL;
}

static void *start_work(void *arg)
{
	return from_mid_page(work, arg);
}

/* Every page of every share, from a random one on; the number of pages that are wrong. */
static uint64_t check_all(struct task *t, uint64_t *rng, void (*halfway)(struct task *))
{
	uint64_t wrong_pages = 0;
	unsigned int first = (unsigned int)(next_random(rng) % t->nr_threads);
	for (unsigned int n = 0; n < t->nr_threads; n++) {
		struct worker *w = &t->workers[(first + n) % t->nr_threads];
		for (size_t i = 0; i < w->nr_extents; i++)
			for (size_t p = 0; p < w->extents[i].nr_pages; p++)
				wrong_pages += !check_page(t, &w->extents[i], p);
		if (n == 0 && halfway != NULL)
			halfway(t);
	}
	return wrong_pages;
}

/* --- fork ------------------------------------------------------------------------------------------------------ */

static void reset_errors(struct task *t)
{
	atomic_store(&t->errors, 0);
	pthread_mutex_init(&t->error_lock, NULL); /* another thread may have held it at the fork */
}

/* A child's end: 0 if nothing was wrong, else 1 and the reason in STATUS.child. */
__attribute__((noreturn)) static void end_child(struct task *t)
{
	if (atomic_load(&t->errors) == 0)
		_exit(0);
	char path[4096];
	snprintf(path, sizeof(path), "%s.child", t->status_path);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd >= 0) {
		ssize_t ignored = write(fd, t->first_error, strlen(t->first_error));
		(void)ignored;
		close(fd);
	}
	_exit(1);
}

static void new_later_areas(struct task *t)
{
	for (int i = 0; i < NR_LATER; i++) {
		t->later[i] = new_area(ADVISED_PAGES, false);
		memset(t->later[i], ADVISED_BYTE, ADVISED_PAGES * PAGE);
	}
	if (madvise(t->later[LATER_KEPT], ADVISED_PAGES * PAGE, MADV_WIPEONFORK) != 0)
		abort();
}

/* Now it is later. */
static void advise(struct task *t)
{
	const size_t bytes = ADVISED_PAGES * PAGE;
	if (madvise(t->later[LATER_WIPED], bytes, MADV_WIPEONFORK) != 0 ||
	    madvise(t->later[LATER_KEPT], bytes, MADV_KEEPONFORK) != 0)
		abort();
	if (madvise(t->later[LATER_GUARDED], bytes, MADV_GUARD_INSTALL) != 0 ||
	    madvise(t->later[LATER_GUARDED], bytes, MADV_GUARD_REMOVE) != 0)
		memset(t->later[LATER_GUARDED], 0, bytes); /* this kernel has no guards */
	t->advised = true;
}

static void check_later_areas(struct task *t, bool in_child)
{
	static const char *const names[NR_LATER] = {"wiped on fork", "not wiped on fork any more", "guarded once"};
	for (int i = 0; i < NR_LATER && t->advised; i++) {
		uint8_t byte = i == LATER_GUARDED || (i == LATER_WIPED && in_child) ? 0 : ADVISED_BYTE;
		for (size_t at = 0; at < ADVISED_PAGES * PAGE; at++)
			if (t->later[i][at] != byte) {
				wrong(t, "pid %d: %#x instead of %#x in page %zu of what is %s", (int)getpid(),
				      t->later[i][at], byte, at / PAGE, names[i]);
				break;
			}
	}
}

static void check_in_grandchild(struct task *t)
{
	pid_t pid = fork();
	if (pid == 0) {
		uint64_t rng = t->seed ^ (uint64_t)getpid();
		reset_errors(t);
		check_later_areas(t, true);
		check_all(t, &rng, NULL);
		end_child(t);
	}
	int status = 1;
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
		wrong(t, "a forked child's child saw wrong memory, or died (status %#x)", (unsigned int)status);
}

/* Pages that the kernel wipes in a child. Nobody touches them before the end: at each fork they may still be missing. */
static uint8_t *new_wiped_area(void)
{
	uint8_t *area = new_area(WIPED_PAGES, false);
	memset(area, WIPED_BYTE, WIPED_PAGES * PAGE);
	if (madvise(area, WIPED_PAGES * PAGE, MADV_WIPEONFORK) != 0)
		abort();
	return area;
}

static void check_wiped_area(struct task *t, uint8_t byte)
{
	for (size_t i = 0; t->wiped != NULL && i < WIPED_PAGES * PAGE; i++)
		if (t->wiped[i] != byte) {
			wrong(t, "pid %d: %#x instead of %#x in a page that is wiped on fork", (int)getpid(),
			      t->wiped[i], byte);
			return;
		}
}

static bool is_guard(size_t page)
{
	return (page >= 16 && page < 32) || page == 40;
}

static uint8_t *new_guarded_area(void)
{
	uint8_t *area = new_area(GUARDED_PAGES, false);
	memset(area, GUARDED_BYTE, GUARDED_PAGES * PAGE);
	for (size_t page = 0; page < GUARDED_PAGES; page++)
		if (is_guard(page) && madvise(area + page * PAGE, PAGE, MADV_GUARD_INSTALL) != 0) {
			if (errno != EINVAL)
				abort();
			munmap(area, GUARDED_PAGES * PAGE); /* this kernel has no guards */
			return NULL;
		}
	return area;
}

/* Read as another process would: a guard is an error then, not a signal. */
static void check_guarded_area(struct task *t)
{
	uint8_t found[PAGE];
	for (size_t page = 0; t->guarded != NULL && page < GUARDED_PAGES; page++) {
		struct iovec local = {found, PAGE}, remote = {t->guarded + page * PAGE, PAGE};
		bool readable = process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == (ssize_t)PAGE;
		if (readable == is_guard(page) || (readable && (found[0] != GUARDED_BYTE || found[PAGE - 1] != GUARDED_BYTE))) {
			wrong(t, "page %zu of the memory with guards is %s", page, readable ? "readable, or wrong" : "a guard");
			return;
		}
	}
}

static void fork_child(struct task *t)
{
	for (unsigned int i = 0; i < t->nr_threads; i++)
		pthread_mutex_lock(&t->workers[i].lock);
	pid_t pid = fork();
	if (pid == 0) {
		uint64_t rng = t->seed ^ (uint64_t)getpid();
		reset_errors(t);
		check_wiped_area(t, 0);
		check_later_areas(t, true);
		check_all(t, &rng, check_in_grandchild);
		end_child(t);
	}
	for (unsigned int i = 0; i < t->nr_threads; i++)
		pthread_mutex_unlock(&t->workers[i].lock);
	if (pid > 0) {
		t->forks++;
		t->children_alive++;
	}
}

static void reap(struct task *t, int flags)
{
	int status;
	while (t->children_alive > 0 && waitpid(-1, &status, flags) > 0) {
		t->children_alive--;
		if (status == 0)
			t->children_ok++;
		else
			t->children_bad++;
	}
}

/* --- state file -------------------------------------------------------------------------------------------------- */

/* By the upper bound of its bucket, but never above the longest one. */
static double quantile_us(const struct counters *c, double q)
{
	uint64_t below = 0;
	for (int i = 0; i < BUCKETS; i++) {
		below += c->stall_hist[i];
		if (c->stalls > 0 && (double)below >= q * (double)c->stalls)
			return fmin(exp2((double)i / OCTAVE_BUCKETS), (double)c->stall_max_ns / 1e3);
	}
	return 0;
}

/* Other threads count on meanwhile: the figures are each right, and together nearly so. */
static void write_status(struct task *t, const char *state)
{
	struct counters sum = {0};
	uint64_t ops[NR_OPS] = {0};
	unsigned int epoch = 0;
	for (unsigned int i = 0; i < t->nr_threads; i++) {
		const struct worker *w = &t->workers[i];
		epoch = w->epoch > epoch ? w->epoch : epoch;
		for (int op = 0; op < NR_OPS; op++)
			ops[op] += w->ops[op];
	}
	for (unsigned int i = 0; i < t->nr_threads; i++) {
		const struct worker *w = &t->workers[i];
		const struct counters *c = &w->c;
		if (w->epoch != epoch)
			continue; /* it hasn't run since the restore */
		sum.steps += c->steps;
		sum.checked_pages += c->checked_pages;
		sum.written_pages += c->written_pages;
		sum.first_touches += c->first_touches;
		if (c->last_first_touch_us > sum.last_first_touch_us)
			sum.last_first_touch_us = c->last_first_touch_us;
		if (sum.start_us == 0 || c->start_us < sum.start_us)
			sum.start_us = c->start_us;
		sum.stalls += c->stalls;
		sum.stall_sum_ns += c->stall_sum_ns;
		if (c->stall_max_ns > sum.stall_max_ns)
			sum.stall_max_ns = c->stall_max_ns;
		for (int b = 0; b < BUCKETS; b++)
			sum.stall_hist[b] += c->stall_hist[b];
	}
	ops[OP_FORK] = t->forks;
	FILE *f = fopen(t->status_tmp, "we");
	if (f == NULL)
		return;
	pthread_mutex_lock(&t->error_lock);
	for (char *c = t->first_error; *c != '\0'; c++)
		if (*c == '"' || *c == '\\')
			*c = '\'';
	fprintf(f, "{\"state\": \"%s\", \"seq\": %llu, \"pid\": %d, \"errors\": %llu, \"first_error\": \"%s\",\n", state,
		(unsigned long long)++t->seq, (int)getpid(), (unsigned long long)atomic_load(&t->errors),
		t->first_error);
	pthread_mutex_unlock(&t->error_lock);
	fprintf(f, "\"mode\": \"%s\", \"threads\": %u, \"pages\": %zu, \"epoch\": %u, \"unix_us\": %llu,\n",
		mode_names[t->mode], t->nr_threads, t->nr_pages, epoch, (unsigned long long)unix_us());
	fprintf(f, "\"start_us\": %llu, \"steps\": %llu, \"checked_pages\": %llu, \"written_pages\": %llu,\n",
		(unsigned long long)sum.start_us, (unsigned long long)sum.steps,
		(unsigned long long)sum.checked_pages, (unsigned long long)sum.written_pages);
	fprintf(f, "\"first_touches\": %llu, \"last_first_touch_us\": %llu,\n",
		(unsigned long long)sum.first_touches, (unsigned long long)sum.last_first_touch_us);
	fprintf(f, "\"stalls\": %llu, \"stall_sum_us\": %.1f, \"stall_max_us\": %.1f, ",
		(unsigned long long)sum.stalls, (double)sum.stall_sum_ns / 1e3, (double)sum.stall_max_ns / 1e3);
	fprintf(f, "\"stall_p50_us\": %.1f, \"stall_p99_us\": %.1f,\n\"stall_hist\": [",
		quantile_us(&sum, 0.5), quantile_us(&sum, 0.99));
	int used = BUCKETS;
	while (used > 0 && sum.stall_hist[used - 1] == 0)
		used--;
	for (int b = 0; b < used; b++)
		fprintf(f, "%s%llu", b == 0 ? "" : ", ", (unsigned long long)sum.stall_hist[b]);
	fprintf(f, "],\n\"ops\": {");
	for (int op = 0; op < NR_OPS; op++)
		fprintf(f, "%s\"%s\": %llu", op == 0 ? "" : ", ", op_names[op], (unsigned long long)ops[op]);
	fprintf(f, "},\n\"children_ok\": %llu, \"children_bad\": %llu, \"children_alive\": %u}\n",
		(unsigned long long)t->children_ok, (unsigned long long)t->children_bad, t->children_alive);
	bool written = fflush(f) == 0 && ferror(f) == 0;
	fclose(f);
	if (written)
		rename(t->status_tmp, t->status_path);
}

/* --- start, control, end ------------------------------------------------------------------------------------------- */

static int usage(const char *problem)
{
	fprintf(stderr,
		"memtask: %s\n"
		"usage: memtask --mib N --status FILE [--threads 1-%d]\n"
		"               [--mode verify|random|sequential|strided|zipf|idle] [--write-percent 0-100]\n"
		"               [--hot-percent 0-100]\n"
		"               [--ops all|none|fork,mremap,munmap,dontneed,mprotect] [--stride PAGES] [--seed N] [--hold]\n",
		problem, MAX_THREADS);
	return 2;
}

static bool parse_number(const char *text, uint64_t low, uint64_t high, uint64_t *out)
{
	char *end;
	errno = 0;
	*out = strtoull(text, &end, 10);
	return errno == 0 && end != text && *end == '\0' && *text != '-' && *out >= low && *out <= high;
}

static bool parse_name(const char *text, size_t length, const char *const *names, int count, int *out)
{
	for (*out = 0; *out < count; ++*out)
		if (strlen(names[*out]) == length && strncmp(names[*out], text, length) == 0)
			return true;
	return false;
}

static bool parse_ops(const char *text, bool *enabled)
{
	bool all = strcmp(text, "all") == 0;
	for (int op = 0; op < NR_OPS; op++)
		enabled[op] = all;
	if (all || strcmp(text, "none") == 0)
		return true;
	for (const char *end;; text = end + 1) {
		int op;
		end = strchrnul(text, ',');
		if (!parse_name(text, (size_t)(end - text), op_names, NR_OPS, &op))
			return false;
		enabled[op] = true;
		if (*end == '\0')
			return true;
	}
}

static const char *parse(struct task *t, int argc, char **argv)
{
	static const struct option options[] = {
		{"mib", required_argument, NULL, 'm'},	   {"threads", required_argument, NULL, 't'},
		{"mode", required_argument, NULL, 'M'},	   {"write-percent", required_argument, NULL, 'w'},
		{"ops", required_argument, NULL, 'o'},	   {"stride", required_argument, NULL, 'r'},
		{"seed", required_argument, NULL, 's'},	   {"status", required_argument, NULL, 'f'},
		{"hold", no_argument, NULL, 'h'},	   {"compressible", no_argument, NULL, 'c'},
		{"hot-percent", required_argument, NULL, 'H'},  {"wipe-on-fork", no_argument, NULL, 'W'},
		{"guards", no_argument, NULL, 'G'},		   {"advise-later", no_argument, NULL, 'A'},
		{NULL, 0, NULL, 0}};
	uint64_t n;
	int c, name;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'm':
			if (!parse_number(optarg, 4, 1 << 20, &n))
				return "--mib must be a number from 4 on";
			t->nr_pages = (size_t)(n << 20) / PAGE;
			break;
		case 't':
			if (!parse_number(optarg, 1, MAX_THREADS, &n))
				return "--threads is out of range";
			t->nr_threads = (unsigned int)n;
			break;
		case 'M':
			if (!parse_name(optarg, strlen(optarg), mode_names, NR_MODES, &name))
				return "--mode: no such mode";
			t->mode = (enum mode)name;
			break;
		case 'w':
			if (!parse_number(optarg, 0, 100, &n))
				return "--write-percent is out of range";
			t->write_percent = (unsigned int)n;
			break;
		case 'H':
			if (!parse_number(optarg, 0, 100, &n))
				return "--hot-percent is out of range";
			t->hot_percent = (unsigned int)n;
			break;
		case 'o':
			if (!parse_ops(optarg, t->op_enabled))
				return "--ops: no such operation";
			break;
		case 'r':
			if (!parse_number(optarg, 1, 1 << 20, &n))
				return "--stride is out of range";
			t->stride = (size_t)n;
			break;
		case 's':
			if (!parse_number(optarg, 0, UINT64_MAX, &t->seed))
				return "--seed must be a number";
			break;
		case 'f':
			t->status_path = optarg;
			break;
		case 'h':
			t->hold = true;
			break;
		case 'W':
			t->wipe_on_fork = true;
			break;
		case 'G':
			t->guards = true;
			break;
		case 'A':
			t->advise_later = true;
			break;
		case 'c':
			t->distinct_words = PAGE / sizeof(uint64_t) / 2;
			break;
		default:
			return "wrong option";
		}
	}
	if (optind != argc)
		return "no argument but options is taken";
	if (t->nr_pages == 0 || t->status_path == NULL)
		return "--mib and --status are needed";
	if (t->nr_pages / t->nr_threads < 2 * (STACK_PAGES + HEAP_PAGES) && t->mode == MODE_VERIFY)
		return "mode verify needs 5 MiB a thread";
	if (t->write_percent == UNSET)
		t->write_percent = t->mode == MODE_VERIFY ? 30 : 0;
	if (asprintf(&t->status_tmp, "%s.new", t->status_path) < 0)
		return "no memory";
	return NULL;
}

static bool start_workers(struct task *t)
{
	size_t share = t->nr_pages / t->nr_threads;
	t->workers = calloc(t->nr_threads, sizeof(*t->workers));
	t->state = calloc(t->nr_pages, sizeof(*t->state));
	t->touched_in = calloc(t->nr_pages, sizeof(*t->touched_in));
	if (t->workers == NULL || t->state == NULL || t->touched_in == NULL)
		return false;
	for (size_t p = 0; p < t->nr_pages; p++)
		t->state[p] = make_state(t, p, STATE_ZERO);
	if (t->mode == MODE_ZIPF)
		zipf_init(&t->zipf, t->nr_pages);
	if (t->wipe_on_fork)
		t->wiped = new_wiped_area();
	if (t->guards)
		t->guarded = new_guarded_area();
	if (t->advise_later)
		new_later_areas(t);
	if (t->mode != MODE_VERIFY)
		add_extent(&t->workers[0], new_area(t->nr_pages, false), t->nr_pages, 0, PROT_READ | PROT_WRITE, true);
	for (unsigned int i = 0; i < t->nr_threads; i++) {
		struct worker *w = &t->workers[i];
		w->task = t;
		w->index = i;
		w->epoch = 1;
		w->rng = mix(t->seed + i);
		w->first_page = i * share;
		w->nr_pages = i + 1 == t->nr_threads ? t->nr_pages - i * share : share;
		if (pthread_mutex_init(&w->lock, NULL) != 0)
			return false;
	}
	for (unsigned int i = 0; i < t->nr_threads; i++)
		if (pthread_create(&t->workers[i].thread, NULL, start_work, &t->workers[i]) != 0)
			return false;
	while (atomic_load(&t->filled) < t->nr_threads)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	atomic_store(&t->running, !t->hold);
	return true;
}

static void *control(void *arg)
{
	struct task *t = arg;
	const struct timespec tick = {.tv_nsec = FORK_EVERY_MS * 1000000L};
	for (;;) {
		bool forks = t->mode == MODE_VERIFY && t->op_enabled[OP_FORK] && atomic_load(&t->running);
		int got = sigtimedwait(&t->signals, NULL, forks ? &tick : NULL);
		reap(t, WNOHANG);
		if (got == SIGTERM)
			return NULL;
		if (got == SIGUSR1 && t->advise_later && !t->advised)
			advise(t);
		if (got == SIGUSR1)
			atomic_store(&t->running, !atomic_load(&t->running));
		if (got == SIGUSR2)
			write_status(t, atomic_load(&t->running) ? "running" : "held");
		if (got < 0 && errno == EAGAIN && forks && t->children_alive < MAX_CHILDREN)
			fork_child(t);
	}
}

static void *finish(void *arg)
{
	struct task *t = arg;
	atomic_store(&t->stopping, true);
	while (atomic_load(&t->filled) > 0)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	reap(t, 0);
	uint64_t rng = t->seed;
	check_all(t, &rng, NULL);
	check_wiped_area(t, WIPED_BYTE);
	check_guarded_area(t);
	check_later_areas(t, false);
	write_status(t, "verified");
	atomic_store(&t->verified, true);
	for (unsigned int i = 0; i < t->nr_threads; i++)
		pthread_join(t->workers[i].thread, NULL);
	return NULL;
}

/* In the background: a session of its own, no descriptor but /dev/null, so that nothing ties it to this host. */
static int run(struct task *t, int ready_fd)
{
	sigemptyset(&t->signals);
	sigaddset(&t->signals, SIGUSR1);
	sigaddset(&t->signals, SIGUSR2);
	sigaddset(&t->signals, SIGTERM);
	int null = open("/dev/null", O_RDWR);
	if (null < 0 || setsid() < 0 || chdir("/") != 0 || pthread_sigmask(SIG_BLOCK, &t->signals, NULL) != 0 ||
	    !start_workers(t)) {
		perror("memtask");
		return 2;
	}
	write_status(t, "ready");
	pid_t pid = getpid();
	if (write(ready_fd, &pid, sizeof(pid)) != sizeof(pid))
		return 2;
	dup2(null, 0);
	dup2(null, 1);
	dup2(null, 2);
	close_range(3, ~0U, 0);
	from_mid_page(control, t);
	from_mid_page(finish, t);
	return atomic_load(&t->errors) == 0 && t->children_bad == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
	static struct task task = {.nr_threads = 4, .write_percent = UNSET, .hot_percent = 100, .stride = 16, .seed = 1,
				   .distinct_words = PAGE / sizeof(uint64_t),
				   .error_lock = PTHREAD_MUTEX_INITIALIZER};
	const char *problem = parse(&task, argc, argv);
	if (problem != NULL)
		return usage(problem);
	int ready[2];
	if (pipe(ready) != 0) {
		perror("memtask: pipe");
		return 2;
	}
	pid_t pid = fork();
	if (pid == 0) {
		close(ready[0]);
		return run(&task, ready[1]);
	}
	close(ready[1]);
	pid_t told;
	if (pid < 0 || read(ready[0], &told, sizeof(told)) != sizeof(told)) {
		fprintf(stderr, "memtask: could not start\n");
		return 2;
	}
	printf("%d\n", (int)told);
	return 0;
}
