/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/address_space.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/page.h"
#include "base/vec.h"

enum {
	CHECK_PAGES = 4096, /* todo or not, at once */
	LOOK_SPACES = 16,   /* for one that misses the same */
	PIECE_REGIONS = 128,
};

/* Whatever it has allocated. */
static void give_back(struct cl_space *space)
{
	cl_undo_log_free(&space->undo);
	cl_undo_log_free(&space->guards);
	cl_region_map_free(&space->regions);
	cl_fork_advice_forget(&space->advice);
	cl_fork_advice_forget(&space->inherited);
	cl_shared_bits_free(&space->missing);
	cl_shared_bits_free(&space->doubtful);
	free(space->limbo.at);
	free(space->suspects.at);
	free(space->waiters.at);
	space->limbo = space->suspects = (struct cl_regions){ 0 };
	space->waiters = (struct cl_waiters){ 0 };
}

static void space_free(struct cl_space *space)
{
	give_back(space);
	free(space);
}

void cl_image_free_spaces(struct cl_image *image)
{
	struct cl_space *space, *next;

	for (space = image->spaces; space; space = next) {
		next = space->next;
		space_free(space);
	}
	image->spaces = NULL;
}

/* ---- the image's todo list ---- */

/* Of the 64 pages of a word of bits, those in `mask` that some space misses. */
static uint64_t missed_word(const struct cl_image *image, uint64_t word, uint64_t mask)
{
	const struct cl_space *space;
	uint64_t missed = 0;

	for (space = image->spaces; space && missed != mask; space = space->next)
		if (!space->retired)
			missed |= cl_shared_bits_word(&space->missing, word) & mask;
	return missed;
}

void cl_image_ask_again(struct cl_image *image, uint64_t from, uint64_t to)
{
	enum cl_source source = cl_extent_source(cl_image_extent(image, from));

	for (; from < to; from = (from | 63) + 1) {
		uint64_t word = from / 64, mask = cl_bits_mask(from, to);

		mask &= ~cl_shared_bits_word(&image->todo[CL_STORED], word);
		image->nr_todo[source] += cl_shared_bits_assign_word(&image->todo[source], word,
								     missed_word(image, word, mask), true);
	}
}

/* Of a chunk of pages, as far as is known at once. */
enum missed { BY_NOBODY, PERHAPS, ALL };

static enum missed missed_of(const struct cl_image *image, size_t chunk)
{
	const struct cl_space *space;

	for (space = image->spaces; space; space = space->next)
		if (!space->retired && !cl_shared_bits_chunk_is_clear(&space->missing, chunk))
			return cl_shared_bits_chunk_is_full(&space->missing, chunk) ? ALL : PERHAPS;
	return BY_NOBODY;
}

/* Of [from, to), in one chunk, only what a space misses stays todo at this source. */
static void only_missing(struct cl_image *image, enum cl_source source, uint64_t from, uint64_t to)
{
	struct cl_shared_bits *bits = &image->todo[source];
	uint64_t todo;

	for (; from < to && image->nr_todo[source]; from = (from | 63) + 1) {
		todo = cl_shared_bits_word(bits, from / 64) & cl_bits_mask(from, to);
		todo &= ~missed_word(image, from / 64, todo);
		image->nr_todo[source] -= cl_shared_bits_assign_word(bits, from / 64, todo, false);
	}
}

/* Check pages from `from` on, up to `to` at most. How many were. */
static uint64_t check_todo(struct cl_image *image, uint64_t from, uint64_t to)
{
	uint64_t chunk_end = cl_shared_bits_chunk_of(from) + CL_CHUNK_BITS;
	enum missed missed = missed_of(image, from / CL_CHUNK_BITS);
	int source;

	to = to < chunk_end ? to : chunk_end;
	if (missed == PERHAPS && to - from > CHECK_PAGES)
		to = from + CHECK_PAGES;
	for (source = 0; source < CL_SOURCES && missed != ALL; source++) {
		if (missed == BY_NOBODY)
			cl_image_set_todo(image, source, from, to, false);
		else if (!cl_shared_bits_chunk_is_clear(&image->todo[source], from / CL_CHUNK_BITS))
			only_missing(image, source, from, to);
	}
	return to - from;
}

