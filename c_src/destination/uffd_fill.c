/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/uffd_fill.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/thread.h"
#include "destination/advice.h"
#include "destination/ended.h"
#include "destination/engine.h"
#include "destination/stats.h"
#include "destination/uffd.h"
#include "wire/page_protocol.h"

enum {
	AGAIN_WAIT_US = 200,
	NO_MEMORY_FIRST_MS = 50, /* doubling */
	NO_MEMORY_MAX_MS = 1000,
	MEMORY_IS_BACK_US = 2000000, /* so long after the last refusal: at a limit, one page in a hundred finds room */
};

/* Wait until the space's events were read, or a moment has passed. Lock held. */
static void wait_for_events(struct cl_engine *engine, long wait_us)
{
	pthread_cond_signal(&engine->work); /* whoever can, receives meanwhile */
	(void)cl_cond_wait(&engine->gate, &engine->lock, cl_now_us() + (uint64_t)wait_us);
}

/* Pages [from, to) have been installed and their waiters woken: account for the waits. Lock held. */
static void end_waits(struct cl_engine *engine, struct cl_space *space, uint64_t from, uint64_t to)
{
	uint64_t now_us = 0;
	size_t i = 0;

	while (i < space->waiters.nr) {
		struct cl_waiter *waiter = &space->waiters.at[i];

		if (waiter->index < from || waiter->index >= to) {
			i++;
			continue;
		}
		if (!now_us)
			now_us = cl_now_us();
		cl_stats_fault(&engine->stats, now_us - waiter->since_us);
		*waiter = space->waiters.at[--space->waiters.nr];
	}
}

void cl_engine_no_memory(struct cl_engine *engine, struct cl_space *space)
{
	space->no_memory.last_us = cl_now_us();
	if (space->no_memory.since_us)
		return;
	space->no_memory.since_us = space->no_memory.last_us;
	cl_log(&engine->log, CL_LOG_WARN,
	       "task %d: there is no memory for its pages (the limit of its cgroup?): it waits until there is", space->pid);
}

/* A copy succeeded as a whole. Lock held. */
static void has_memory(struct cl_engine *engine, struct cl_space *space)
{
	uint64_t now_us = cl_now_us();

	if (space->nr_missing && now_us - space->no_memory.last_us < MEMORY_IS_BACK_US)
		return;
	cl_log(&engine->log, CL_LOG_WARN, "task %d: there is memory for its pages again, after %llu s", space->pid,
	       (unsigned long long)(now_us - space->no_memory.since_us) / 1000000);
	space->no_memory.since_us = 0;
	space->no_memory.tries = 0;
}

/* Wait as long as it may take until there is room. Lock held; dropped meanwhile. */
static void wait_for_memory(struct cl_engine *engine, struct cl_space *space)
{
	uint64_t wait_ms = NO_MEMORY_FIRST_MS << (space->no_memory.tries < 5 ? space->no_memory.tries++ : 5);
	uint64_t until_us = cl_now_us() + (wait_ms < NO_MEMORY_MAX_MS ? wait_ms : NO_MEMORY_MAX_MS) * 1000;
	int ret = 0;

	cl_engine_no_memory(engine, space);
	pthread_cond_signal(&engine->work); /* whoever can, receives meanwhile */
	while (ret != -ETIMEDOUT && !engine->stopping && space->nr_missing)
		ret = cl_cond_wait(&engine->gate, &engine->lock, until_us);
}

/* guarded: space->guarded as it was before the copy. */
static void filled(struct cl_engine *engine, struct cl_space *space, const struct cl_run *run, uint64_t nr_pages,
		   uint64_t guarded)
{
	uint64_t from = run->index, to = run->index + nr_pages, changed;

	cl_engine_follow_madvise(engine);
	changed = cl_space_filled(space, from, to);
	if (changed < to - from && space->guarded != guarded)
		cl_log(&engine->log, CL_LOG_WARN,
		       "task %d: guards came to memory in the very moment in which its %llu pages "
		       "from 0x%llx on (at the dump) did: should they be taken off, old data may be left there",
		       space->pid, (unsigned long long)(to - from), (unsigned long long)cl_image_vaddr(space->image, from));
	if (run->doubtful)
		engine->stats.dropped_pages += changed;
	else
		engine->stats.copied_pages += changed;
	end_waits(engine, space, from, to);
}

