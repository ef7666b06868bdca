/* SPDX-License-Identifier: Apache-2.0 */
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/page.h"
#include "base/thread.h"
#include "source/push_server_state.h"

enum {
	WORD_PAGES = 64,    /* what a thread compares before it looks for more: a word of the bitmap, nobody else's */
	LOOK_WORDS = 16384, /* at once with the lock held */
	EARLY_WORDS = 1024, /* the same, where more is to be looked up of each */
};

/* Of a word's pages, from its page *at on: the next remote ones of one extent, which begin at *at then. 0: there are none. */
static uint64_t remote_run(const struct cl_push_task *task, uint64_t word, uint64_t *at)
{
	uint64_t first = word * WORD_PAGES, index = first + *at, end = first + WORD_PAGES;
	const struct cl_extent *extent;

	end = end < task->image->nr_pages ? end : task->image->nr_pages;
	for (; index < end; index = extent[1].first) {
		extent = cl_image_extent(task->image, index);
		*at = index - first;
		if (cl_extent_source(extent) == CL_REMOTE)
			return (extent[1].first < end ? extent[1].first : end) - index;
	}
	return 0;
}

/* Of a run of remote pages of one extent: which are as in the store, a bit each. What can't be read isn't. */
static uint64_t compare_run(struct cl_push_server *server, const struct cl_push_task *task, uint64_t vaddr,
			    uint64_t nr_pages, uint8_t *pages)
{
	const struct cl_push_header run = { .nr_pages = nr_pages, .vaddr = vaddr, .dst_id = (uint64_t)task->image->pid };
	uint64_t last = vaddr + (nr_pages - 1) * CL_PAGE_SIZE, same = 0, i;
	uint8_t kinds[WORD_PAGES];

	if (!cl_hashes_find(server->config.stored, task->image->pid, vaddr) &&
	    !cl_hashes_find(server->config.stored, task->image->pid, last))
		return 0;
	if (cl_push_task_read(task, &run, server->tasks.nr > 1, pages) < 0)
		return 0;
	cl_push_find_kinds(server, &run, pages, true, kinds);
	for (i = 0; i < nr_pages; i++)
		same |= (uint64_t)(kinds[i] == CL_PUSH_SAME) << i;
	return same;
}

static uint64_t compare_word(struct cl_push_server *server, const struct cl_push_task *task, uint64_t word, uint8_t *pages)
{
	uint64_t at = 0, nr_pages, same = 0;

	for (; (nr_pages = remote_run(task, word, &at)); at += nr_pages)
		same |= compare_run(server, task, cl_image_vaddr(task->image, word * WORD_PAGES + at), nr_pages, pages)
		     << at;
	return same;
}

/* The task of this word, by its number among all tasks' words, which becomes its number in the task. */
static struct cl_push_task *task_of(struct cl_push_server *server, uint64_t *word)
{
	size_t low = 0, high = server->tasks.nr;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		*(server->tasks.at[middle].first_word <= *word ? &low : &high) = middle;
	}
	*word -= server->tasks.at[low].first_word;
	return &server->tasks.at[low];
}

/* Whether pages of this word are likely to have changed. */
static bool changes(const struct cl_push_server *server, const struct cl_push_task *task, uint64_t word)
{
	uint64_t at = 0, nr_pages, vaddr, end;

	for (; (nr_pages = remote_run(task, word, &at)); at += nr_pages) {
		vaddr = cl_image_vaddr(task->image, word * WORD_PAGES + at);
		end = vaddr + nr_pages * CL_PAGE_SIZE;
		for (; vaddr < end; vaddr = (vaddr / CL_HASHES_BLOCK_BYTES + 1) * CL_HASHES_BLOCK_BYTES)
			if (cl_hashes_changes(server->config.stored, task->image->pid, vaddr))
				return true;
	}
	return false;
}

