/* SPDX-License-Identifier: Apache-2.0 */
#include "source/push_tasks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "images/pages_local.h"
#include "task/proc_pagemap.h"

/* 0 or -errno. */
static int open_task(struct cl_push_tasks *tasks, struct cl_push_task *task, int images_fd, int32_t id, int32_t pid,
		     struct cl_error *error)
{
	const struct cl_image_files files = { .images_fd = images_fd, .pid = id, .todo_chunks = &tasks->wanted_chunks };
	struct cl_pages_local pages;
	int ret = cl_image_load(&files, &task->image, &pages, error);

	if (ret < 0)
		return ret;
	cl_pages_local_close(&pages);
	task->image->next = tasks->images;
	tasks->images = task->image;
	ret = cl_task_memory_open(&task->memory, pid);
	return ret < 0 ? cl_error_set(error, ret, "memory of task %d (pid %d here): %s", id, pid, strerror(-ret)) : 0;
}

int cl_push_tasks_open(struct cl_push_tasks *tasks, int images_fd, const int32_t *ids, const int32_t *pids, size_t nr,
		       struct cl_error *error)
{
	int ret = 0;

	*tasks = (struct cl_push_tasks){ .at = calloc(nr + 1, sizeof(*tasks->at)), .wanted_chunks = CL_CHUNKS_IN_MEMORY };
	if (!tasks->at)
		return cl_error_set(error, -ENOMEM, "no memory");
	for (; ret == 0 && tasks->nr < nr; tasks->nr++) {
		struct cl_push_task *task = &tasks->at[tasks->nr];

		task->memory = cl_task_memory_closed(pids[tasks->nr]);
		task->frames_fd = -1;
		ret = open_task(tasks, task, images_fd, ids[tasks->nr], pids[tasks->nr], error);
		if (ret == 0 && nr > 1)
			task->frames_fd = cl_proc_pagemap_open(pids[tasks->nr]); /* or nothing is shared */
	}
	return ret;
}

void cl_push_tasks_close(struct cl_push_tasks *tasks)
{
	for (size_t i = 0; i < tasks->nr; i++) {
		cl_task_memory_close(&tasks->at[i].memory);
		if (tasks->at[i].frames_fd >= 0)
			close(tasks->at[i].frames_fd);
		if (tasks->at[i].image)
			cl_image_free(tasks->at[i].image);
		free(tasks->at[i].same);
	}
	free(tasks->at);
	cl_chunk_pool_free(&tasks->wanted_chunks);
}

static struct cl_push_task *find_task(const struct cl_push_tasks *tasks, uint64_t id)
{
	size_t i;

	for (i = 0; i < tasks->nr; i++)
		if ((uint64_t)tasks->at[i].image->pid == id)
			return &tasks->at[i];
	return NULL;
}

struct cl_push_task *cl_push_tasks_find(const struct cl_push_tasks *tasks, const struct cl_push_header *range)
{
	struct cl_push_task *task = find_task(tasks, range->dst_id);

	return task && cl_image_has_remote(task->image, range->vaddr, range->nr_pages) ? task : NULL;
}

int cl_push_task_read(const struct cl_push_task *task, const struct cl_push_header *range, bool shared, uint8_t *out)
{
	return (shared ? cl_task_memory_read_shared : cl_task_memory_read)(&task->memory, range->vaddr, out,
									   range->nr_pages * CL_PAGE_SIZE);
}