static void drop(struct cl_engine *engine, struct cl_space *space, uint64_t from, uint64_t to)
{
	engine->stats.dropped_pages += cl_space_drop(space, from, to);
	end_waits(engine, space, from, to);
}

/* One UFFDIO_COPY of a run, and what follows from its result. Returns the bytes to try at once next time. */
static uint64_t copy_run(struct cl_engine *engine, struct cl_space *space, const struct cl_run *run, const uint8_t *data,
			 uint64_t max_bytes)
{
	uint64_t length = run->nr_pages * CL_PAGE_SIZE, guarded = space->guarded, done_bytes;
	int uffd = space->uffd, ret;
	bool is_gone;

	if (length > max_bytes)
		length = max_bytes;
	space->copying++;
	pthread_mutex_unlock(&engine->lock);
	ret = run->doubtful ? cl_uffd_poison(uffd, run->address, length, &done_bytes) :
			      cl_uffd_copy(uffd, run->address, data, length, &done_bytes);
	if (ret == -EEXIST) /* nobody else wakes those who wait for a page that is there */
		(void)cl_uffd_wake(uffd, run->address + done_bytes, CL_PAGE_SIZE);
	/*
	 * Moved or unmapped since we looked its address up? Then its event is pending, and can't be read before we leave
	 * the gate: the address space is still changing.
	 */
	is_gone = ret == -ENOENT && length == CL_PAGE_SIZE && !cl_uffd_is_changing(uffd);
	pthread_mutex_lock(&engine->lock);
	if (--space->copying == 0 && space->reading)
		pthread_cond_broadcast(&engine->gate);
	if (ret == -EEXIST)
		done_bytes += CL_PAGE_SIZE;
	if (done_bytes) {
		cl_space_was_quiet(space);
		filled(engine, space, run, done_bytes / CL_PAGE_SIZE, guarded);
	}
	if (ret == 0 && space->no_memory.since_us)
		has_memory(engine, space);
	if (ret == 0 || ret == -EEXIST || (done_bytes && ret != -ESRCH))
		return CL_COPY_BYTES;
	switch (ret) {
	case -EAGAIN:
		engine->stats.again++;
		wait_for_events(engine, AGAIN_WAIT_US);
		break;
	case -ENOENT:
		/* The run spans VMAs (the task changed them), or is unmapped; the event will tell which pages. */
		if (length > CL_PAGE_SIZE)
			return (length / CL_PAGE_SIZE + 1) / 2 * CL_PAGE_SIZE;
		if (is_gone)
			drop(engine, space, run->index, run->index + 1);
		else
			wait_for_events(engine, AGAIN_WAIT_US);
		break;
	case -ESRCH:
		cl_ended_gone(engine, space);
		break;
	case -ENOMEM:
		wait_for_memory(engine, space);
		break;
	default:
		cl_engine_fail(engine, ret, "task %d: UFFDIO_COPY of %llu bytes to 0x%llx: %s", space->pid,
			       (unsigned long long)length, (unsigned long long)run->address, strerror(-ret));
	}
	return length;
}

static void fill_space(struct cl_engine *engine, struct cl_space *space, uint64_t index, uint64_t end, const uint8_t *data)
{
	uint64_t max_bytes = CL_COPY_BYTES;
	struct cl_run run;

	while (!engine->stopping && space->nr_missing) {
		cl_engine_follow_madvise(engine);
		if (space->reading || engine->nr_later) {
			pthread_cond_wait(&engine->gate, &engine->lock);
			continue;
		}
		if (!cl_space_next_run(space, index, end, &run))
			return;
		max_bytes = copy_run(engine, space, &run, data + (run.index - index) * CL_PAGE_SIZE, max_bytes);
		if (!space->nr_missing)
			cl_engine_wake(engine);
	}
}

void cl_engine_fill(struct cl_engine *engine, struct cl_image *image, uint64_t index, uint64_t nr_pages, const uint8_t *data)
{
	struct cl_space *space;

	engine->filling++;
	/* A child forked meanwhile is appended to the list: it is reached, whatever it still misses. */
	for (space = image->spaces; space; space = space->next)
		fill_space(engine, space, index, index + nr_pages, data);
	engine->filling--;
}
