/* SPDX-License-Identifier: Apache-2.0 */
/*
 * traces: which pages a task's threads access, and how long they think in between: by pattern, as memtask does, or as a
 * file tells (simulate.c has the names, and the form of such a file).
 */
#ifndef TRACES_H
#define TRACES_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/page.h"
#include "check.h"

#define TASK_PREFIX "task-"
#define ZIPF_THETA 0.99 /* memtask's */

enum {
	MAX_THREADS = 64,
	STRIDE_PAGES = 16,
	CLUSTER_PAGES = 32,
};

static const char *const traces[] = { "sequential", "reverse", "strided", "zipf", "zipf-near", "clustered",
				      "runs", "random", "mixed" };
#define NR_TRACES (sizeof(traces) / sizeof(*traces))

struct access {
	uint64_t page;
	uint64_t think_ns; /* before it */
};

struct thread {
	struct access *accesses;
	size_t nr, max;
	/* while it runs */
	size_t at;
	uint64_t next_ns, blocked_ns;
	bool blocked;
};

struct setting {
	const char *trace;
	unsigned int nr_threads;
	uint64_t nr_pages, think_ns, rate_mbit, rtt_ns;
};

static void *make(size_t nr, size_t size)
{
	void *memory = calloc(nr ? nr : 1, size);

	CHECK(memory);
	return memory;
}

static void add_access(struct thread *thread, uint64_t page, uint64_t think_ns)
{
	if (thread->nr == thread->max) {
		thread->max = thread->max ? thread->max * 2 : 1024;
		thread->accesses = reallocarray(thread->accesses, thread->max, sizeof(*thread->accesses));
		CHECK(thread->accesses);
	}
	thread->accesses[thread->nr++] = (struct access){ page, think_ns };
}

static void shuffle(uint64_t *list, uint64_t nr, uint64_t *random)
{
	while (nr > 1) {
		uint64_t other = next_random(random) % nr--, kept = list[nr];

		list[nr] = list[other];
		list[other] = kept;
	}
}

/* Rank r with weight 1 / (r + 1): the inverse of a logarithm, near enough to Zipf's law with exponent 1. */
static uint64_t zipf_rank(uint64_t nr, uint64_t *random)
{
	uint64_t octaves = 63 - (uint64_t)__builtin_clzll(nr), low = 1ull << next_random(random) % octaves;

	return low + next_random(random) % low - 1;
}

static void add_shuffled_blocks(struct thread *thread, uint64_t first, uint64_t nr, bool whole_runs, uint64_t think_ns,
				uint64_t *random)
{
	uint64_t *blocks = make(nr / CLUSTER_PAGES, sizeof(*blocks)), pages[CLUSTER_PAGES], b, i, length;

	for (b = 0; b < nr / CLUSTER_PAGES; b++)
		blocks[b] = first + b * CLUSTER_PAGES;
	shuffle(blocks, nr / CLUSTER_PAGES, random);
	for (b = 0; b < nr / CLUSTER_PAGES; b++) {
		for (i = 0; i < CLUSTER_PAGES; i++)
			pages[i] = blocks[b] + i;
		if (!whole_runs)
			shuffle(pages, CLUSTER_PAGES, random);
		length = whole_runs ? 1 + next_random(random) % CLUSTER_PAGES : CLUSTER_PAGES * 3 / 4;
		for (i = 0; i < length; i++)
			add_access(thread, pages[i], think_ns);
	}
	free(blocks);
}

/* One thread's accesses by pattern: its own part of the memory, or all of it where the pattern is random. */
static void add_pattern(const struct setting *setting, const char *name, struct thread *thread, unsigned int number)
{
	uint64_t nr = setting->nr_pages / setting->nr_threads, first = nr * number, think_ns = setting->think_ns, i, j;
	uint64_t random = number + 1;

	if (!strcmp(name, "sequential")) {
		for (i = 0; i < nr; i++)
			add_access(thread, first + i, think_ns);
	} else if (!strcmp(name, "reverse")) {
		for (i = nr; i-- > 0;)
			add_access(thread, first + i, think_ns);
	} else if (!strcmp(name, "strided")) {
		for (i = 0; i < STRIDE_PAGES; i++)
			for (j = i; j < nr; j += STRIDE_PAGES)
				add_access(thread, first + j, think_ns);
	} else if (!strcmp(name, "zipf")) {
		for (i = 0; i < 4 * nr; i++)
			add_access(thread, zipf_rank(setting->nr_pages, &random) * 2654435761u % setting->nr_pages,
				   think_ns);
	} else if (!strcmp(name, "zipf-near")) {
		for (i = 0; i < 4 * nr; i++)
			add_access(thread, zipf_rank(setting->nr_pages, &random), think_ns);
	} else if (!strcmp(name, "clustered") || !strcmp(name, "runs")) {
		add_shuffled_blocks(thread, first, nr, !strcmp(name, "runs"), think_ns, &random);
	} else if (!strcmp(name, "random")) {
		for (i = 0; i < nr; i++)
			add_access(thread, next_random(&random) % setting->nr_pages, think_ns);
	} else {
		static const char *const mix[] = { "sequential", "random", "strided", "clustered", "reverse", "runs" };

		CHECK(!strcmp(name, "mixed"));
		add_pattern(setting, mix[number % 6], thread, number);
	}
}

