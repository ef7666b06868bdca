/* SPDX-License-Identifier: Apache-2.0 */
#include "task/soft_dirty.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/vec.h"
#include "task/proc_pagemap.h"
#include "base/page.h"

struct task {
	int32_t id;
	int pagemap_fd; /* of the address space whose bits were cleared */
	bool is_new;    /* in this round */
};

struct cl_soft_dirty {
	bool supported;
	struct task *tasks;
	size_t nr, max;
};

static bool clear_bits(int32_t pid)
{
	char path[32];
	bool cleared;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/clear_refs", pid);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	cleared = fd >= 0 && write(fd, "4", 1) == 1;
	if (fd >= 0)
		close(fd);
	return cleared;
}

uint64_t cl_soft_dirty_read(int pagemap_fd, uint64_t vaddr, uint64_t *entries, uint64_t nr)
{
	uint64_t got = cl_proc_pagemap_read(pagemap_fd, vaddr, entries, nr);

	/* Where the kernel can't tell so exactly, pagemap's own word stands: some pages are read for nothing. */
	(void)cl_proc_pagemap_soft_dirty(pagemap_fd, vaddr, entries, got);
	return got;
}

static bool is_dirty(int pagemap_fd, const volatile void *page)
{
	uint64_t entry = CL_ENTRY_SOFT_DIRTY;

	return cl_soft_dirty_read(pagemap_fd, (uintptr_t)page, &entry, 1) != 1 || entry & CL_ENTRY_SOFT_DIRTY;
}

/* Whether the bit of a page of our own can be cleared, and comes when the page is written. */
static bool try_kernel(void)
{
	volatile char *page = mmap(NULL, CL_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = cl_proc_pagemap_open(getpid());
	bool works = page != MAP_FAILED && fd >= 0;

	if (works) {
		*page = 1;
		works = clear_bits(getpid()) && !is_dirty(fd, page);
		*page = 2;
		works = works && is_dirty(fd, page);
	}
	if (fd >= 0)
		close(fd);
	if (page != MAP_FAILED)
		munmap((void *)page, CL_PAGE_SIZE);
	return works;
}

struct cl_soft_dirty *cl_soft_dirty_new(void)
{
	struct cl_soft_dirty *dirty = calloc(1, sizeof(*dirty));

	if (dirty)
		dirty->supported = try_kernel();
	return dirty;
}

void cl_soft_dirty_forget(struct cl_soft_dirty *dirty)
{
	while (dirty->nr)
		close(dirty->tasks[--dirty->nr].pagemap_fd);
}

void cl_soft_dirty_free(struct cl_soft_dirty *dirty)
{
	if (!dirty)
		return;
	cl_soft_dirty_forget(dirty);
	free(dirty->tasks);
	free(dirty);
}

static struct task *find(const struct cl_soft_dirty *dirty, int32_t id)
{
	size_t i;

	for (i = 0; i < dirty->nr; i++)
		if (dirty->tasks[i].id == id)
			return &dirty->tasks[i];
	return NULL;
}

bool cl_soft_dirty_is_tracked(const struct cl_soft_dirty *dirty, int32_t id)
{
	const struct task *task = find(dirty, id);

	return task && !task->is_new;
}

/* Let go of those that have ended, or have become another program: their address space has gone. */
static void forget_gone(struct cl_soft_dirty *dirty)
{
	size_t i, kept = 0;
	uint64_t entry;

	for (i = 0; i < dirty->nr; i++) {
		if (cl_proc_pagemap_read(dirty->tasks[i].pagemap_fd, 0, &entry, 1) == 1)
			dirty->tasks[kept++] = dirty->tasks[i];
		else
			close(dirty->tasks[i].pagemap_fd);
	}
	dirty->nr = kept;
}

static void track(struct cl_soft_dirty *dirty, int32_t id, int32_t pid)
{
	/* First the address space, then its bits: should the task exec in between, ours has gone, and that shows. */
	int fd = cl_proc_pagemap_open(pid);

	if (fd < 0)
		return;
	if (cl_vec_reserve(&dirty->tasks, &dirty->max, dirty->nr + 1, CL_VEC_NO_LIMIT) == 0 && clear_bits(pid))
		dirty->tasks[dirty->nr++] = (struct task){ .id = id, .pagemap_fd = fd, .is_new = true };
	else
		close(fd);
}

void cl_soft_dirty_begin(struct cl_soft_dirty *dirty, const int32_t *ids, const int32_t *pids, size_t nr)
{
	size_t i;

	if (!dirty->supported)
		return;
	forget_gone(dirty);
	for (i = 0; i < dirty->nr; i++)
		dirty->tasks[i].is_new = false;
	for (i = 0; i < nr; i++)
		if (!find(dirty, ids[i]))
			track(dirty, ids[i], pids[i]);
}