bool cl_image_check_todo(struct cl_image *image)
{
	if (image->unchecked_from < image->unchecked_to)
		image->unchecked_from += check_todo(image, image->unchecked_from, image->unchecked_to);
	return image->unchecked_from < image->unchecked_to;
}

/* A space doesn't miss [from, to) any more: of these only what another one misses stays todo, or will soon. */
static void drop_todo(struct cl_image *image, uint64_t from, uint64_t to)
{
	if (to - from <= CHECK_PAGES) {
		while (from < to)
			from += check_todo(image, from, to);
		return;
	}
	if (image->unchecked_from >= image->unchecked_to) {
		image->unchecked_from = from;
		image->unchecked_to = to;
	}
	image->unchecked_from = from < image->unchecked_from ? from : image->unchecked_from;
	image->unchecked_to = to > image->unchecked_to ? to : image->unchecked_to;
}

void cl_image_only_missing(struct cl_image *image)
{
	image->unchecked_from = 0;
	image->unchecked_to = image->nr_pages;
	while (cl_image_check_todo(image))
		;
}

bool cl_image_next_missing(const struct cl_image *image, uint64_t index, uint64_t end, uint64_t *from, uint64_t *to)
{
	const struct cl_space *space;
	uint64_t at;

	*from = end;
	for (space = image->spaces; space; space = space->next)
		if (!space->retired) {
			at = cl_shared_bits_find(&space->missing, index, end, true);
			*from = at < *from ? at : *from;
		}
	*to = end;
	for (space = image->spaces; space && *from < end; space = space->next)
		if (!space->retired && cl_shared_bits_get(&space->missing, *from)) {
			at = cl_shared_bits_find(&space->missing, *from, end, false);
			*to = at < *to ? at : *to;
		}
	return *from < end;
}

static struct cl_space *space_alloc(struct cl_image *image, int32_t pid, int uffd)
{
	struct cl_space *space = calloc(1, sizeof(*space));

	if (!space)
		return NULL;
	space->image = image;
	space->pid = pid;
	space->uffd = uffd;
	return space;
}

static void append_space(struct cl_image *image, struct cl_space *space)
{
	struct cl_space **end = &image->spaces;

	while (*end)
		end = &(*end)->next;
	*end = space;
}

struct cl_space *cl_space_prepare(struct cl_image *image, int32_t pid, int uffd)
{
	struct cl_space *space = space_alloc(image, pid, uffd);
	size_t i;

	if (!space)
		return NULL;
	if (cl_vec_reserve(&space->regions.at, &space->regions.max, image->nr_vmas + 1, CL_VEC_NO_LIMIT) < 0) {
		space_free(space);
		return NULL;
	}
	for (i = 0; i < image->nr_vmas; i++)
		space->regions.at[space->regions.nr++] = (struct cl_region){ .start = image->vmas[i].start,
									     .end = image->vmas[i].end,
									     .at_dump = image->vmas[i].start };
	return space;
}

struct cl_space *cl_space_new(struct cl_space *space)
{
	struct cl_image *image;
	uint64_t outside = 0;
	size_t i;

	if (!space)
		return NULL;
	image = space->image;
	if (cl_shared_bits_new(&space->missing, image->chunks, image->nr_pages, true) < 0) {
		space_free(space);
		return NULL;
	}
	append_space(image, space);
	space->nr_missing = image->nr_pages;
	if (image->nr_mapped == image->nr_pages)
		return space;
	for (i = 0; i < image->nr_vmas; i++) {
		cl_space_drop(space, outside, cl_image_index_from(image, image->vmas[i].start));
		outside = cl_image_index_from(image, image->vmas[i].end);
	}
	cl_space_drop(space, outside, image->nr_pages);
	return space;
}

/* Drop the pages of what of `region` lies in [start, end). */
static void drop_part(struct cl_space *space, const struct cl_region *region, uint64_t start, uint64_t end)
{
	struct cl_region part = cl_region_part(region, start, end);

	cl_space_drop(space, cl_image_index_from(space->image, part.at_dump),
		      cl_image_index_from(space->image, part.at_dump + (part.end - part.start)));
}

