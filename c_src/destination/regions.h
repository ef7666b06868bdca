/* SPDX-License-Identifier: Apache-2.0 */
/*
 * regions: which stretches of a task's memory are where now, and where each was at the dump. Pure data, no lock of its own.
 *
 * A list (struct cl_regions) is in any order. A map (struct cl_region_map) has regions that don't overlap, sorted by the
 * addresses of now, and finds them by those of the dump, too. Nothing bounds either but the task's own mappings.
 */
#ifndef CL_REGIONS_H
#define CL_REGIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cl_region {
	uint64_t start, end; /* now */
	uint64_t at_dump;    /* the address that `start` had at the dump */
	uint64_t moved_in;   /* cl_space.changes when it came here; 0: it was always here */
};

struct cl_regions {
	struct cl_region *at;
	size_t nr, max;
};

struct cl_region_map {
	struct cl_region *at;
	size_t nr, max;
	uint32_t *by_dump; /* indices into `at`, by at_dump, and as much room; NULL while both orders are the same */
	size_t max_by_dump;
	bool unsorted; /* by_dump is to be sorted before use */
};

/* What of `region` lies in [start, end); it may be nothing (then it ends where it starts, or before). */
static inline struct cl_region cl_region_part(const struct cl_region *region, uint64_t start, uint64_t end)
{
	struct cl_region part = *region;

	if (part.start < start) {
		part.at_dump += start - part.start;
		part.start = start;
	}
	if (part.end > end)
		part.end = end;
	return part;
}

static inline bool cl_region_overlaps(const struct cl_region *region, uint64_t start, uint64_t end)
{
	return region->start < end && start < region->end;
}

/* Append one, or all of `from`. 0 or -ENOMEM. */
int cl_regions_push(struct cl_regions *regions, struct cl_region region);
int cl_regions_copy(struct cl_regions *to, const struct cl_regions *from);

/* Move what lies in [start, end) from `regions` to `taken`. 0 or -ENOMEM. */
int cl_regions_take(struct cl_regions *regions, uint64_t start, uint64_t end, struct cl_regions *taken);

/* Whether these regions are page aligned and, unless they may overlap, sorted. */
bool cl_regions_are_valid(const struct cl_regions *regions, bool sorted);

/* Make an empty map of these, sorted ones. 0 or -ENOMEM: it is to be freed all the same. */
int cl_region_map_copy(struct cl_region_map *map, const struct cl_region *regions, size_t nr);

/* Empty again. */
void cl_region_map_free(struct cl_region_map *map);

/* Index of the first region that ends above addr; map->nr if there is none. */
size_t cl_region_map_from(const struct cl_region_map *map, uint64_t addr);

/* The region that holds dump address vaddr, or NULL. */
const struct cl_region *cl_region_map_of_dump(struct cl_region_map *map, uint64_t vaddr);

/*
 * To be called after all of the following, before the next cl_region_map_of_dump(), which then sorts by dump address: many
 * changes may come before one look-up, and they must be applied fast, lest the kernel is never seen quiet. 0 or -ENOMEM.
 */
int cl_region_map_changed(struct cl_region_map *map);

/* Put it before the region with this index. 0 or -ENOMEM. */
int cl_region_map_insert(struct cl_region_map *map, size_t at, struct cl_region region);

/* Remove regions [first, last). */
void cl_region_map_remove(struct cl_region_map *map, size_t first, size_t last);

/* Split regions so that [*first, *last) cover what of [start, end) is mapped, exactly. 0 or -ENOMEM. */
int cl_region_map_isolate(struct cl_region_map *map, uint64_t start, uint64_t end, size_t *first, size_t *last);

/*
 * Move what lies in [start, end) to the end of `taken`, but not where one of the first `nr_older` of `taken` did: that came
 * later. 0 or -ENOMEM.
 */
int cl_region_map_take(struct cl_region_map *map, uint64_t start, uint64_t end, struct cl_regions *taken, size_t nr_older);

#endif
