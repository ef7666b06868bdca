/* SPDX-License-Identifier: Apache-2.0 */
/*
 * costs: what following a huge task costs, in microseconds of CPU with the engine's lock held: the median and the worst of
 * TIMES.
 *
 *   costs [GIB] [VMAS]     (default: 64 GiB; 60,000 areas)
 *
 * Of a task of so many GiB; of each 512 MiB of it, at another place, a page has come:
 *   fork    make the space of a forked child that misses nearly all of the task's memory, and what a
 *           successor daemon would need of it
 *   gone    that child ends: its missing pages are dropped
 *   differs the same, of a child that got pages of its own all over the memory before that
 *   munmap-all, remove-all, mremap-all
 *           the task gives up, or moves, all of its memory
 *   check   a step of what is left to be done after munmap-all and differs, with the lock let go between (the worst: of all)
 *   last    the next page to fetch is looked for, of which there is one left, at the other end
 * Of a task of VMAS areas:
 *   munmap  it unmaps a page, and the next run of missing pages is looked for
 *   mremap  the same of a page that moves
 *   moved   the same, after a thousand others have moved
 *   areas   a fork, with what a successor daemon would need
 *   piece   it unmaps all of its areas at once: a piece of that
 *   new     its own space is made, when it is restored
 * Of a thousand tasks:
 *   fault   a page fault is counted by its place
 *   map     where pages are missing
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/page.h"
#include "base/shared_bits.h"
#include "check.h"
#include "destination/address_space.h"
#include "destination/missing_map.h"
#include "destination/resume_state.h"

enum { TIMES = 40, TASKS = 1000, MOVED = 1000 };

#define BASE 0x10000ULL
#define FAR 0x700000000000ULL

/* Of CPU time: what else the machine does is nothing of ours. */
static uint64_t cpu_us(void)
{
	struct timespec now;

	CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) == 0);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

struct costs {
	uint64_t us[TIMES];
	uint64_t worst_us;
	int nr;
};

static int ascending(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

	return left < right ? -1 : left > right;
}

/* Since `began_us`. Of more than TIMES the median is of the first. */
static void took(struct costs *costs, uint64_t began_us)
{
	uint64_t us = cpu_us() - began_us;

	if (costs->nr < TIMES)
		costs->us[costs->nr++] = us;
	if (us > costs->worst_us)
		costs->worst_us = us;
}

static void tell(const char *what, struct costs *costs)
{
	if (costs->nr) {
		qsort(costs->us, (size_t)costs->nr, sizeof(*costs->us), ascending);
		printf("%-10s %7llu %7llu\n", what, (unsigned long long)costs->us[costs->nr / 2],
		       (unsigned long long)costs->worst_us);
	}
	*costs = (struct costs){ 0 };
}

static struct cl_chunk_pool chunks = CL_CHUNKS_IN_MEMORY, todo_chunks = CL_CHUNKS_IN_MEMORY;

static struct cl_image *make_image(uint64_t nr_pages, size_t nr_vmas)
{
	uint64_t each = nr_pages / nr_vmas * CL_PAGE_SIZE;
	struct cl_vma *vmas = calloc(nr_vmas, sizeof(*vmas));
	struct cl_image *image;
	size_t i;

	CHECK(vmas);
	/* A page between each two. */
	for (i = 0; i < nr_vmas; i++) {
		vmas[i].start = BASE + i * (each + CL_PAGE_SIZE);
		vmas[i].end = vmas[i].start + each;
	}
	image = cl_image_new(1, vmas, nr_vmas);
	CHECK(image);
	for (i = 0; i < nr_vmas; i++)
		CHECK(cl_image_append(image, vmas[i].start, each / CL_PAGE_SIZE, NULL) == 0);
	CHECK(cl_image_seal(image, &todo_chunks) == 0);
	free(vmas);
	image->chunks = &chunks;
	return image;
}

static void free_image(struct cl_image *image)
{
	cl_image_free_spaces(image);
	cl_image_free(image);
}

/* A page of each chunk of the space's bitmap arrives. */
static void fill_everywhere(struct cl_space *space, uint64_t page)
{
	for (; page < space->image->nr_pages; page += CL_CHUNK_BITS)
		CHECK(cl_space_filled(space, page, page + 1) == 1);
}

