/* SPDX-License-Identifier: Apache-2.0 */
/*
 * precopy_scan: walks over the memory of running tasks that a dump may leave behind as lazy, piece by piece. A task is
 * looked at when its turn comes; one that has gone by then is left out.
 *
 * No lock: its owner's, over all calls. What a piece names stays as long as the scan.
 */
#ifndef CL_PRECOPY_SCAN_H
#define CL_PRECOPY_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "task/page_hashes.h"
#include "task/soft_dirty.h"
#include "task/task_memory.h"

enum {
	CL_PRECOPY_PIECE_CHUNKS = 16,
	CL_PRECOPY_PIECE_PAGES = CL_PRECOPY_PIECE_CHUNKS * CL_HASHES_PAGES,
	CL_PRECOPY_PIECE_BYTES = CL_PRECOPY_PIECE_CHUNKS * CL_HASHES_BYTES,
};

struct cl_precopy_range {
	uint64_t from, to;
};

struct cl_precopy_source {
	int32_t id;
	struct cl_task_memory memory;
	int pagemap_fd;
	bool tracked;                    /* what was not written since the last round need not be read */
	struct cl_precopy_range *ranges; /* of memory that may be lazy */
	size_t nr, max;
};

struct cl_precopy_scan {
	struct cl_precopy_source *sources; /* by id */
	size_t nr;
	size_t at, opened; /* the present source; how many were opened */
	size_t at_range;
	uint64_t from;    /* in that range; 0: at its beginning */
	bool cannot_scan; /* this kernel doesn't tell where pages are */
};

/* Of one source: at most CL_PRECOPY_PIECE_BYTES, within one multiple of it. */
struct cl_precopy_piece {
	struct cl_precopy_source *source;
	uint64_t from, to;
};

/*
 * Over these tasks: pids[i] is, as we see it, the one that the images will name ids[i]. 0 or -ENOMEM; to be ended in any
 * case.
 */
int cl_precopy_scan_begin(struct cl_precopy_scan *scan, const struct cl_soft_dirty *dirty, const int32_t *ids,
			  const int32_t *pids, size_t nr_tasks);
void cl_precopy_scan_end(struct cl_precopy_scan *scan);

/* The next piece: 1; 0: there is none; -errno: a task can't be looked at, though it may be there. */
int cl_precopy_scan_next(struct cl_precopy_scan *scan, struct cl_precopy_piece *piece);

#endif
