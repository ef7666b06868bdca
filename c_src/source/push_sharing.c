/* SPDX-License-Identifier: Apache-2.0 */
#include "source/push_sharing.h"

#include <string.h>

#include "base/bits.h"
#include "task/proc_pagemap.h"

enum {
	/*
	 * Whether a task shares pages is not looked at again for SHARE_PAUSE batches after SHARE_TRIES (not small) without
	 * any.
	 */
	SHARE_TRIES = 4,
	SHARE_PAUSE = 16,
	SHARE_SMALL = 16, /* pages */
};

struct cl_push_task *cl_push_sibling(const struct cl_push_tasks *tasks, const struct cl_push_task *task, unsigned int k)
{
	return &tasks->at[((size_t)(task - tasks->at) + 1 + k) % tasks->nr];
}

uint16_t cl_push_siblings_choose(const struct cl_push_tasks *tasks, struct cl_push_task *task)
{
	uint16_t chosen = 0;
	unsigned int k;

	if (task->frames_fd < 0)
		return 0;
	for (k = 0; k < CL_PUSH_MAX_ALSO && k + 1 < tasks->nr; k++) {
		if (task->siblings[k].pause)
			task->siblings[k].pause--;
		else if (cl_push_sibling(tasks, task, k)->frames_fd >= 0)
			chosen |= (uint16_t)(1U << k);
	}
	return chosen;
}

void cl_push_siblings_note(struct cl_push_task *task, uint64_t nr_pages, uint16_t chosen, uint16_t hits)
{
	unsigned int k;

	for (k = 0; k < CL_PUSH_MAX_ALSO; k++) {
		struct cl_push_sibling *sibling = &task->siblings[k];

		if (hits >> k & 1) {
			sibling->misses = 0;
		} else if (chosen >> k & 1 && nr_pages >= SHARE_SMALL && ++sibling->misses >= SHARE_TRIES) {
			sibling->misses = SHARE_TRIES - 1;
			sibling->pause = SHARE_PAUSE;
		}
	}
}

uint64_t cl_push_same_pages(const struct cl_push_task *task, uint64_t vaddr, uint64_t mask, const uint8_t *pages,
			    uint8_t *scratch)
{
	uint64_t same = 0, from, to;

	for (from = cl_bits_find(&mask, 0, 64, true); from < 64; from = cl_bits_find(&mask, to, 64, true)) {
		to = cl_bits_find(&mask, from, 64, false);
		if (cl_task_memory_read_shared(&task->memory, vaddr + from * CL_PAGE_SIZE, scratch,
					       (to - from) * CL_PAGE_SIZE) < 0)
			continue; /* it will be told when its own turn comes */
		for (uint64_t i = from; i < to; i++)
			if (memcmp(pages + i * CL_PAGE_SIZE, scratch + (i - from) * CL_PAGE_SIZE, CL_PAGE_SIZE) == 0)
				same |= 1ULL << i;
	}
	return same;
}

void cl_push_find_common(const struct cl_push_tasks *tasks, const struct cl_push_task *task, uint16_t siblings,
			 const struct cl_push_header *batch, struct cl_push_common *common)
{
	uint64_t frames[CL_PUSH_BATCH_PAGES], theirs[CL_PUSH_BATCH_PAGES], i, nr = batch->nr_pages;
	unsigned int k;

	memset(common, 0, sizeof(*common));
	if (task->frames_fd < 0)
		return;
	if (cl_proc_pagemap_frames(task->frames_fd, batch->vaddr, frames, nr, &common->shared) < 0)
		common->shared = true;
	for (k = 0; common->shared && siblings >> k; k++) {
		if (!(siblings >> k & 1) ||
		    cl_proc_pagemap_frames(cl_push_sibling(tasks, task, k)->frames_fd, batch->vaddr, theirs, nr, NULL) < 0)
			continue;
		for (i = 0; i < nr; i++)
			if (frames[i] && frames[i] == theirs[i])
				common->pages[k] |= 1ULL << i;
	}
}
