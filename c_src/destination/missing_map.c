/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/missing_map.h"

#include <string.h>

#include "destination/address_space.h"

enum { WORDS = 64 }; /* of a slice's bitmap are looked at, about */

struct seen {
	uint64_t pages, missing;
};

/* Pages [from, to) of an image, every `step`-th word of its bitmap. */
static void look(const struct cl_image *image, bool restored, uint64_t from, uint64_t to, uint64_t step, struct seen *seen)
{
	const struct cl_space *space = image->spaces;
	const struct cl_shared_bits *missing = space && !space->retired ? &space->missing : NULL;

	while (from < to) {
		uint64_t end = (from | 63) + 1 < to ? (from | 63) + 1 : to, word = 0;

		if (missing)
			word = cl_shared_bits_word(missing, from / 64);
		else if (!space && !restored)
			word = ~0ULL;
		word &= ~0ULL << (from % 64) & ~0ULL >> (63 - (end - 1) % 64);
		seen->missing += (uint64_t)__builtin_popcountll(word);
		seen->pages += end - from;
		from = (from | 63) + 1 + (step - 1) * 64;
	}
}

static uint64_t pages_of(const struct cl_image *images)
{
	uint64_t total = 0;

	for (; images; images = images->next)
		total += images->nr_pages;
	return total;
}

/* The first page of the next slice, of `total`. */
static uint64_t slice_end(uint64_t slice, uint64_t total)
{
	return ((slice + 1) * total + CL_MAP_SLICES - 1) / CL_MAP_SLICES;
}

void cl_map_count(uint64_t total, const struct cl_image *image, uint64_t from, uint64_t to, uint64_t map[CL_MAP_SLICES])
{
	from += image->before;
	to += image->before;
	while (from < to) {
		uint64_t slice = from * CL_MAP_SLICES / total, end = slice_end(slice, total);

		end = end < to ? end : to;
		map[slice] += end - from;
		from = end;
	}
}

void cl_missing_map(const struct cl_image *images, bool restored, uint8_t map[CL_MAP_SLICES])
{
	struct seen seen[CL_MAP_SLICES] = { 0 };
	uint64_t total = pages_of(images), first = 0, step, slice;
	const struct cl_image *image;

	step = total / CL_MAP_SLICES / (64 * WORDS) + 1;
	for (image = images; image; first += image->nr_pages, image = image->next) {
		uint64_t at = 0;

		while (at < image->nr_pages) {
			uint64_t end;

			slice = (first + at) * CL_MAP_SLICES / total;
			end = slice_end(slice, total) - first;
			if (end > image->nr_pages)
				end = image->nr_pages;
			look(image, restored, at, end, step, &seen[slice]);
			at = end;
		}
	}
	memset(map, 0, CL_MAP_SLICES);
	for (slice = 0; slice < CL_MAP_SLICES; slice++)
		if (seen[slice].pages) /* as long as a page is missing, not 0 */
			map[slice] = (uint8_t)((seen[slice].missing * 255 + seen[slice].pages - 1) / seen[slice].pages);
}
