/* SPDX-License-Identifier: Apache-2.0 */
/* memtask's mode `verify`: shares of every kind of memory, what happens to them, and how all of it is checked. */
#ifndef MEMTASK_VERIFY_H
#define MEMTASK_VERIFY_H

#include "memtask.h"

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

#endif
