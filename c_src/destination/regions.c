/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/regions.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/page.h"
#include "base/vec.h"

int cl_regions_push(struct cl_regions *regions, struct cl_region region)
{
	int ret = cl_vec_reserve(&regions->at, &regions->max, regions->nr + 1, CL_VEC_NO_LIMIT);

	if (ret == 0)
		regions->at[regions->nr++] = region;
	return ret;
}

int cl_regions_take(struct cl_regions *regions, uint64_t start, uint64_t end, struct cl_regions *taken)
{
	size_t i = 0;
	int ret = 0;

	while (i < regions->nr && ret == 0) {
		struct cl_region whole = regions->at[i];

		if (!cl_region_overlaps(&whole, start, end)) {
			i++;
			continue;
		}
		regions->at[i] = regions->at[--regions->nr];
		ret = cl_regions_push(taken, cl_region_part(&whole, start, end));
		if (ret == 0 && whole.start < start)
			ret = cl_regions_push(regions, cl_region_part(&whole, 0, start));
		if (ret == 0 && whole.end > end)
			ret = cl_regions_push(regions, cl_region_part(&whole, end, UINT64_MAX));
	}
	return ret;
}

int cl_regions_copy(struct cl_regions *to, const struct cl_regions *from)
{
	size_t i;
	int ret = 0;

	for (i = 0; i < from->nr && ret == 0; i++)
		ret = cl_regions_push(to, from->at[i]);
	return ret;
}

bool cl_regions_are_valid(const struct cl_regions *regions, bool sorted)
{
	uint64_t end = 0;
	size_t i;

	for (i = 0; i < regions->nr; i++) {
		const struct cl_region *region = &regions->at[i];

		if ((region->start | region->end | region->at_dump) % CL_PAGE_SIZE || region->start >= region->end ||
		    region->at_dump + (region->end - region->start) < region->at_dump)
			return false;
		if (sorted && region->start < end)
			return false;
		end = region->end;
	}
	return true;
}

size_t cl_region_map_from(const struct cl_region_map *map, uint64_t addr)
{
	size_t low = 0, high = map->nr;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (map->at[middle].end <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int by_dump_order(const void *left, const void *right, void *regions)
{
	const struct cl_region *all = regions;
	uint64_t a = all[*(const uint32_t *)left].at_dump, b = all[*(const uint32_t *)right].at_dump;

	return a < b ? -1 : a > b;
}

/* The place in by_dump of the first that ends above vaddr. */
static size_t place_by_dump(const struct cl_region_map *map, uint64_t vaddr)
{
	size_t low = 0, high = map->nr;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct cl_region *region = &map->at[map->by_dump ? map->by_dump[middle] : middle];

		if (region->at_dump + (region->end - region->start) <= vaddr)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* What was never moved is in order as it is. What was is sorted by itself, behind it, and then put in between from the top. */
static void sort_by_dump(struct cl_region_map *map)
{
	uint32_t *order = map->by_dump, *moved = order + map->nr;
	size_t nr = 0, nr_moved = 0, i;

	for (i = 0; i < map->nr; i++) {
		if (map->at[i].start == map->at[i].at_dump)
			order[nr++] = (uint32_t)i;
		else
			moved[nr_moved++] = (uint32_t)i;
	}
	qsort_r(moved, nr_moved, sizeof(*moved), by_dump_order, map->at);
	while (nr_moved) {
		i = nr + nr_moved - 1;
		order[i] = nr && by_dump_order(&order[nr - 1], &moved[nr_moved - 1], map->at) > 0 ? order[--nr] :
												    moved[--nr_moved];
	}
}

const struct cl_region *cl_region_map_of_dump(struct cl_region_map *map, uint64_t vaddr)
{
	const struct cl_region *region;
	size_t place;

	if (map->unsorted)
		sort_by_dump(map);
	map->unsorted = false;
	place = place_by_dump(map, vaddr);
	if (place == map->nr)
		return NULL;
	region = &map->at[map->by_dump ? map->by_dump[place] : place];
	return region->at_dump <= vaddr ? region : NULL;
}

int cl_region_map_changed(struct cl_region_map *map)
{
	if (cl_vec_reserve(&map->by_dump, &map->max_by_dump, 2 * map->max, CL_VEC_NO_LIMIT) < 0)
		return -ENOMEM;
	map->unsorted = true;
	return 0;
}

int cl_region_map_insert(struct cl_region_map *map, size_t at, struct cl_region region)
{
	int ret = cl_vec_reserve(&map->at, &map->max, map->nr + 1, CL_VEC_NO_LIMIT);

	if (ret < 0)
		return ret;
	memmove(&map->at[at + 1], &map->at[at], (map->nr - at) * sizeof(region));
	map->at[at] = region;
	map->nr++;
	return 0;
}

/* Make `addr` a border between regions, if it lies inside one. */
static int split_at(struct cl_region_map *map, uint64_t addr)
{
	size_t at = cl_region_map_from(map, addr);
	struct cl_region upper;

	if (at == map->nr || map->at[at].start >= addr)
		return 0;
	upper = map->at[at];
	upper.at_dump += addr - upper.start;
	upper.start = addr;
	map->at[at].end = addr;
	return cl_region_map_insert(map, at + 1, upper);
}

int cl_region_map_isolate(struct cl_region_map *map, uint64_t start, uint64_t end, size_t *first, size_t *last)
{
	int ret = split_at(map, start);

	if (ret == 0)
		ret = split_at(map, end);
	*first = cl_region_map_from(map, start);
	*last = cl_region_map_from(map, end);
	/* cl_region_map_from(end) is the first that ends above `end`: all before it end at or below. */
	return ret;
}

void cl_region_map_remove(struct cl_region_map *map, size_t first, size_t last)
{
	memmove(&map->at[first], &map->at[last], (map->nr - last) * sizeof(*map->at));
	map->nr -= last - first;
}

int cl_region_map_take(struct cl_region_map *map, uint64_t start, uint64_t end, struct cl_regions *taken, size_t nr_older)
{
	size_t first = 0, last = 0, i, older;
	int ret = 0;

	for (i = 0; i < nr_older && ret == 0; i++) {
		ret = split_at(map, taken->at[i].start);
		if (ret == 0)
			ret = split_at(map, taken->at[i].end);
	}
	if (ret == 0)
		ret = cl_region_map_isolate(map, start, end, &first, &last);
	if (ret < 0)
		return ret;
	for (i = first; i < last && ret == 0; i++) {
		const struct cl_region region = map->at[i];

		for (older = 0; older < nr_older; older++)
			if (cl_region_overlaps(&taken->at[older], region.start, region.end))
				break;
		if (older < nr_older)
			map->at[first++] = region;
		else
			ret = cl_regions_push(taken, region);
	}
	cl_region_map_remove(map, first, last);
	return ret;
}

int cl_region_map_copy(struct cl_region_map *map, const struct cl_region *regions, size_t nr)
{
	int ret = cl_vec_reserve(&map->at, &map->max, nr + 1, CL_VEC_NO_LIMIT);

	if (ret < 0)
		return ret;
	if (nr)
		memcpy(map->at, regions, nr * sizeof(*map->at));
	map->nr = nr;
	return cl_region_map_changed(map);
}

void cl_region_map_free(struct cl_region_map *map)
{
	free(map->at);
	free(map->by_dump);
	*map = (struct cl_region_map){ 0 };
}
