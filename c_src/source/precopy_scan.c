/* SPDX-License-Identifier: Apache-2.0 */
#include "source/precopy_scan.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/vec.h"
#include "task/proc_pagemap.h"

static bool starts_with(const char *text, const char *start)
{
	return strncmp(text, start, strlen(start)) == 0;
}

/* Whether a line of /proc/PID/maps is of memory that a dump may leave behind as lazy. */
static bool parse_mapping(const char *line, struct cl_precopy_range *range)
{
	char mode[5] = "";
	unsigned long inode;
	int name = 0;

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*s %*s %lu %n", &range->from, &range->to, mode, &inode, &name) != 4)
		return false;
	line += name;
	/* What may not be read (PROT_NONE) is mostly reserved, and empty. */
	return mode[3] == 'p' && mode[0] == 'r' && !inode &&
	       (!*line || *line == '\n' || starts_with(line, "[heap]") || starts_with(line, "[stack") ||
		starts_with(line, "[anon:"));
}

static void close_source(struct cl_precopy_source *source)
{
	cl_task_memory_close(&source->memory);
	if (source->pagemap_fd >= 0)
		close(source->pagemap_fd);
	free(source->ranges);
}

/* Whether the task has locked memory (mlock), which a dump takes into its images. */
static bool has_locked(pid_t pid)
{
	CL_CLEANUP_FILE FILE *status = NULL;
	char path[32], line[256];
	unsigned long long kib = 0;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	status = fopen(path, "re");
	while (status && fgets(line, sizeof(line), status))
		if (sscanf(line, "VmLck: %llu", &kib) == 1)
			break;
	return kib > 0;
}

/* Of a line of smaps: whether the mapping before it is locked. */
static bool tells_locked(const char *line)
{
	return starts_with(line, "VmFlags:") && strstr(line, " lo ");
}

/*
 * The task's ranges. What is locked only smaps tells, which costs a look at each page. 0, -ENOMEM, or -errno: the task has
 * gone.
 */
static int read_ranges(struct cl_precopy_source *source)
{
	CL_CLEANUP_FILE FILE *maps = NULL;
	CL_CLEANUP_FREE char *line = NULL;
	size_t line_bytes = 0;
	struct cl_precopy_range range;
	char path[32];
	bool is_last = false; /* whether the mapping of the lines that follow has become a range */

	snprintf(path, sizeof(path), "/proc/%d/%s", source->memory.pid, has_locked(source->memory.pid) ? "smaps" : "maps");
	maps = fopen(path, "re");
	if (!maps)
		return -errno;
	while (getline(&line, &line_bytes, maps) > 0) {
		if (is_last && tells_locked(line))
			source->nr--;
		if (line[0] >= 'A' && line[0] <= 'Z') /* smaps: more about it */
			continue;
		is_last = parse_mapping(line, &range);
		if (!is_last)
			continue;
		/* The kernel limits the mappings of a task. */
		if (cl_vec_reserve(&source->ranges, &source->max, source->nr + 1, CL_VEC_NO_LIMIT) < 0)
			return -ENOMEM;
		source->ranges[source->nr++] = range;
	}
	return 0;
}

/* 0, or -errno: -ENOMEM, -EMFILE, -ENFILE, or the task has gone. */
static int open_source(struct cl_precopy_source *source)
{
	int ret = cl_task_memory_open(&source->memory, source->memory.pid);

	if (ret < 0)
		return ret;
	source->pagemap_fd = cl_proc_pagemap_open(source->memory.pid);
	if (source->pagemap_fd < 0)
		return source->pagemap_fd;
	return read_ranges(source);
}

static int by_id(const void *a, const void *b)
{
	const struct cl_precopy_source *first = a, *second = b;

	return first->id < second->id ? -1 : first->id > second->id;
}

int cl_precopy_scan_begin(struct cl_precopy_scan *scan, const struct cl_soft_dirty *dirty, const int32_t *ids,
			  const int32_t *pids, size_t nr_tasks)
{
	*scan = (struct cl_precopy_scan){ .sources = calloc(nr_tasks + 1, sizeof(*scan->sources)) };
	if (!scan->sources)
		return -ENOMEM;
	for (; scan->nr < nr_tasks; scan->nr++)
		scan->sources[scan->nr] = (struct cl_precopy_source){ .id = ids[scan->nr],
								      .pagemap_fd = -1,
								      .memory = cl_task_memory_closed(pids[scan->nr]),
								      .tracked = cl_soft_dirty_is_tracked(dirty,
													  ids[scan->nr]) };
	qsort(scan->sources, scan->nr, sizeof(*scan->sources), by_id);
	return 0;
}

void cl_precopy_scan_end(struct cl_precopy_scan *scan)
{
	while (scan->nr)
		close_source(&scan->sources[--scan->nr]);
	free(scan->sources);
	scan->sources = NULL;
}

/* Where the next page is that may be in the range from `from` on; its end if there is none. */
static uint64_t skip_empty(struct cl_precopy_scan *scan, const struct cl_precopy_source *source, uint64_t from, uint64_t to)
{
	uint64_t next;

	if (scan->cannot_scan || to - from <= CL_PRECOPY_PIECE_BYTES)
		return from;
	if (cl_proc_pagemap_next(source->pagemap_fd, from, to, &next) == 0)
		return next;
	scan->cannot_scan = true;
	return from;
}

/* The next piece of the present source; false: nothing is left of it. */
static bool next_of(struct cl_precopy_scan *scan, struct cl_precopy_source *source, struct cl_precopy_piece *piece)
{
	for (; scan->at_range < source->nr; scan->at_range++, scan->from = 0) {
		const struct cl_precopy_range *range = &source->ranges[scan->at_range];
		uint64_t from = skip_empty(scan, source, scan->from ? scan->from : range->from, range->to);
		uint64_t to = (from / CL_PRECOPY_PIECE_BYTES + 1) * CL_PRECOPY_PIECE_BYTES;

		if (from >= range->to)
			continue;
		*piece = (struct cl_precopy_piece){ source, from, to < range->to ? to : range->to };
		scan->from = to;
		if (to >= range->to) {
			scan->at_range++;
			scan->from = 0;
		}
		return true;
	}
	return false;
}

int cl_precopy_scan_next(struct cl_precopy_scan *scan, struct cl_precopy_piece *piece)
{
	for (; scan->at < scan->nr; scan->at++, scan->at_range = 0, scan->from = 0) {
		struct cl_precopy_source *source = &scan->sources[scan->at];

		if (scan->opened == scan->at) {
			int ret = open_source(source);

			scan->opened++;
			if (ret < 0)
				source->nr = 0;
			/*
			 * One that has gone is left out; one that can't be looked at is not, or its pages would be taken for
			 * sent.
			 */
			if (ret == -ENOMEM || ret == -EMFILE || ret == -ENFILE)
				return ret;
		}
		if (next_of(scan, source, piece))
			return 1;
	}
	return 0;
}
