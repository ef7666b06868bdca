/* SPDX-License-Identifier: Apache-2.0 */
#include "task/proc_pagemap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/page.h"

/* As <linux/fs.h> has it from 6.7 on; Debian 12's doesn't. */
struct page_region {
	uint64_t start, end, categories;
};

struct scan {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages, inverted, mask, any_of, returned;
};

#define SCAN _IOWR('f', 16, struct scan)
enum { IS_FILE = 1 << 2, IS_PRESENT = 1 << 3, IS_SWAPPED = 1 << 4, IS_SOFT_DIRTY = 1 << 7, MAX_REGIONS = 256 };

int cl_proc_pagemap_open(pid_t pid)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

uint64_t cl_proc_pagemap_read(int pagemap_fd, uint64_t vaddr, uint64_t *entries, uint64_t nr)
{
	ssize_t got = pread(pagemap_fd, entries, nr * sizeof(*entries), (off_t)(vaddr / CL_PAGE_SIZE * sizeof(*entries)));

	return got > 0 ? (uint64_t)got / sizeof(*entries) : 0;
}

int cl_proc_pagemap_frames(int pagemap_fd, uint64_t vaddr, uint64_t *frames, uint64_t nr, bool *shared)
{
	const uint64_t there = CL_ENTRY_PRESENT | CL_ENTRY_SWAPPED;
	uint64_t i;

	if (cl_proc_pagemap_read(pagemap_fd, vaddr, frames, nr) != nr)
		return -ESRCH;
	if (shared)
		*shared = false;
	for (i = 0; i < nr; i++) {
		if (shared && frames[i] & there && !(frames[i] & CL_ENTRY_EXCLUSIVE))
			*shared = true;
		frames[i] = frames[i] & there && frames[i] & CL_ENTRY_FRAME ? frames[i] & (there | CL_ENTRY_FRAME) : 0;
	}
	return 0;
}

int cl_proc_pagemap_next(int pagemap_fd, uint64_t from, uint64_t to, uint64_t *next)
{
	struct page_region found;
	struct scan scan = { .size = sizeof(scan),
			     .start = from,
			     .end = to,
			     .vec = (uintptr_t)&found,
			     .vec_len = 1,
			     .max_pages = 1,
			     .inverted = IS_FILE,
			     .mask = IS_FILE,
			     .any_of = IS_PRESENT | IS_SWAPPED,
			     .returned = IS_PRESENT };
	int ret = ioctl(pagemap_fd, SCAN, &scan);

	if (ret < 0)
		return -errno;
	*next = ret ? found.start : to;
	return 0;
}

int cl_proc_pagemap_soft_dirty(int pagemap_fd, uint64_t vaddr, uint64_t *entries, uint64_t nr)
{
	struct page_region found[MAX_REGIONS];
	uint64_t at = vaddr, end = vaddr + nr * CL_PAGE_SIZE, i;

	while (at < end) {
		struct scan scan = { .size = sizeof(scan),
				     .start = at,
				     .end = end,
				     .vec = (uintptr_t)found,
				     .vec_len = MAX_REGIONS,
				     .mask = IS_SOFT_DIRTY,
				     .returned = IS_SOFT_DIRTY };
		int nr_found = ioctl(pagemap_fd, SCAN, &scan), region;

		if (nr_found < 0)
			return -errno;
		for (i = at; i < scan.walk_end && i < end; i += CL_PAGE_SIZE)
			entries[(i - vaddr) / CL_PAGE_SIZE] &= ~CL_ENTRY_SOFT_DIRTY;
		for (region = 0; region < nr_found; region++)
			for (i = found[region].start; i < found[region].end; i += CL_PAGE_SIZE)
				entries[(i - vaddr) / CL_PAGE_SIZE] |= CL_ENTRY_SOFT_DIRTY;
		if (scan.walk_end <= at)
			return -EINVAL;
		at = scan.walk_end;
	}
	return 0;
}