static const struct cl_fork_advice *advice_of(const struct cl_space *parent)
{
	return parent->advice.known ? &parent->advice : &parent->inherited;
}

int cl_space_follow_advice(struct cl_space *child, const struct cl_space *parent)
{
	const struct cl_fork_advice *advice = advice_of(parent);
	const struct cl_image *image = child->image;
	int ret = 0;
	size_t i;

	for (i = 0; i < advice->nr && ret == 0; i++) {
		const struct cl_fork_range *range = &advice->ranges[i];

		if (range->left_out)
			ret = cl_space_unmap(child, range->start, range->end);
		else
			cl_space_remove(child, range->start, range->end);
	}
	for (i = 0; i < image->nr_vmas && !advice->known; i++)
		if (image->vmas[i].wiped_on_fork)
			cl_space_drop(child, cl_image_index_from(image, image->vmas[i].start),
				      cl_image_index_from(image, image->vmas[i].end));
	return ret;
}

struct cl_space *cl_space_prepare_fork(const struct cl_space *parent, int uffd)
{
	struct cl_space *space = space_alloc(parent->image, parent->pid, uffd);

	if (space && cl_region_map_copy(&space->regions, parent->regions.at, parent->regions.nr) < 0) {
		space_free(space);
		return NULL;
	}
	return space;
}

struct cl_space *cl_space_fork(struct cl_space *parent, struct cl_space *space)
{
	size_t i;

	if (!space)
		return NULL;
	if (cl_shared_bits_copy(&space->missing, &parent->missing) < 0 ||
	    (parent->doubtful.chunks && cl_shared_bits_copy(&space->doubtful, &parent->doubtful) < 0)) {
		space_free(space);
		return NULL;
	}
	space->nr_missing = parent->nr_missing;
	space->changes = space->quiet = parent->changes; /* a userfaultfd of its own, with no event on its way */
	append_space(space->image, space);
	for (i = 0; i < parent->limbo.nr; i++)
		drop_part(space, &parent->limbo.at[i], 0, UINT64_MAX);
	/* What couldn't be taken from it isn't there: copying finds that. */
	(void)cl_space_follow_advice(space, parent);
	(void)cl_fork_advice_copy(&space->inherited, advice_of(parent));
	return space;
}

/* Missing pages that have their place in these regions. */
static uint64_t missing_in(const struct cl_space *space, const struct cl_regions *regions)
{
	uint64_t pages = 0;
	size_t i;

	for (i = 0; i < regions->nr; i++) {
		const struct cl_region *region = &regions->at[i];

		pages += cl_shared_bits_count(
			&space->missing, cl_image_index_from(space->image, region->at_dump),
			cl_image_index_from(space->image, region->at_dump + (region->end - region->start)));
	}
	return pages;
}

int cl_space_again(struct cl_image *image, int32_t pid, int uffd, struct cl_space_memory *memory,
		   struct cl_space **space_out)
{
	struct cl_space *space;
	int ret;

	if (!cl_regions_are_valid(&memory->regions, true) || !cl_regions_are_valid(&memory->limbo, false) ||
	    !cl_regions_are_valid(&memory->suspects, false))
		return -EBADMSG;
	space = space_alloc(image, pid, uffd);
	if (!space)
		return -ENOMEM;
	space->missing = memory->missing;
	space->doubtful = memory->doubtful;
	memory->missing = memory->doubtful = (struct cl_shared_bits){ 0 };
	space->nr_missing = cl_shared_bits_count(&space->missing, 0, image->nr_pages);
	space->changes = memory->changes;
	space->quiet = memory->quiet;
	ret = cl_region_map_copy(&space->regions, memory->regions.at, memory->regions.nr);
	if (ret == 0)
		ret = cl_regions_copy(&space->limbo, &memory->limbo);
	if (ret == 0)
		ret = cl_regions_copy(&space->suspects, &memory->suspects);
	/* A missing page has exactly one place. */
	if (ret == 0 && missing_in(space, &memory->regions) + missing_in(space, &memory->limbo) != space->nr_missing)
		ret = -EBADMSG;
	if (ret < 0) {
		space_free(space);
		return ret;
	}
	append_space(image, space);
	*space_out = space;
	return 0;
}

