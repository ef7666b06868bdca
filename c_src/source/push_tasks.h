/* SPDX-License-Identifier: Apache-2.0 */
/*
 * push_tasks: the frozen tasks whose pages are pushed: what of each one's memory is lazy, and reading it.
 */
#ifndef CL_PUSH_TASKS_H
#define CL_PUSH_TASKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "images/image.h"
#include "task/task_memory.h"
#include "wire/push_protocol.h"

/* Another task, which may have pages in common with one. */
struct cl_push_sibling {
	uint8_t misses; /* batches in a row */
	uint8_t pause;  /* batches left */
};

struct cl_push_task {
	struct cl_image *image; /* todo[CL_REMOTE]: told missing and not sent yet */
	struct cl_task_memory memory;
	/* Which pages are known to be as in the store (push_compare.c); NULL: none. */
	_Atomic uint64_t *same;
	uint64_t first_word, same_words;                   /* of all tasks' words, its own */
	uint64_t same_at;                                  /* the session was told of those below that it misses */
	int frames_fd;                                     /* -1: not known */
	struct cl_push_sibling siblings[CL_PUSH_MAX_ALSO]; /* the tasks that follow it, in a ring */
};

struct cl_push_tasks {
	struct cl_push_task *at;
	size_t nr;
	struct cl_image *images; /* theirs */
	struct cl_chunk_pool wanted_chunks;
};

/*
 * Read the pagemaps in this directory, open the memory of the tasks, ids as the images name them, pids as we see them. 0 or
 * -errno; to be closed in any case.
 */
int cl_push_tasks_open(struct cl_push_tasks *tasks, int images_fd, const int32_t *ids, const int32_t *pids, size_t nr,
		       struct cl_error *error);
void cl_push_tasks_close(struct cl_push_tasks *tasks);

/* Of a range that a client named: its task, if all of it is lazy pages. */
struct cl_push_task *cl_push_tasks_find(const struct cl_push_tasks *tasks, const struct cl_push_header *range);

/* Read pages of its memory; shared: other tasks may have them, too, and are to keep them. 0 or -errno. */
int cl_push_task_read(const struct cl_push_task *task, const struct cl_push_header *range, bool shared, uint8_t *out);

#endif
