/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/undo_log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/vec.h"
#include "images/image.h"

/*
 * Then older ones are forgotten: the fork must be older still, and its event on its way. One munmap may be of so many regions;
 * a fork asks the kernel about each.
 */
enum { MAX_UNDO = 1024 };

void cl_undo_log_clear(struct cl_undo_log *log)
{
	while (log->nr)
		cl_shared_bits_free(&log->at[--log->nr].missing);
	log->nr_old = 0;
}

void cl_undo_log_free(struct cl_undo_log *log)
{
	cl_undo_log_clear(log);
	free(log->at);
	*log = (struct cl_undo_log){ 0 };
}

int cl_undo_log_add(struct cl_undo_log *log, const struct cl_image *image, const struct cl_shared_bits *missing,
		    const struct cl_region *region, uint64_t now)
{
	const uint64_t length = region->end - region->start;
	struct cl_undo undo = { .was = *region,
				.now = now,
				.first = cl_image_index_from(image, region->at_dump),
				.last = cl_image_index_from(image, region->at_dump + length) };
	size_t i;
	int ret;

	for (i = log->nr_old; i < log->nr && now; i++)
		undo.onto |= cl_region_overlaps(&log->at[i].was, now, now + length);
	if (log->nr == MAX_UNDO) {
		for (i = 0; i < MAX_UNDO / 2; i++)
			cl_shared_bits_free(&log->at[i].missing);
		log->nr -= MAX_UNDO / 2;
		log->nr_old = log->nr_old > MAX_UNDO / 2 ? log->nr_old - MAX_UNDO / 2 : 0;
		memmove(&log->at[0], &log->at[MAX_UNDO / 2], log->nr * sizeof(*log->at));
	}
	ret = cl_vec_reserve(&log->at, &log->max, log->nr + 1, CL_VEC_NO_LIMIT);
	/* Of what has no pages missing only the place matters: something else may come there. */
	if (ret == 0 && !now && undo.first < undo.last)
		ret = cl_shared_bits_copy_part(&undo.missing, missing, undo.first, undo.last);
	if (ret == 0)
		log->at[log->nr++] = undo;
	return ret;
}

void cl_undo_log_remove(struct cl_undo_log *log, const struct cl_image *image, uint64_t start, uint64_t end)
{
	size_t i;

	for (i = 0; i < log->nr; i++) {
		struct cl_undo *undo = &log->at[i];
		const struct cl_region part = cl_region_part(&undo->was, start, end);
		uint64_t base = cl_shared_bits_chunk_of(undo->first);

		if (undo->missing.chunks && part.start < part.end)
			cl_shared_bits_assign(&undo->missing, cl_image_index_from(image, part.at_dump) - base,
					      cl_image_index_from(image, part.at_dump + (part.end - part.start)) - base,
					      false);
	}
}