/* And had been asked for. */
static void ask_everywhere(struct cl_image *image, uint64_t page)
{
	uint64_t index;

	for (; page < image->nr_pages; page += CL_CHUNK_BITS)
		CHECK(cl_image_take(image, CL_REMOTE, page, false, 1, &index) == 1 && index == page);
}

static void check_todo(struct cl_image *image, struct costs *costs)
{
	uint64_t began_us;
	bool more;

	do {
		began_us = cpu_us();
		more = cl_image_check_todo(image);
		took(costs, began_us);
	} while (more);
}

/* What is done between with the lock let go isn't counted. */
static struct cl_space *fork_space(struct cl_resume_state *state, struct cl_space *parent, struct costs *costs)
{
	struct cl_space *child = cl_space_prepare_fork(parent, -1);
	uint64_t began_us = cpu_us(), let_go_us, area;

	CHECK(cl_space_fork(parent, child));
	let_go_us = cpu_us();
	CHECK(cl_resume_state_prepare(state, child, NULL, &area) == 0);
	began_us += cpu_us() - let_go_us;
	cl_resume_state_enter(child);
	took(costs, began_us);
	return child;
}

/* differs: the child misses something else than the task, all over the memory; one page of each 512 MiB. */
static void of_forks(uint64_t gib, bool differs, struct costs *checks)
{
	struct cl_image *image = make_image(gib << 18, 1);
	struct costs forks = { 0 }, gone = { 0 };
	struct cl_space *space, *child;
	struct cl_resume_state state;
	uint64_t began_us, area;
	int i;

	CHECK(cl_resume_state_new(&state, 1, &chunks) == 0);
	space = cl_space_new(cl_space_prepare(image, 1, -1));
	CHECK(space && cl_resume_state_prepare(&state, space, NULL, &area) == 0);
	cl_resume_state_enter(space);
	ask_everywhere(image, 1);
	fill_everywhere(space, 1);
	for (i = 0; i < TIMES; i++) {
		child = fork_space(&state, space, &forks);
		CHECK(child->nr_missing == space->nr_missing);
		if (differs)
			fill_everywhere(child, 2);
		began_us = cpu_us();
		cl_space_retire(child);
		took(&gone, began_us);
		cl_resume_state_forget(&state, child);
		cl_image_forget_retired(image);
		check_todo(image, checks);
	}
	if (!differs)
		tell("fork", &forks);
	tell(differs ? "differs" : "gone", &gone);
	cl_resume_state_forget(&state, space);
	free_image(image);
	cl_chunk_pool_free(&chunks);
	close(state.fd);
}

static void of_all(uint64_t gib, int what, struct costs *checks)
{
	static const char *const names[] = { "munmap-all", "remove-all", "mremap-all" };
	struct costs costs = { 0 };
	struct cl_space *space;
	struct cl_image *image;
	uint64_t began_us, end = BASE + (gib << 30);
	struct cl_run run;
	int i;

	for (i = 0; i < TIMES; i++) {
		image = make_image(gib << 18, 1);
		space = cl_space_new(cl_space_prepare(image, 1, -1));
		CHECK(space);
		ask_everywhere(image, 1);
		fill_everywhere(space, 1);
		began_us = cpu_us();
		if (what == 0)
			CHECK(cl_space_unmap(space, BASE, end) == 0);
		else if (what == 1)
			cl_space_remove(space, BASE, end);
		else
			CHECK(cl_space_remap(space, BASE, FAR, end - BASE) == 0);
		CHECK(cl_space_next_run(space, 0, image->nr_pages, &run) == (what == 2));
		took(&costs, began_us);
		check_todo(image, checks);
		CHECK(!image->nr_todo[CL_REMOTE] == (what != 2));
		free_image(image);
	}
	tell(names[what], &costs);
}

static void of_the_last_page(uint64_t gib)
{
	struct cl_image *image = make_image(gib << 18, 1);
	struct costs costs = { 0 };
	uint64_t began_us, index;
	int i;

	cl_image_set_todo(image, CL_REMOTE, 0, image->nr_pages, false);
	for (i = 0; i < TIMES; i++) {
		cl_image_set_todo(image, CL_REMOTE, image->nr_pages - 2, image->nr_pages - 1, true);
		began_us = cpu_us();
		CHECK(cl_image_take(image, CL_REMOTE, 1, true, 1, &index) == 1);
		took(&costs, began_us);
	}
	tell("last", &costs);
	free_image(image);
}

