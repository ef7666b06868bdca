/* SPDX-License-Identifier: Apache-2.0 */
/*
 * costs: what following a huge task costs, in microseconds with the engine's lock held: the median and the worst of TIMES.
 *
 *   costs [GIB] [VMAS]     (default: 64 GiB; 60,000 areas)
 *
 *   fork    make the space of a forked child that misses all of the task's memory
 *   gone    that child ends: its missing pages are dropped
 *   munmap  a task of VMAS areas unmaps a page, and the next run of missing pages is looked for
 *   mremap  the same of a page that moves
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/deadline.h"
#include "base/page.h"
#include "check.h"
#include "destination/address_space.h"

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
	return image;
}

static void of_forks(uint64_t gib)
{
	struct cl_image *image = make_image(gib << 18, 1);
	struct cl_space *space = cl_space_new(image, 1, -1), *child;
	uint64_t fork_us[TIMES], gone_us[TIMES], began_us;
	int i;

	CHECK(space);
	for (i = 0; i < TIMES; i++) {
		began_us = cl_now_us();
		child = cl_space_fork(space, -1);
		fork_us[i] = cl_now_us() - began_us;
		CHECK(child && child->nr_missing == gib << 18);
		began_us = cl_now_us();
		cl_space_retire(child);
		gone_us[i] = cl_now_us() - began_us;
		cl_image_forget_retired(image);
	}
	tell("fork", fork_us);
	tell("gone", gone_us);
	cl_image_free_spaces(image);
	cl_image_free(image);
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
	of_forks(argc > 1 ? strtoull(argv[1], NULL, 10) : 64);
	of_areas(argc > 2 ? strtoull(argv[2], NULL, 10) : 60000);
	return 0;
}