uint64_t cl_space_missing_at(const struct cl_space *space, uint64_t addr)
{
	size_t at = cl_region_map_from(&space->regions, addr);
	uint64_t index;

	addr -= addr % CL_PAGE_SIZE;
	if (at == space->regions.nr || space->regions.at[at].start > addr)
		return CL_NO_PAGE;
	index = cl_image_index(space->image, space->regions.at[at].at_dump + (addr - space->regions.at[at].start));
	return index != CL_NO_PAGE && cl_shared_bits_get(&space->missing, index) ? index : CL_NO_PAGE;
}

bool cl_space_next_run(struct cl_space *space, uint64_t from, uint64_t to, struct cl_run *run)
{
	const struct cl_region *region;
	uint64_t vaddr, room;

	if (!space->nr_missing)
		return false;
	from = cl_shared_bits_find(&space->missing, from, to, true);
	if (from == to)
		return false;
	vaddr = cl_image_vaddr(space->image, from);
	/* A missing page always lies in a region: unmapping one drops its pages. */
	region = cl_region_map_of_dump(&space->regions, vaddr);
	if (!region)
		return false;
	room = (region->at_dump + (region->end - region->start) - vaddr) / CL_PAGE_SIZE;
	if (to - from > room)
		to = from + room;
	run->index = from;
	to = cl_shared_bits_find(&space->missing, from, to, false);
	run->doubtful = space->doubtful.chunks && cl_shared_bits_get(&space->doubtful, from);
	if (space->doubtful.chunks)
		to = cl_shared_bits_find(&space->doubtful, from, to, !run->doubtful);
	run->nr_pages = to - from;
	run->address = region->start + (vaddr - region->at_dump);
	return true;
}

uint64_t cl_space_filled(struct cl_space *space, uint64_t from, uint64_t to)
{
	uint64_t changed = cl_shared_bits_assign(&space->missing, from, to, false);

	space->nr_missing -= changed;
	return changed;
}

uint64_t cl_space_drop(struct cl_space *space, uint64_t from, uint64_t to)
{
	uint64_t changed = cl_space_filled(space, from, to);

	if (changed)
		drop_todo(space->image, from, to);
	return changed;
}

/* Whether it is found at once that dropping this chunk of pages changes nothing for the image: another misses the same. */
static bool misses_with_another(const struct cl_space *space, size_t chunk)
{
	const struct cl_space *other;
	unsigned int looked = 0;

	for (other = space->image->spaces; other && looked++ < LOOK_SPACES; other = other->next)
		if (other != space && !other->retired &&
		    cl_shared_bits_chunk_is_same(&other->missing, &space->missing, chunk))
			return true;
	return false;
}

void cl_space_drop_all(struct cl_space *space)
{
	const uint64_t nr_pages = space->image->nr_pages;
	uint64_t from, to;
	size_t chunk;
	bool shared;

	for (chunk = 0; chunk < cl_shared_bits_chunks(nr_pages); chunk++) {
		if (cl_shared_bits_chunk_is_clear(&space->missing, chunk))
			continue;
		from = (uint64_t)chunk * CL_CHUNK_BITS;
		to = nr_pages - from < CL_CHUNK_BITS ? nr_pages : from + CL_CHUNK_BITS;
		shared = misses_with_another(space, chunk);
		(void)cl_space_filled(space, from, to);
		if (!shared)
			drop_todo(space->image, from, to);
	}
}

void cl_image_forget_retired(struct cl_image *image)
{
	struct cl_space **at = &image->spaces, *space;

	while ((space = *at)) {
		if (space->retired) {
			*at = space->next;
			space_free(space);
		} else {
			at = &space->next;
		}
	}
}

void cl_space_retire(struct cl_space *space)
{
	cl_space_drop_all(space);
	if (space->doubtful.chunks)
		cl_shared_bits_assign(&space->doubtful, 0, space->image->nr_pages, false);
	space->retired = true;
	give_back(space);
}

/* See cl_undo_log_add(). */
static int remember(struct cl_space *space, const struct cl_region *region, uint64_t now)
{
	return cl_undo_log_add(&space->undo, space->image, &space->missing, region, now);
}

