/* SPDX-License-Identifier: Apache-2.0 */
/*
 * costs: what following a huge task costs, in microseconds with the engine's lock held: the median and the worst of TIMES.
 *
 *   costs [GIB] [VMAS]     (default: 64 GiB; 60,000 areas)
 *
 *   fork    make the space of a forked child that misses nearly all of the task's memory, and what a
 *           successor daemon would need of it
 *   gone    that child ends: its missing pages are dropped
 *   differs the same, of a child that got pages of its own all over the memory before that
 *   munmap  a task of VMAS areas unmaps a page, and the next run of missing pages is looked for
 *   mremap  the same of a page that moves
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/page.h"
#include "base/shared_bits.h"
#include "check.h"
#include "destination/address_space.h"
#include "destination/resume_state.h"

enum { TIMES = 40 };

#define BASE 0x10000ULL
#define FAR 0x700000000000ULL

static int ascending(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

	return left < right ? -1 : left > right;
}

static void tell(const char *what, uint64_t *took_us)
{
	qsort(took_us, TIMES, sizeof(*took_us), ascending);
	printf("%-7s %7llu %7llu\n", what, (unsigned long long)took_us[TIMES / 2], (unsigned long long)took_us[TIMES - 1]);
}

static struct cl_chunk_pool chunks = CL_CHUNKS_IN_MEMORY;

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
	CHECK(cl_image_seal(image) == 0);
	free(vmas);
	image->chunks = &chunks;
	return image;
}

/* A page of each chunk of the space's bitmap arrives. */
static void fill_everywhere(struct cl_space *space, uint64_t page)
{
	for (; page < space->image->nr_pages; page += CL_CHUNK_BITS)
		CHECK(cl_space_filled(space, page, page + 1) == 1);
}

/* differs: the child misses something else than the task, all over the memory; one page of each 512 MiB. */
static void of_forks(uint64_t gib, bool differs)
{
	struct cl_image *image = make_image(gib << 18, 1);
	uint64_t fork_us[TIMES], gone_us[TIMES], began_us, area;
	struct cl_space *space, *child;
	struct cl_resume_state state;
	int i;

	CHECK(cl_resume_state_new(&state, 1, &chunks) == 0);
	space = cl_space_new(image, 1, -1);
	CHECK(space && cl_resume_state_enter(&state, space, NULL, &area) == 0);
	fill_everywhere(space, 1);
	for (i = 0; i < TIMES; i++) {
		began_us = cl_now_us();
		child = cl_space_fork(space, -1);
		CHECK(child && cl_resume_state_enter(&state, child, NULL, &area) == 0);
		fork_us[i] = cl_now_us() - began_us;
		CHECK(child->nr_missing == space->nr_missing);
		if (differs)
			fill_everywhere(child, 2);
		began_us = cl_now_us();
		cl_space_retire(child);
		gone_us[i] = cl_now_us() - began_us;
		cl_resume_state_forget(&state, child);
		cl_image_forget_retired(image);
	}
	if (!differs)
		tell("fork", fork_us);
	tell(differs ? "differs" : "gone", gone_us);
	cl_resume_state_forget(&state, space);
	cl_image_free_spaces(image);
	cl_image_free(image);
	cl_chunk_pool_free(&chunks);
	close(state.fd);
}

static void of_areas(size_t nr_vmas)
{
	enum { PAGES = 16 };
	struct cl_image *image = make_image(nr_vmas * PAGES, nr_vmas);
	struct cl_space *space = cl_space_new(image, 1, -1);
	uint64_t munmap_us[TIMES], mremap_us[TIMES], began_us, at;
	struct cl_run run;
	int i;

	CHECK(space);
	for (i = 0; i < TIMES; i++) {
		at = space->regions.at[(size_t)i * space->regions.nr / TIMES].start;
		began_us = cl_now_us();
		CHECK(cl_space_unmap(space, at, at + CL_PAGE_SIZE) == 0);
		CHECK(cl_space_next_run(space, 0, image->nr_pages, &run));
		munmap_us[i] = cl_now_us() - began_us;
	}
	for (i = 0; i < TIMES; i++) {
		at = space->regions.at[(size_t)i * space->regions.nr / TIMES].start;
		began_us = cl_now_us();
		CHECK(cl_space_remap(space, at, FAR + (uint64_t)i * 2 * CL_PAGE_SIZE, CL_PAGE_SIZE) == 0);
		CHECK(cl_space_next_run(space, 0, image->nr_pages, &run));
		mremap_us[i] = cl_now_us() - began_us;
	}
	tell("munmap", munmap_us);
	tell("mremap", mremap_us);
	cl_image_free_spaces(image);
	cl_image_free(image);
}

int main(int argc, char **argv)
{
	printf("        median   worst us\n");
	of_forks(argc > 1 ? strtoull(argv[1], NULL, 10) : 64, false);
	of_forks(argc > 1 ? strtoull(argv[1], NULL, 10) : 64, true);
	of_areas(argc > 2 ? strtoull(argv[2], NULL, 10) : 60000);
	return 0;
}
