/* SPDX-License-Identifier: Apache-2.0 */
/*
 * push_sharing: which pages of a batch other tasks have, too, at the same address, as forked tasks do with what neither has
 * written to since. Cheap to see where both lie in the same frame; then they are read and compared. Whom to look at is
 * learned: a task that has had nothing in common of late is left out for a while.
 *
 * No lock: its owner's, where it is said.
 */
#ifndef CL_PUSH_SHARING_H
#define CL_PUSH_SHARING_H

#include <stdbool.h>
#include <stdint.h>

#include "source/push_batch.h"
#include "source/push_tasks.h"

_Static_assert(CL_PUSH_BATCH_PAGES <= 64, "a batch's pages are the bits of one word");

/* Which pages of a batch lie in a frame that a sibling has at the same address: cheap to see, it says where to look. */
struct cl_push_common {
	bool shared;                      /* any is perhaps another task's, too */
	uint64_t pages[CL_PUSH_MAX_ALSO]; /* a bit each */
};

/* The k'th of the tasks that follow this one, in a ring. */
struct cl_push_task *cl_push_sibling(const struct cl_push_tasks *tasks, const struct cl_push_task *task, unsigned int k);

/* Which siblings to look at for pages in common, a bit each. Lock held. */
uint16_t cl_push_siblings_choose(const struct cl_push_tasks *tasks, struct cl_push_task *task);

/* They were looked at for nr_pages, and those in `hits` had some. Lock held. */
void cl_push_siblings_note(struct cl_push_task *task, uint64_t nr_pages, uint16_t chosen, uint16_t hits);

/* Where to look among these siblings for the pages of a batch. */
void cl_push_find_common(const struct cl_push_tasks *tasks, const struct cl_push_task *task, uint16_t siblings,
			 const struct cl_push_header *batch, struct cl_push_common *common);

/*
 * Which of the pages in `mask`, from vaddr on, the task has the same, by reading and comparing. scratch: as large as they.
 */
uint64_t cl_push_same_pages(const struct cl_push_task *task, uint64_t vaddr, uint64_t mask, const uint8_t *pages,
			    uint8_t *scratch);

#endif
