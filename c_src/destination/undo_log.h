/* SPDX-License-Identifier: Apache-2.0 */
/*
 * undo_log: what is to be known of an address space's latest remaps and unmaps, or guards, to undo them in a child that was
 * forked before them, or where an unmap failed (fork_undo.h). Pure data, no lock of its own. Bounded: the oldest are forgotten.
 */
#ifndef CL_UNDO_LOG_H
#define CL_UNDO_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/shared_bits.h"
#include "destination/regions.h"

struct cl_image;

/* How to undo a remap, an unmap or guards. */
struct cl_undo {
	struct cl_region was;          /* the region, where it was */
	uint64_t now;                  /* where it was moved to; 0: it was unmapped, or something was moved onto it */
	bool onto;                     /* something was where it was moved to, as earlier ones tell */
	bool has_failed;               /* it was unmapped, and is there all the same */
	pid_t thread;                  /* of guards: who put them on */
	uint64_t first, last;          /* but of a remap: of these pages those were missing that are set in `missing`, */
	struct cl_shared_bits missing; /* whose first bit is of page cl_shared_bits_chunk_of(first); no bitmap: none */
};

struct cl_undo_log {
	struct cl_undo *at; /* oldest first */
	size_t nr, max;
	size_t nr_old; /* of so many it is known that no fork was made before them whose event is to come */
};

/*
 * A region is about to be unmapped, covered by what is moved there (`now` 0), or moved to `now`. missing: a bitmap over the
 * image's pages, as it is before that. 0 or -ENOMEM.
 */
int cl_undo_log_add(struct cl_undo_log *log, const struct cl_image *image, const struct cl_shared_bits *missing,
		    const struct cl_region *region, uint64_t now);

/* What was missing in [start, end) of memory that was unmapped isn't any more: it is to read as zeroes if it is there. */
void cl_undo_log_remove(struct cl_undo_log *log, const struct cl_image *image, uint64_t start, uint64_t end);

/* Forget them all. */
void cl_undo_log_clear(struct cl_undo_log *log);

/* The same, and give the memory back. */
void cl_undo_log_free(struct cl_undo_log *log);

#endif