uint64_t cl_space_piece_end(const struct cl_space *space, uint64_t start, uint64_t end)
{
	size_t last = cl_region_map_from(&space->regions, start) + PIECE_REGIONS;

	return last < space->regions.nr && space->regions.at[last].start < end ? space->regions.at[last].start : end;
}

int cl_space_unmap(struct cl_space *space, uint64_t start, uint64_t end)
{
	struct cl_regions gone = { 0 };
	size_t first = 0, last = 0, i;
	int ret = cl_regions_take(&space->limbo, start, end, &gone);

	for (i = 0; i < gone.nr; i++)
		drop_part(space, &gone.at[i], start, end);
	free(gone.at);
	if (ret == 0)
		ret = cl_region_map_isolate(&space->regions, start, end, &first, &last);
	if (ret < 0)
		return ret;
	/* All before any is dropped: then they share the chunks of their pages. */
	for (i = first; i < last && ret == 0; i++)
		if (space->regions.at[i].moved_in <= space->quiet)
			ret = remember(space, &space->regions.at[i], 0);
	for (i = first; i < last && ret == 0; i++) {
		const struct cl_region region = space->regions.at[i];

		if (region.moved_in > space->quiet) {
			space->regions.at[first++] = region;
			ret = cl_space_add_suspect(space, region.start, region.end);
		} else {
			drop_part(space, &region, start, end);
		}
	}
	cl_region_map_remove(&space->regions, first, last);
	return ret < 0 ? ret : cl_region_map_changed(&space->regions);
}

void cl_space_remove(struct cl_space *space, uint64_t start, uint64_t end)
{
	size_t at;

	for (at = cl_region_map_from(&space->regions, start); at < space->regions.nr && space->regions.at[at].start < end;
	     at++)
		drop_part(space, &space->regions.at[at], start, end);
	cl_undo_log_remove(&space->undo, space->image, start, end);
}

void cl_space_remember_guards(struct cl_space *space, uint64_t start, uint64_t end, pid_t thread)
{
	size_t at;
	int ret = 0;

	for (at = cl_region_map_from(&space->regions, start);
	     at < space->regions.nr && space->regions.at[at].start < end && ret == 0; at++) {
		const struct cl_region part = cl_region_part(&space->regions.at[at], start, end);

		ret = cl_undo_log_add(&space->guards, space->image, &space->missing, &part, 0);
		if (ret == 0)
			space->guards.at[space->guards.nr - 1].thread = thread;
	}
}

bool cl_space_is_free(const struct cl_space *space, uint64_t start, uint64_t end)
{
	size_t at = cl_region_map_from(&space->regions, start);

	return at == space->regions.nr || space->regions.at[at].start >= end;
}

bool cl_space_misses(const struct cl_space *space, uint64_t start, uint64_t end)
{
	uint64_t index, last;
	size_t at;

	for (at = cl_region_map_from(&space->regions, start); at < space->regions.nr && space->regions.at[at].start < end;
	     at++) {
		const struct cl_region part = cl_region_part(&space->regions.at[at], start, end);

		index = cl_image_index_from(space->image, part.at_dump);
		last = cl_image_index_from(space->image, part.at_dump + (part.end - part.start));
		if (cl_shared_bits_find(&space->missing, index, last, true) < last)
			return true;
	}
	return false;
}

static int start_doubting(struct cl_space *space)
{
	int ret = cl_shared_bits_new(&space->doubtful, space->image->chunks, space->image->nr_pages, false);

	if (ret == 0 && space->mirror.doubtful)
		cl_shared_bits_set_mirror(&space->doubtful, space->mirror.doubtful);
	return ret;
}

