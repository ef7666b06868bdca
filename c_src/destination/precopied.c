/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/precopied.h"

#include <errno.h>
#include <string.h>

#include "destination/engine.h"
#include "destination/missing_map.h"
#include "destination/precopy_store.h"
#include "destination/reconnect.h"
#include "destination/source_push_state.h"
#include "destination/uffd_fill.h"

#define MAX_PAGES (CL_COPY_BYTES / CL_PAGE_SIZE)
#define AROUND_PAGES 16 /* as many as the kernel maps around a fault in a file */

int cl_precopied_stale(struct cl_error *error)
{
	return cl_error_set(error, -ESTALE, "it expects pre-copied pages that can't be read here; asking for all");
}

static void demand(struct cl_engine *engine, struct cl_image *image, uint64_t index)
{
	if (cl_schedule_fault_again(&engine->schedule, image, index) < 0)
		cl_engine_fail(engine, -ENOMEM, "task %d: no memory for its page faults", image->pid);
}

/* Threads that wait for some of these pages, and perhaps have not asked for them yet: theirs come first. */
static void demand_waited_for(struct cl_engine *engine, struct cl_image *image, uint64_t from, uint64_t to)
{
	const struct cl_space *space;
	size_t i;

	for (space = image->spaces; space; space = space->next)
		for (i = 0; i < space->waiters.nr; i++) {
			uint64_t index = space->waiters.at[i].index;

			if (index >= from && index < to && cl_image_is_todo(image, CL_STORED, index))
				demand(engine, image, index);
		}
}

/* Of [index, end), in one extent, what is missing is to be had in the store from now on. */
static void have(struct cl_engine *engine, struct cl_image *image, uint64_t index, uint64_t end)
{
	uint64_t from, to = index;

	if (!image->spaces && !engine->restored) { /* all of it will be missing */
		cl_image_set_stored(image, index, end, true);
		return;
	}
	while (cl_image_next_missing(image, to, end, &from, &to))
		cl_image_set_stored(image, from, to, true);
	demand_waited_for(engine, image, index, end);
}

int cl_precopied_note(struct cl_engine *engine, struct cl_push_run *run, struct cl_error *error)
{
	struct cl_image *image = run->image;
	uint64_t index, end;

	if (engine->store_is_bad)
		return cl_precopied_stale(error);
	for (; run->nr_pages; run->vaddr += (end - index) * CL_PAGE_SIZE, run->nr_pages -= end - index) {
		index = cl_image_index(image, run->vaddr);
		end = cl_image_extent(image, index)[1].first;
		if (end > index + run->nr_pages)
			end = index + run->nr_pages;
		have(engine, image, index, end);
	}
	cl_engine_work_is_there(engine);
	return 0;
}

/* 0, or -errno: none of these are stored then. Lock held; dropped while writing. */
static int store(struct cl_engine *engine, struct cl_image *image, uint64_t index, uint64_t nr_pages, const uint8_t *data)
{
	uint64_t id = (uint64_t)image->pid, vaddr = cl_image_vaddr(image, index);
	int ret;

	pthread_mutex_unlock(&engine->lock);
	ret = cl_precopy_store_write(engine->store, id, vaddr, nr_pages, data);
	if (ret < 0 && ret != -ESTALE)
		(void)cl_precopy_store_drop(engine->store, id, vaddr, nr_pages);
	pthread_mutex_lock(&engine->lock);
	if (ret == 0 && !engine->store_is_bad)
		have(engine, image, index, index + nr_pages);
	return ret;
}

void cl_precopied_store(struct cl_engine *engine, struct cl_image *image, uint64_t index, uint64_t nr_pages,
			const uint8_t *data)
{
	uint64_t i;
	int ret;

	if (!engine->store || engine->store_is_bad || engine->store_is_full)
		return;
	ret = store(engine, image, index, nr_pages, data);
	if (ret == -ESTALE) /* some have no place there: the others */
		for (i = 0; i < nr_pages && (ret == 0 || ret == -ESTALE); i++)
			ret = store(engine, image, index + i, 1, data + i * CL_PAGE_SIZE);
	if (ret < 0 && ret != -ESTALE && !engine->store_is_full) {
		engine->store_is_full = true;
		cl_log(&engine->log, CL_LOG_WARN, "pre-copied pages: no more can be stored, the others come later: %s",
		       strerror(-ret));
	}
	cl_engine_work_is_there(engine);
}