/*
 * Takes no lock, as it gives way to everybody. Whether the tasks are still held is asked before anything of this is told, as
 * after any reading.
 */
static void *work(void *argument)
{
	struct cl_push_server *server = argument;
	struct cl_push_compare *compare = &server->compare;
	uint8_t *pages = cl_pages_alloc(WORD_PAGES);
	uint64_t next, word, number;

	cl_give_way();
	while (pages && !atomic_load_explicit(&compare->over, memory_order_relaxed)) {
		struct cl_push_task *task;

		next = atomic_fetch_add_explicit(&compare->next, 1, memory_order_relaxed);
		if (next >= 2 * compare->nr_words)
			break;
		word = number = next % compare->nr_words;
		task = task_of(server, &word);
		if (changes(server, task, word) != (next < compare->nr_words))
			continue;
		atomic_store_explicit(&task->same[word], compare_word(server, task, word, pages), memory_order_relaxed);
		next = atomic_fetch_add_explicit(&compare->nr_compared, 1, memory_order_relaxed);
		atomic_store_explicit(&compare->compared[next], number + 1, memory_order_release);
	}
	atomic_fetch_sub_explicit(&compare->nr_working, 1, memory_order_release);
	cl_become_ordinary(); /* what follows takes locks that others wait for */
	free(pages);
	/* It lives until it is joined, as cl_push_compare_end() must find it. */
	pthread_mutex_lock(&server->lock);
	while (!compare->may_leave)
		pthread_cond_wait(&server->work, &server->lock);
	pthread_mutex_unlock(&server->lock);
	return NULL;
}

void cl_push_compare_start(struct cl_push_server *server)
{
	struct cl_push_compare *compare = &server->compare;
	/* Half of the CPUs: the others are often the hyperthreads of these, and this host has more to do. */
	long threads = (sysconf(_SC_NPROCESSORS_ONLN) + 1) / 2;
	size_t i;

	for (i = 0; i < server->tasks.nr; i++) {
		struct cl_push_task *task = &server->tasks.at[i];

		task->first_word = compare->nr_words;
		task->same_words = cl_bits_words(task->image->nr_pages);
		compare->nr_words += task->same_words;
		task->same = calloc(task->same_words + 1, sizeof(*task->same));
		if (!task->same)
			return;
	}
	compare->compared = calloc(compare->nr_words + 1, sizeof(*compare->compared));
	if (!compare->compared)
		return;
	while (compare->nr_threads < CL_PUSH_COMPARE_THREADS && compare->nr_threads < threads) {
		atomic_fetch_add(&compare->nr_working, 1);
		if (cl_thread_start(&compare->threads[compare->nr_threads], "cl-compare", work, server) < 0) {
			atomic_fetch_sub(&compare->nr_working, 1);
			break;
		}
		compare->nr_threads++;
	}
}

void cl_push_compare_end(struct cl_push_server *server)
{
	const struct sched_param none = { .sched_priority = 0 };
	struct cl_push_compare *compare = &server->compare;
	unsigned int i;

	if (atomic_exchange_explicit(&compare->over, true, memory_order_relaxed))
		return;
	/* The kernel's lock over a task's memory may be in their hands: they are to come to their end. */
	for (i = 0; i < compare->nr_threads; i++)
		(void)pthread_setschedparam(compare->threads[i], SCHED_OTHER, &none);
}

void cl_push_compare_stop(struct cl_push_server *server)
{
	struct cl_push_compare *compare = &server->compare;

	cl_push_compare_end(server);
	pthread_mutex_lock(&server->lock);
	compare->may_leave = true;
	pthread_cond_broadcast(&server->work);
	pthread_mutex_unlock(&server->lock);
	while (compare->nr_threads)
		pthread_join(compare->threads[--compare->nr_threads], NULL);
}

static uint64_t same_word(const struct cl_push_task *task, uint64_t page)
{
	return atomic_load_explicit(&task->same[page / WORD_PAGES], memory_order_relaxed);
}