uint64_t cl_space_doubt(struct cl_space *space, uint64_t start, uint64_t end)
{
	uint64_t index, end_of_run, last, pages = 0;
	size_t at;

	if (!space->doubtful.chunks && start_doubting(space) < 0)
		return 0;
	for (at = cl_region_map_from(&space->regions, start); at < space->regions.nr && space->regions.at[at].start < end;
	     at++) {
		const struct cl_region part = cl_region_part(&space->regions.at[at], start, end);

		index = cl_image_index_from(space->image, part.at_dump);
		last = cl_image_index_from(space->image, part.at_dump + (part.end - part.start));
		for (; (index = cl_shared_bits_find(&space->missing, index, last, true)) < last; index = end_of_run) {
			end_of_run = cl_shared_bits_find(&space->missing, index, last, false);
			pages += cl_shared_bits_assign(&space->doubtful, index, end_of_run, true);
		}
	}
	return pages;
}

int cl_space_remap(struct cl_space *space, uint64_t from, uint64_t to, uint64_t length)
{
	size_t i, nr_limbo;
	struct cl_regions moved = { 0 };
	int ret;

	ret = cl_regions_take(&space->limbo, from, from + length, &moved);
	if (ret == 0)
		ret = cl_region_map_take(&space->regions, from, from + length, &moved, moved.nr);
	nr_limbo = space->limbo.nr;
	if (ret == 0)
		ret = cl_region_map_take(&space->regions, to, to + length, &space->limbo, 0);
	for (i = nr_limbo; i < space->limbo.nr && ret == 0; i++)
		ret = remember(space, &space->limbo.at[i], 0);
	for (i = 0; i < moved.nr && ret == 0; i++)
		ret = remember(space, &moved.at[i], moved.at[i].start - from + to);
	if (moved.nr)
		space->changes++;
	for (i = 0; i < moved.nr && ret == 0; i++) {
		struct cl_region region = moved.at[i];

		region.start = region.start - from + to;
		region.end = region.end - from + to;
		region.moved_in = space->changes;
		ret = cl_region_map_insert(&space->regions, cl_region_map_from(&space->regions, region.start), region);
	}
	free(moved.at);
	return ret < 0 ? ret : cl_region_map_changed(&space->regions);
}

bool cl_space_unsettled(const struct cl_space *space)
{
	return space->limbo.nr || space->suspects.nr;
}

/* All that were made so far have been followed. */
static void forget_forks(struct cl_space *space)
{
	space->undo.nr_old = space->undo.nr;
	cl_undo_log_clear(&space->guards);
	space->quiet = space->changes;
}

void cl_space_was_quiet(struct cl_space *space)
{
	forget_forks(space);
	if (space->mirror.quiet)
		*space->mirror.quiet = space->quiet;
}

void cl_space_quiet(struct cl_space *space)
{
	forget_forks(space);
	while (space->limbo.nr)
		drop_part(space, &space->limbo.at[--space->limbo.nr], 0, UINT64_MAX);
}

bool cl_space_take_suspect(struct cl_space *space, uint64_t *start, uint64_t *end)
{
	const struct cl_region *suspect;

	if (!space->suspects.nr)
		return false;
	suspect = &space->suspects.at[--space->suspects.nr];
	*start = suspect->start;
	*end = suspect->end;
	return true;
}

int cl_space_add_suspect(struct cl_space *space, uint64_t start, uint64_t end)
{
	return cl_regions_push(&space->suspects, (struct cl_region){ .start = start, .end = end });
}

uint64_t cl_space_zero_span(const struct cl_space *space, uint64_t addr, uint64_t max_pages)
{
	size_t at = cl_region_map_from(&space->regions, addr);
	const struct cl_region *region;
	uint64_t room, next, limit, vaddr;

	if (at == space->regions.nr || space->regions.at[at].start > addr)
		return 1;
	region = &space->regions.at[at];
	room = (region->end - addr) / CL_PAGE_SIZE;
	if (max_pages > room)
		max_pages = room;
	vaddr = region->at_dump + (addr - region->start);
	/* A page within max_pages of here has an index within max_pages of the first: look no further. */
	next = cl_image_index_from(space->image, vaddr);
	limit = next + max_pages < space->image->nr_pages ? next + max_pages : space->image->nr_pages;
	next = cl_shared_bits_find(&space->missing, next, limit, true);
	if (next < limit) {
		room = (cl_image_vaddr(space->image, next) - vaddr) / CL_PAGE_SIZE;
		if (max_pages > room)
			max_pages = room;
	}
	return max_pages ? max_pages : 1;
}
