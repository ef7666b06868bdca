/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/fork_undo.h"

#include "base/page.h"
#include "destination/address_space.h"

struct undoing {
	struct cl_space *child;
	int (*has)(int uffd, uint64_t address, uint64_t length);
	cl_again again;
	void *context;
};

/* Of a region of the space's those pages are missing that the undo tells of. */
static void miss_again(struct cl_space *space, const struct cl_undo *undo, const struct cl_region *region, cl_again again,
		       void *context)
{
	struct cl_image *image = space->image;
	uint64_t base = cl_shared_bits_chunk_of(undo->first), from = cl_image_index_from(image, region->at_dump), to;
	uint64_t last = cl_image_index_from(image, region->at_dump + (region->end - region->start));

	for (; (from = base + cl_shared_bits_find(&undo->missing, from - base, last - base, true)) < last; from = to) {
		uint64_t end = cl_image_extent(image, from)[1].first;

		to = base + cl_shared_bits_find(&undo->missing, from - base, last - base, false);
		to = to < end ? to : end;
		space->nr_missing += cl_shared_bits_assign(&space->missing, from, to, true);
		cl_image_ask_again(image, from, to);
		again(context, image, from, to);
	}
}

static int put_region(struct cl_space *space, struct cl_region region)
{
	int ret = cl_region_map_insert(&space->regions, cl_region_map_from(&space->regions, region.start), region);

	return ret < 0 ? ret : cl_region_map_changed(&space->regions);
}

/* The region is the child's after all, and of its pages those are missing that the undo tells of. 0 or -ENOMEM. */
static int put_back(const struct undoing *undoing, const struct cl_undo *undo, struct cl_region region)
{
	int ret = put_region(undoing->child, region);

	if (ret == 0)
		miss_again(undoing->child, undo, &region, undoing->again, undoing->context);
	return ret;
}

/* Of the unmapped region, what the child has: all, or in pieces. */
static int undo_unmap(const struct undoing *undoing, const struct cl_undo *undo, struct cl_region region)
{
	uint64_t pages = (region.end - region.start) / CL_PAGE_SIZE, middle = region.start + pages / 2 * CL_PAGE_SIZE;
	int uffd = undoing->child->uffd, ret;

	if (undoing->has(uffd, region.start, region.end - region.start) &&
	    cl_space_is_free(undoing->child, region.start, region.end))
		return put_back(undoing, undo, region);
	/* In parts only if it has an end of it: to look for every page would take long. */
	if (pages == 1 || (!undoing->has(uffd, region.start, CL_PAGE_SIZE) &&
			   !undoing->has(uffd, region.end - CL_PAGE_SIZE, CL_PAGE_SIZE)))
		return 0;
	ret = undo_unmap(undoing, undo, cl_region_part(&region, region.start, middle));
	return ret < 0 ? ret : undo_unmap(undoing, undo, cl_region_part(&region, middle, region.end));
}

/*
 * An unmap from before the fork, of which it isn't known yet whether it failed: then the child has the region. What failed has
 * split the mapping there; one that grew to there since begins further down.
 */
static int undo_failed_unmap(const struct undoing *undoing, const struct cl_undo *undo)
{
	int uffd = undoing->child->uffd;
	uint64_t start = undo->was.start;

	if (undoing->has(uffd, start, CL_PAGE_SIZE) != 1 || undoing->has(uffd, start - CL_PAGE_SIZE, 2 * CL_PAGE_SIZE) ||
	    !cl_space_is_free(undoing->child, start, undo->was.end))
		return 0;
	return put_back(undoing, undo, undo->was);
}

/* If the child has the region where it was, and not where it went: it is there, wherever it went from there. */
static int undo_move(const struct undoing *undoing, const struct cl_undo *undo)
{
	const struct cl_region *was = &undo->was;
	uint64_t at = was->at_dump, end = at + (was->end - was->start), from, length;
	struct cl_space *child = undoing->child;
	const struct cl_region *region;
	int ret = 0;

	if (undoing->has(child->uffd, was->start, CL_PAGE_SIZE) <= 0 ||
	    (undoing->has(child->uffd, undo->now, CL_PAGE_SIZE) && !undo->onto) ||
	    !cl_space_is_free(child, was->start, was->end))
		return 0;
	for (; at < end && ret == 0; at += length) {
		length = CL_PAGE_SIZE;
		region = cl_region_map_of_dump(&child->regions, at);
		if (!region)
			continue;
		from = region->start + (at - region->at_dump);
		length = region->end - from < end - at ? region->end - from : end - at;
		ret = cl_space_remap(child, from, was->start + (at - was->at_dump), length);
	}
	return ret;
}

/*
 * Where guards came, wherever it is now: if the guards were there before the fork, the child has them, and is going to be
 * found to have the page.
 */
static void undo_guards(const struct undoing *undoing, const struct cl_undo *undo)
{
	uint64_t at = undo->was.at_dump, end = at + (undo->was.end - undo->was.start);

	while (at < end) {
		const struct cl_region *region = cl_region_map_of_dump(&undoing->child->regions, at);
		struct cl_region part = { .start = 0, .end = CL_PAGE_SIZE, .at_dump = at };

		if (region) {
			part = cl_region_part(region, region->start + (at - region->at_dump), UINT64_MAX);
			if (part.end - part.start > end - at)
				part.end = part.start + (end - at);
			miss_again(undoing->child, undo, &part, undoing->again, undoing->context);
		}
		at += part.end - part.start;
	}
}

int cl_fork_undo(struct cl_space *child, const struct cl_space *parent,
		 int (*has)(int uffd, uint64_t address, uint64_t length), cl_again again, void *context)
{
	const struct undoing undoing = { .child = child, .has = has, .again = again, .context = context };
	size_t i;
	int ret = 0;

	for (i = parent->undo.nr; i-- && ret == 0;) {
		const struct cl_undo *undo = &parent->undo.at[i];

		if (i < parent->undo.nr_old)
			ret = undo->now ? 0 : undo_failed_unmap(&undoing, undo);
		else
			ret = undo->now ? undo_move(&undoing, undo) : undo_unmap(&undoing, undo, undo->was);
	}
	for (i = 0; i < parent->guards.nr && ret == 0; i++)
		undo_guards(&undoing, &parent->guards.at[i]);
	child->quiet = child->changes; /* none of these was an event */
	if ((parent->undo.nr || parent->guards.nr) && ret == 0)
		ret = cl_space_follow_advice(child, parent);
	cl_undo_log_clear(&child->undo);
	return ret;
}

int cl_failed_undo_regions(struct cl_space *space)
{
	size_t i;
	int ret = 0;

	/* The latest first: what was put somewhere later is not there any more. */
	for (i = space->undo.nr; i-- && ret == 0;) {
		struct cl_undo *undo = &space->undo.at[i];

		undo->has_failed = undo->has_failed && cl_space_is_free(space, undo->was.start, undo->was.end);
		if (undo->has_failed)
			ret = put_region(space, undo->was);
	}
	return ret;
}

void cl_failed_undo_pages(struct cl_space *space, cl_again again, void *context)
{
	size_t i;

	for (i = 0; i < space->undo.nr; i++)
		if (space->undo.at[i].has_failed)
			miss_again(space, &space->undo.at[i], &space->undo.at[i].was, again, context);
}