static void move_one(struct cl_space *space, uint64_t i, uint64_t nr)
{
	uint64_t at = space->regions.at[i * (space->image->nr_vmas / nr)].start;
	struct cl_run run;

	CHECK(cl_space_remap(space, at, FAR + (nr * 10 + i) * 2 * CL_PAGE_SIZE, CL_PAGE_SIZE) == 0);
	CHECK(cl_space_next_run(space, 0, space->image->nr_pages, &run));
}

static void of_areas(size_t nr_vmas)
{
	enum { PAGES = 16 };
	struct cl_image *image = make_image(nr_vmas * PAGES, nr_vmas);
	struct cl_space *space, *child;
	struct cl_resume_state state;
	struct costs costs = { 0 };
	uint64_t began_us, at;
	struct cl_run run;
	uint64_t i;

	CHECK(cl_resume_state_new(&state, 1, &chunks) == 0);
	space = cl_space_new(cl_space_prepare(image, 1, -1));
	CHECK(space);
	for (i = 0; i < TIMES; i++) {
		at = space->regions.at[(size_t)i * space->regions.nr / TIMES].start;
		began_us = cpu_us();
		CHECK(cl_space_unmap(space, at, at + CL_PAGE_SIZE) == 0);
		CHECK(cl_space_next_run(space, 0, image->nr_pages, &run));
		took(&costs, began_us);
	}
	tell("munmap", &costs);
	for (i = 0; i < TIMES; i++) {
		began_us = cpu_us();
		move_one(space, i, TIMES);
		took(&costs, began_us);
	}
	tell("mremap", &costs);
	for (i = 0; i < MOVED; i++) {
		began_us = cpu_us();
		move_one(space, i, MOVED);
		if (i + TIMES >= MOVED)
			took(&costs, began_us);
	}
	tell("moved", &costs);
	for (i = 0; i < TIMES; i++) {
		child = fork_space(&state, space, &costs);
		cl_space_retire(child);
		cl_resume_state_forget(&state, child);
		cl_image_forget_retired(image);
	}
	tell("areas", &costs);
	for (at = BASE; at < FAR; ) {
		uint64_t end = cl_space_piece_end(space, at, FAR);

		began_us = cpu_us();
		CHECK(cl_space_unmap(space, at, end) == 0);
		took(&costs, began_us);
		at = end;
	}
	tell("piece", &costs);
	for (i = 0; i < TIMES; i++) {
		child = cl_space_prepare(image, 1, -1);
		began_us = cpu_us();
		CHECK(cl_space_new(child));
		took(&costs, began_us);
	}
	tell("new", &costs);
	free_image(image);
	cl_chunk_pool_free(&chunks);
	close(state.fd);
}

static void of_tasks(void)
{
	struct cl_image *images = NULL, *last = NULL, *image;
	uint64_t counts[CL_MAP_SLICES] = { 0 }, began_us, total = 0, i;
	uint8_t map[CL_MAP_SLICES];
	struct costs costs = { 0 };

	for (i = 0; i < TASKS; i++) {
		image = make_image(100000, 1);
		CHECK(cl_space_new(cl_space_prepare(image, 1, -1)));
		cl_space_filled(image->spaces, 1, 2);
		image->before = total;
		total += image->nr_pages;
		*(last ? &last->next : &images) = image;
		last = image;
	}
	for (i = 0; i < TIMES; i++) {
		began_us = cpu_us();
		cl_map_count(total, last, 0, 1, counts);
		took(&costs, began_us);
	}
	tell("fault", &costs);
	for (i = 0; i < TIMES; i++) {
		began_us = cpu_us();
		cl_missing_map(images, false, map);
		took(&costs, began_us);
	}
	tell("map", &costs);
	for (; images; images = last) {
		last = images->next;
		free_image(images);
	}
	cl_chunk_pool_free(&chunks);
}

int main(int argc, char **argv)
{
	uint64_t gib = argc > 1 ? strtoull(argv[1], NULL, 10) : 64;
	struct costs checks = { 0 };
	int what;

	printf("            median   worst us\n");
	of_forks(gib, false, &checks);
	of_forks(gib, true, &checks);
	for (what = 0; what < 3; what++)
		of_all(gib, what, &checks);
	tell("check", &checks);
	cl_chunk_pool_free(&chunks);
	of_the_last_page(gib);
	of_areas(argc > 2 ? strtoull(argv[2], NULL, 10) : 60000);
	of_tasks();
	cl_chunk_pool_free(&todo_chunks);
	return 0;
}