struct zipf {
	double zetan, alpha, eta, half_pow_theta;
};

static struct zipf make_zipf(uint64_t nr)
{
	struct zipf z = { .alpha = 1.0 / (1.0 - ZIPF_THETA), .half_pow_theta = 1.0 + pow(0.5, ZIPF_THETA) };
	uint64_t i;

	for (i = 1; i <= nr; i++)
		z.zetan += pow(1.0 / (double)i, ZIPF_THETA);
	z.eta = (1.0 - pow(2.0 / (double)nr, 1.0 - ZIPF_THETA)) / (1.0 - z.half_pow_theta / z.zetan);
	return z;
}

/* Gray et al., as memtask.c has it. */
static uint64_t memtask_zipf_rank(const struct zipf *z, uint64_t nr, uint64_t *random)
{
	double u = (double)(next_random(random) >> 11) * 0x1p-53, uz = u * z->zetan;
	uint64_t rank;

	if (uz < 1.0)
		return 0;
	if (uz < z->half_pow_theta)
		return 1;
	rank = (uint64_t)((double)nr * pow(z->eta * u - z->eta + 1.0, z->alpha));
	return rank < nr ? rank : nr - 1;
}

static uint64_t page_ns(const struct setting *setting)
{
	return CL_PAGE_SIZE * 8000 / setting->rate_mbit;
}

/*
 * One of memtask's threads for as long as the transfer can take. Only its first access to each page is noted: at a later
 * one the page is there.
 */
static void add_memtask(const struct setting *setting, const char *mode, struct thread *thread, unsigned int number)
{
	uint64_t nr = setting->nr_pages / setting->nr_threads, first = nr * number, all = setting->nr_pages;
	uint64_t end_ns = all * page_ns(setting) + setting->rtt_ns, now_ns = 0, noted_ns = 0, random = number + 1;
	bool sequential = !strcmp(mode, "sequential"), strided = !strcmp(mode, "strided"), zipf = !strcmp(mode, "zipf");
	uint64_t per_round = (nr + STRIDE_PAGES - 1) / STRIDE_PAGES, reach = sequential || strided ? nr : all, step, page;
	struct zipf law = make_zipf(zipf ? all : 2);
	bool *noted = make(all, sizeof(*noted));

	CHECK(sequential || strided || zipf || !strcmp(mode, "random"));
	for (step = 0; now_ns <= end_ns && thread->nr < reach; step++) {
		now_ns += setting->think_ns;
		if (sequential)
			page = first + step % nr;
		else if (strided)
			page = first + (step % per_round * STRIDE_PAGES + step / per_round % STRIDE_PAGES) % nr;
		else if (zipf)
			page = memtask_zipf_rank(&law, all, &random) * 2654435761u % all;
		else
			page = next_random(&random) % all;
		if (noted[page])
			continue;
		noted[page] = true;
		add_access(thread, page, now_ns - noted_ns);
		noted_ns = now_ns;
	}
	free(noted);
}

static void read_trace(struct setting *setting, struct thread *threads, const char *path)
{
	unsigned long long time_us, number, page, last_us[MAX_THREADS] = { 0 };
	FILE *file = fopen(path, "r");
	int got;

	if (!file) {
		perror(path);
		_Exit(2);
	}
	setting->nr_threads = 1;
	while ((got = fscanf(file, "%llu %llu %llu", &time_us, &number, &page)) == 3) {
		if (number >= MAX_THREADS || page >= 1ull << 31 || time_us < last_us[number])
			break;
		add_access(&threads[number], page, (time_us - last_us[number]) * 1000);
		last_us[number] = time_us;
		if (number >= setting->nr_threads)
			setting->nr_threads = (unsigned int)number + 1;
		if (page >= setting->nr_pages)
			setting->nr_pages = page + 1;
	}
	if (got != EOF) {
		fprintf(stderr, "%s: expected lines \"time_us thread page\", threads below %d, times that grow\n", path,
			MAX_THREADS);
		_Exit(2);
	}
	fclose(file);
}

static void prepare_threads(struct setting *setting, struct thread threads[MAX_THREADS])
{
	size_t prefix = strlen(TASK_PREFIX), i;
	bool known = false, task = !strncmp(setting->trace, TASK_PREFIX, prefix);
	unsigned int t;

	memset(threads, 0, MAX_THREADS * sizeof(*threads));
	for (i = 0; i < NR_TRACES; i++)
		known |= !strcmp(setting->trace, traces[i]);
	if (!known && !task)
		read_trace(setting, threads, setting->trace);
	for (t = 0; (known || task) && t < setting->nr_threads; t++) {
		if (task)
			add_memtask(setting, setting->trace + prefix, &threads[t], t);
		else
			add_pattern(setting, setting->trace, &threads[t], t);
	}
}

static void free_threads(struct thread threads[MAX_THREADS])
{
	unsigned int t;

	for (t = 0; t < MAX_THREADS; t++)
		free(threads[t].accesses);
}

#endif
