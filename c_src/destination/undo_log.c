/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/undo_log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/shared_bits.h"
#include "base/vec.h"
#include "images/image.h"

/* Older ones are forgotten: the fork must be older still, and its event on its way. The newest may be as large as it is. */
enum { MAX_UNDO = 64, MAX_UNDO_WORDS = 1 << 20 };

void cl_undo_log_clear(struct cl_undo_log *log)
{
	while (log->nr)
		free(log->at[--log->nr].missing);
}

void cl_undo_log_free(struct cl_undo_log *log)
{
	cl_undo_log_clear(log);
	free(log->at);
	*log = (struct cl_undo_log){ 0 };
}

static size_t words_of(const struct cl_undo *undo)
{
	return undo->missing ? (undo->last - 1) / 64 - undo->first / 64 + 1 : 0;
}

/* Make room for one more, of so many words. 0 or -ENOMEM. */
static int limit(struct cl_undo_log *log, size_t words)
{
	size_t i, old = log->nr >= MAX_UNDO ? log->nr - MAX_UNDO + 1 : 0;

	for (i = log->nr; i-- > old;) {
		words += words_of(&log->at[i]);
		if (words > MAX_UNDO_WORDS)
			old = i + 1;
	}
	for (i = 0; i < old; i++)
		free(log->at[i].missing);
	log->nr -= old;
	if (old)
		memmove(&log->at[0], &log->at[old], log->nr * sizeof(*log->at));
	return cl_vec_reserve(&log->at, &log->max, log->nr + 1, CL_VEC_NO_LIMIT);
}

int cl_undo_log_add(struct cl_undo_log *log, const struct cl_image *image, const struct cl_shared_bits *missing,
		    const struct cl_region *region, uint64_t now)
{
	const uint64_t length = region->end - region->start;
	struct cl_undo undo = { .was = *region,
				.now = now,
				.first = cl_image_index_from(image, region->at_dump),
				.last = cl_image_index_from(image, region->at_dump + length) };
	size_t words, i;
	int ret;

	for (i = 0; i < log->nr && now; i++)
		undo.onto |= cl_region_overlaps(&log->at[i].was, now, now + length);
	/* Of what has no pages missing only the place matters: something else may come there. */
	words = now || undo.first == undo.last ? 0 : (undo.last - 1) / 64 - undo.first / 64 + 1;
	ret = limit(log, words);
	if (ret < 0)
		return ret;
	if (words) {
		undo.missing = malloc(words * sizeof(*undo.missing));
		if (!undo.missing)
			return -ENOMEM;
		for (i = 0; i < words; i++)
			undo.missing[i] = cl_shared_bits_word(missing, undo.first / 64 + i);
	}
	log->at[log->nr++] = undo;
	return 0;
}