/* The first page of [from, to) that isn't known to be the same; to: all are. */
static uint64_t end_of_same(const struct cl_push_task *task, uint64_t from, uint64_t to)
{
	for (; from < to; from = (from | (WORD_PAGES - 1)) + 1) {
		uint64_t others = ~same_word(task, from) & cl_bits_mask(from, to);

		if (others)
			return from / WORD_PAGES * WORD_PAGES + (uint64_t)__builtin_ctzll(others);
	}
	return to;
}

bool cl_push_compare_is_same(const struct cl_push_task *task, uint64_t index, uint64_t nr_pages)
{
	return task->same && end_of_same(task, index, index + nr_pages) == index + nr_pages;
}

bool cl_push_compare_take(struct cl_push_task *task, uint64_t *index, uint64_t *nr_pages)
{
	const struct cl_shared_bits *wanted = &task->image->todo[CL_REMOTE];
	uint64_t end = task->image->nr_pages, at = task->same_at, looked, to;

	*nr_pages = 0;
	*index = at;
	if (!task->same || at >= end)
		return false;
	for (looked = 0; at < end && looked < LOOK_WORDS; looked++) {
		uint64_t both = cl_shared_bits_word(wanted, at / WORD_PAGES) & same_word(task, at) & cl_bits_mask(at, end);

		if (both) {
			at = at / WORD_PAGES * WORD_PAGES + (uint64_t)__builtin_ctzll(both);
			to = cl_image_extent(task->image, at)[1].first;
			to = to - at < CL_PUSH_TOLD_PAGES ? to : at + CL_PUSH_TOLD_PAGES;
			to = end_of_same(task, at, cl_shared_bits_find(wanted, at, to, false));
			cl_image_set_todo(task->image, CL_REMOTE, at, to, false);
			*index = at;
			*nr_pages = to - at;
			at = to;
			break;
		}
		at = (at | (WORD_PAGES - 1)) + 1;
	}
	task->same_at = at;
	return true;
}

/* The same as remote_run(), as far as the pages are as the first one: is_same. */
static uint64_t like_run(const struct cl_push_task *task, uint64_t word, uint64_t *at, bool *is_same)
{
	uint64_t nr_pages = remote_run(task, word, at), same = same_word(task, word * WORD_PAGES);

	*is_same = nr_pages && same >> *at & 1;
	return nr_pages ? cl_bits_find(&same, *at, *at + nr_pages, !*is_same) - *at : 0;
}

struct cl_push_task *cl_push_compare_take_early(struct cl_push_server *server, uint64_t max_pages, uint64_t *index,
						uint64_t *nr_pages, bool *is_same, bool *later)
{
	struct cl_push_compare *compare = &server->compare;
	unsigned int looked;

	*later = compare->nr_threads;
	for (looked = 0; *later && looked < EARLY_WORDS && compare->told_early < compare->nr_words; looked++) {
		bool working = atomic_load_explicit(&compare->nr_working, memory_order_acquire);
		uint64_t word = atomic_load_explicit(&compare->compared[compare->told_early], memory_order_acquire);
		struct cl_push_task *task;

		*later = word || working;
		if (!word--)
			return NULL;
		task = task_of(server, &word);
		while ((*nr_pages = like_run(task, word, &compare->told_early_pages, is_same))) {
			*index = word * WORD_PAGES + compare->told_early_pages;
			*nr_pages = *nr_pages < max_pages ? *nr_pages : max_pages;
			compare->told_early_pages += *nr_pages;
			/* Its store has no place for what it never had: that comes when it is asked for. */
			if (*is_same ||
			    cl_hashes_find(server->config.stored, task->image->pid, cl_image_vaddr(task->image, *index)))
				return task;
		}
		compare->told_early++;
		compare->told_early_pages = 0;
	}
	*later = *later && compare->told_early < compare->nr_words;
	return NULL;
}