/* The store can't be read: what was to come from there, [from, to) among it, is the server's to send. */
static void leave_store(struct cl_engine *engine, struct cl_image *read, uint64_t from, uint64_t to)
{
	const struct cl_space *space;
	struct cl_image *image;
	struct cl_error error;
	uint64_t index, nr_pages;
	size_t i;

	engine->store_is_bad = true;
	cl_image_set_stored(read, from, to, false);
	for (image = engine->images; image; image = image->next)
		for (index = 0; (nr_pages = cl_image_take(image, CL_STORED, index, false, image->nr_pages, &index));
		     index += nr_pages)
			cl_image_set_stored(image, index, index + nr_pages, false);
	/* Those that a thread waits for are asked for, and not only pushed in their turn. */
	for (image = engine->images; image; image = image->next)
		for (space = image->spaces; space; space = space->next)
			for (i = 0; i < space->waiters.nr; i++)
				demand(engine, image, space->waiters.at[i].index);
	(void)cl_precopied_stale(&error);
	cl_engine_broken(engine, &error);
}

/* Install what of these pages is missing. */
static void install(struct cl_engine *engine, const struct cl_pick *pick, uint8_t *buffer)
{
	uint64_t from, to, same, failed_from = 0, failed_to = 0;
	int ret;

	for (to = pick->index; cl_image_next_missing(pick->image, to, pick->index + pick->nr_pages, &from, &to);) {
		to = to - from < MAX_PAGES ? to : from + MAX_PAGES;
		pthread_mutex_unlock(&engine->lock);
		ret = cl_precopy_store_read(engine->store, (uint64_t)pick->image->pid, cl_image_vaddr(pick->image, from),
					    to - from, buffer);
		pthread_mutex_lock(&engine->lock);
		/* Some may have come by another way meanwhile: then fewer are missing. */
		if (ret == -ENODATA && (from != failed_from || to != failed_to)) {
			failed_from = from;
			failed_to = to;
			to = from;
			continue;
		}
		if (ret < 0) {
			leave_store(engine, pick->image, from, pick->index + pick->nr_pages);
			return;
		}
		cl_engine_fill(engine, pick->image, from, to - from, buffer);
		same = to - from - cl_precopied_drop(engine, pick->image, from, to - from);
		engine->stats.same_pages += same;
		cl_map_count(engine->stats.total_pages, pick->image, from, from + same, engine->stats.same_map);
	}
}

/* The others of the aligned AROUND_PAGES that are to be had here: the task touches most of them next, and each costs far less
 * than a fault of its own. Another thread's fault comes first. */
static void install_around(struct cl_engine *engine, struct cl_image *image, uint64_t index, uint8_t *buffer)
{
	const struct cl_extent *extent = cl_image_extent(image, index);
	uint64_t before = cl_image_vaddr(image, index) / CL_PAGE_SIZE % AROUND_PAGES;
	uint64_t from = before < index - extent->first ? index - before : extent->first;
	uint64_t end = index + AROUND_PAGES - before < extent[1].first ? index + AROUND_PAGES - before : extent[1].first;

	for (; from < end && !cl_schedule_has_demand(&engine->schedule, CL_STORED); from++) {
		struct cl_pick pick = { .image = image, .index = from };

		for (; from < end && cl_image_is_todo(image, CL_STORED, from); from++)
			cl_image_set_todo(image, CL_STORED, from, from + 1, false);
		pick.nr_pages = from - pick.index;
		install(engine, &pick, buffer);
	}
}

bool cl_precopied_demand(struct cl_engine *engine, uint8_t *buffer)
{
	struct cl_pick pick;

	if (!cl_schedule_demand(&engine->schedule, CL_STORED, &pick))
		return false;
	install(engine, &pick, buffer);
	/* Before, what is around may be memory that isn't registered yet: it would be taken for unmapped. */
	if (engine->restored)
		install_around(engine, pick.image, pick.index, buffer);
	return true;
}

bool cl_precopied_background(struct cl_engine *engine, uint8_t *buffer)
{
	struct cl_pick pick;

	/* The pages of those who wait come anyway: the others needn't keep all CPUs busy, of which the task has need. */
	if (!engine->restored || (engine->nr_filling_stored && engine->nr_filling_stored + 1 >= engine->nr_workers) ||
	    !cl_schedule_background(&engine->schedule, CL_STORED, MAX_PAGES, &pick))
		return false;
	engine->nr_filling_stored++;
	install(engine, &pick, buffer);
	engine->nr_filling_stored--;
	return true;
}

uint64_t cl_precopied_drop(struct cl_engine *engine, const struct cl_image *image, uint64_t index, uint64_t nr_pages)
{
	uint64_t late;

	if (!engine->store)
		return 0;
	pthread_mutex_unlock(&engine->lock);
	late = cl_precopy_store_drop(engine->store, (uint64_t)image->pid, cl_image_vaddr(image, index), nr_pages);
	pthread_mutex_lock(&engine->lock);
	return late;
}
