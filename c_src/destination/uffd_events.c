/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/uffd_events.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/vec.h"
#include "destination/advice.h"
#include "destination/ended.h"
#include "destination/engine.h"
#include "destination/fork_undo.h"
#include "destination/missing_map.h"
#include "destination/uffd.h"
#include "destination/uffd_fill.h"
#include "wire/page_protocol.h"

enum {
	EVENTS = CL_RESUME_EVENTS,
	ZERO_SPAN_PAGES = 16,
	UNSETTLED_WAIT_US = 20,
	UNSETTLED_MAX_US = 2000,
	SHORT_OF_FDS_WAIT_US = 10000,
	NO_MEMORY_WAIT_US = 10000,
	MAX_HELD_US = 300,
	LET_IN_US = 20,
	MAX_AGAIN = 64, /* pages */
};

/* What to do once all events are applied: wake [address, +length); or give zeroes if no page belongs there (then). */
struct answer {
	uint64_t address, length;
	bool zero, write;
};

int cl_engine_watch(struct cl_engine *engine, struct cl_space *space)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = space };
	int flags = fcntl(space->uffd, F_GETFL);

	if (flags < 0 || fcntl(space->uffd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	return epoll_ctl(engine->epoll_fd, EPOLL_CTL_ADD, space->uffd, &event) < 0 ? -errno : 0;
}

static int add_waiter(struct cl_space *space, uint64_t index, uint64_t now_us)
{
	if (cl_vec_reserve(&space->waiters.at, &space->waiters.max, space->waiters.nr + 1, CL_VEC_NO_LIMIT) < 0)
		return -ENOMEM; /* threads bound it */
	space->waiters.at[space->waiters.nr++] = (struct cl_waiter){ .index = index, .since_us = now_us };
	return 0;
}

/* A thread waits at `address`. False if no page belongs there. */
static bool apply_fault(struct cl_engine *engine, struct cl_space *space, uint64_t address, uint64_t now_us)
{
	uint64_t index = cl_space_missing_at(space, address);
	int ret;

	if (index == CL_NO_PAGE)
		return false;
	ret = cl_schedule_fault(&engine->schedule, space->image, index);
	if (ret >= 0 && add_waiter(space, index, now_us) < 0)
		ret = -ENOMEM;
	if (ret < 0)
		cl_engine_fail(engine, ret, "task %d: page fault: %s", space->pid, strerror(-ret));
	else if (ret > 0) {
		engine->stats.demand_faults++;
		cl_map_count(engine->stats.total_pages, space->image, index, index + 1, engine->stats.demand_map);
	} else
		engine->stats.merged_faults++;
	cl_flow_fault(&engine->flow, now_us);
	return true;
}

/* The child's key lies in a part of the event that the kernel doesn't use. */
static uint64_t fork_key(const struct uffd_msg *event)
{
	return event->arg.reserved.reserved3;
}

static void set_fork_key(struct uffd_msg *event, uint64_t generation)
{
	event->arg.reserved.reserved3 = cl_uffd_guardian_key(generation, (int)event->arg.fork.ufd);
}

/*
 * Pages are missing that were not wanted any more: asked for, as a server that pushes has perhaps sent them. Not many: what
 * threads wait for would have to wait for all of them.
 */
static void ask_again(void *context, struct cl_image *image, uint64_t from, uint64_t to)
{
	struct cl_engine *engine = context;
	struct cl_schedule *schedule = &engine->schedule;
	uint64_t waiting = schedule->demand_in[CL_REMOTE] - schedule->demand_out[CL_REMOTE];
	int ret = 0;

	if (waiting + (to - from) > MAX_AGAIN) {
		engine->untold = true;
		return;
	}
	for (; from < to && ret == 0; from++)
		ret = cl_schedule_fault_again(schedule, image, from);
	if (ret < 0)
		cl_engine_fail(engine, ret, "task %d: following its fork: %s", image->pid, strerror(-ret));
}

/* Lock held; dropped now and then. */
static void apply_fork(struct cl_engine *engine, struct cl_space *parent, int uffd, uint64_t key)
{
	struct cl_space *child;
	int ret;

	/* Until the child is entered, let_others_in() holds true of its parent: who succeeds this process makes the same child. */
	pthread_mutex_unlock(&engine->lock);
	child = cl_space_prepare_fork(parent, uffd);
	pthread_mutex_lock(&engine->lock);
	child = cl_space_fork(parent, child);
	ret = child ? cl_engine_watch(engine, child) : -ENOMEM;
	if (ret == 0)
		ret = cl_fork_undo(child, parent, cl_uffd_has, ask_again, engine);
	engine->stats.events_fork++;
	if (ret < 0) {
		if (!child) {
			close(uffd);
			cl_uffd_guardian_release(&engine->guardian, key);
		}
		cl_engine_fail(engine, ret, "task %d: following its fork: %s", parent->pid, strerror(-ret));
		return;
	}
	child->key = key;
	cl_engine_enter(engine, child);
	engine->stats.address_spaces++;
	cl_log(&engine->log, CL_LOG_DEBUG, "task %d forked: the child misses %llu pages", parent->pid,
	       (unsigned long long)child->nr_missing);
	if (!child->nr_missing)
		cl_engine_wake(engine);
}

/*
 * A batch of events may take long to apply, and one of them, too. If the lock is held since long ago, *since_us, others get it
 * for a moment. Of this space they change nothing meanwhile: the gate is closed, and what the tasks told of guards waits.
 * Should this process be killed, the batch is as if nothing of it had been applied, as at any other moment of it.
 */
static void let_others_in(struct cl_engine *engine, uint64_t *since_us)
{
	if (cl_now_us() - *since_us < MAX_HELD_US)
		return;
	pthread_mutex_unlock(&engine->lock);
	usleep(LET_IN_US); /* unlocked alone, it would be locked again before anybody wakes */
	pthread_mutex_lock(&engine->lock);
	*since_us = cl_now_us();
}

/* [start, end) is unmapped, or removed (which it can't fail to be). 0 or -ENOMEM. */
static int apply_loss(struct cl_engine *engine, struct cl_space *space, const struct uffd_msg *event, uint64_t *since_us)
{
	uint64_t start = event->arg.remove.start, end;
	int ret = 0;

	for (; start < event->arg.remove.end && ret == 0; start = end) {
		let_others_in(engine, since_us);
		end = cl_space_piece_end(space, start, event->arg.remove.end);
		engine->stats.dropped_pages += space->nr_missing;
		if (event->event == UFFD_EVENT_REMOVE)
			cl_space_remove(space, start, end);
		else
			ret = cl_space_unmap(space, start, end);
		engine->stats.dropped_pages -= space->nr_missing;
	}
	return ret;
}

/* Apply one event. True if *answer has to be carried out. Lock held since *since_us; dropped now and then. */
static bool apply(struct cl_engine *engine, struct cl_space *space, const struct uffd_msg *event, struct answer *answer,
		  uint64_t now_us, uint64_t *since_us)
{
	uint64_t start;
	int ret = 0;

	*answer = (struct answer){ 0 };
	switch (event->event) {
	case UFFD_EVENT_PAGEFAULT:
		start = event->arg.pagefault.address & ~(uint64_t)(CL_PAGE_SIZE - 1);
		if (apply_fault(engine, space, start, now_us))
			return false;
		engine->stats.zero_faults++;
		answer->zero = true;
		answer->write = event->arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WRITE;
		answer->address = start;
		answer->length = CL_PAGE_SIZE;
		return true;
	case UFFD_EVENT_FORK:
		apply_fork(engine, space, (int)event->arg.fork.ufd, fork_key(event));
		return false;
	case UFFD_EVENT_REMAP:
		engine->stats.events_remap++;
		answer->address = event->arg.remap.from;
		answer->length = event->arg.remap.len;
		ret = cl_space_remap(space, event->arg.remap.from, event->arg.remap.to, event->arg.remap.len);
		break;
	case UFFD_EVENT_REMOVE:
	case UFFD_EVENT_UNMAP:
		*(event->event == UFFD_EVENT_REMOVE ? &engine->stats.events_remove : &engine->stats.events_unmap) += 1;
		answer->address = event->arg.remove.start;
		answer->length = event->arg.remove.end - event->arg.remove.start;
		ret = apply_loss(engine, space, event, since_us);
		break;
	default:
		cl_log(&engine->log, CL_LOG_WARN, "task %d: unknown userfaultfd event 0x%x", space->pid, event->event);
		return false;
	}
	if (ret < 0)
		cl_engine_fail(engine, ret, "task %d: following a change of its memory: %s", space->pid, strerror(-ret));
	cl_engine_forget_dropped_waiters(space);
	if (!space->nr_missing)
		cl_engine_wake(engine);
	/* Whoever waits there must look again: the page will not come there. */
	return true;
}

/* No copy is made until `reading` is false again. Lock held; dropped while waiting. */
static void close_gate(struct cl_engine *engine, struct cl_space *space)
{
	space->reading = true;
	while (space->copying)
		pthread_cond_wait(&engine->gate, &engine->lock);
}

/* All events that were read are applied; regions may have `changed`. Inside the gate, lock not held. */
static void save_regions(struct cl_engine *engine, struct cl_space *space, bool changed)
{
	int ret = space->mirror.entry ? cl_resume_state_applied(&engine->resume_state, space, changed) : 0;

	if (ret < 0)
		cl_engine_warn_no_resume_state(engine, ret);
}

/* Ask the kernel, which is quiet, which unmaps failed. Whether any did; or -EAGAIN: it isn't quiet any more. */
static int find_failed_unmaps(struct cl_space *space)
{
	int ret, below, any = 0;
	size_t i;

	for (i = 0; i < space->undo.nr; i++) {
		struct cl_undo *undo = &space->undo.at[i];

		undo->has_failed = false;
		if (undo->now || !cl_space_is_free(space, undo->was.start, undo->was.end))
			continue;
		/* What failed has split the mapping there; one that grew to there since begins further down. */
		ret = cl_uffd_has(space->uffd, undo->was.start, CL_PAGE_SIZE);
		below = ret == 1 ? cl_uffd_has(space->uffd, undo->was.start - CL_PAGE_SIZE, 2 * CL_PAGE_SIZE) : 0;
		if (ret < 0 || below < 0)
			return -EAGAIN;
		undo->has_failed = ret == 1 && !below;
		any |= undo->has_failed;
	}
	return any;
}

/* Lock held; dropped meanwhile. */
static void undo_failed_unmaps(struct cl_engine *engine, struct cl_space *space)
{
	int ret;

	close_gate(engine, space);
	ret = cl_failed_undo_regions(space);
	pthread_mutex_unlock(&engine->lock);
	/* First: no successor may find a page missing that has no place. */
	if (ret == 0)
		save_regions(engine, space, true);
	pthread_mutex_lock(&engine->lock);
	engine->stats.dropped_pages += space->nr_missing;
	if (ret == 0)
		cl_failed_undo_pages(space, ask_again, engine);
	engine->stats.dropped_pages -= space->nr_missing;
	if (ret < 0)
		cl_engine_fail(engine, ret, "task %d: following a change of its memory: %s", space->pid, strerror(-ret));
	space->reading = false;
	pthread_cond_broadcast(&engine->gate);
	cl_engine_work_is_there(engine);
	cl_engine_ask(engine);
}

bool cl_engine_look_at_unmaps(struct cl_engine *engine, struct cl_space *space)
{
	int any;

	if (!space->undo.nr || space->uffd < 0)
		return false;
	if (space->reading || cl_uffd_is_changing(space->uffd))
		return true;
	any = find_failed_unmaps(space);
	if (any < 0)
		return true;
	pthread_mutex_lock(&engine->lock);
	if (any)
		undo_failed_unmaps(engine, space);
	cl_undo_log_clear(&space->undo);
	pthread_mutex_unlock(&engine->lock);
	return false;
}

/*
 * Nothing belonged at answer->address when the fault was applied: give zeroes there, unless an event of the same batch
 * moved a missing page there. What happens from now on has its event pending, and the kernel refuses.
 */
static void give_zeroes(struct cl_engine *engine, struct cl_space *space, const struct answer *answer)
{
	static const uint8_t zeroes[CL_PAGE_SIZE];
	uint64_t done_bytes, length;
	bool is_zero;
	int ret;

	if (cl_engine_look_at_unmaps(engine, space)) { /* it isn't known yet: the thread looks again */
		(void)cl_uffd_wake(space->uffd, answer->address, CL_PAGE_SIZE);
		return;
	}
	pthread_mutex_lock(&engine->lock);
	is_zero = !apply_fault(engine, space, answer->address, cl_now_us());
	length = CL_PAGE_SIZE * cl_space_zero_span(space, answer->address, answer->write ? 1 : ZERO_SPAN_PAGES);
	if (!is_zero) {
		cl_engine_work_is_there(engine);
		cl_engine_ask(engine);
	}
	pthread_mutex_unlock(&engine->lock);
	if (!is_zero)
		return;
	/* A writer gets a page of its own at once instead of the shared zero page and a second fault. */
	if (answer->write)
		ret = cl_uffd_copy(space->uffd, answer->address, zeroes, CL_PAGE_SIZE, &done_bytes);
	else
		ret = cl_uffd_zero(space->uffd, answer->address, length, &done_bytes);
	/* More than the faulting page may reach into another mapping (mprotect splits them without an event). */
	if (ret == -ENOENT && length > CL_PAGE_SIZE)
		ret = cl_uffd_zero(space->uffd, answer->address, CL_PAGE_SIZE, &done_bytes);
	/*
	 * The faulting page is there already (EEXIST), or its address is changing (EAGAIN, ENOENT): the thread looks
	 * again. A failure further on only means fewer zero pages ahead of need.
	 */
	if (ret == -ENOMEM)
		usleep(NO_MEMORY_WAIT_US); /* it faults again at once */
	if (done_bytes == 0)
		(void)cl_uffd_wake(space->uffd, answer->address, CL_PAGE_SIZE);
	pthread_mutex_lock(&engine->lock);
	if (ret == -ENOMEM && !done_bytes)
		cl_engine_no_memory(engine, space);
	engine->stats.zero_pages += done_bytes / CL_PAGE_SIZE;
	if (ret == -ESRCH)
		cl_ended_gone(engine, space);
	if (!space->nr_missing)
		cl_engine_wake(engine);
	pthread_mutex_unlock(&engine->lock);
}

/* Unmap what of the suspect range isn't there. 0, -EAGAIN if the kernel isn't quiet any more, or -ENOMEM. */
static int unmap_gone(struct cl_engine *engine, struct cl_space *space, uint64_t start, uint64_t end)
{
	uint64_t middle = start + (end - start) / CL_PAGE_SIZE / 2 * CL_PAGE_SIZE;
	int ret = cl_uffd_has(space->uffd, start, end - start);

	if (ret == 0 && end - start == CL_PAGE_SIZE) {
		if (cl_uffd_is_changing(space->uffd))
			return -EAGAIN;
		pthread_mutex_lock(&engine->lock);
		engine->stats.dropped_pages += space->nr_missing;
		ret = cl_space_unmap(space, start, end);
		engine->stats.dropped_pages -= space->nr_missing;
		pthread_mutex_unlock(&engine->lock);
		return ret;
	}
	if (ret == 0) {
		/* It may be in several VMAs, or in part. */
		ret = unmap_gone(engine, space, start, middle);
		return ret < 0 ? ret : unmap_gone(engine, space, middle, end);
	}
	return ret < 0 ? ret : 0;
}

/* Resolve what the order of events left open (address_space.h). True if nothing is left. Inside the gate, lock not held. */
static bool settle(struct cl_engine *engine, struct cl_space *space)
{
	uint64_t start, end;
	int ret = 0;

	if (!cl_space_unsettled(space))
		return true;
	if (cl_uffd_is_changing(space->uffd))
		return false;
	pthread_mutex_lock(&engine->lock);
	engine->stats.dropped_pages += space->nr_missing;
	cl_space_quiet(space);
	engine->stats.dropped_pages -= space->nr_missing;
	pthread_mutex_unlock(&engine->lock);
	while (ret == 0 && cl_space_take_suspect(space, &start, &end))
		ret = unmap_gone(engine, space, start, end);
	if (ret == -EAGAIN)
		ret = cl_space_add_suspect(space, start, end);
	pthread_mutex_lock(&engine->lock);
	if (ret < 0)
		cl_engine_fail(engine, ret, "task %d: following a change of its memory: %s", space->pid, strerror(-ret));
	cl_engine_forget_dropped_waiters(space);
	if (!space->nr_missing)
		cl_engine_wake(engine);
	pthread_mutex_unlock(&engine->lock);
	return !cl_space_unsettled(space);
}

/* Whether the event may change more than which pages are missing. */
static bool moves_regions(const struct uffd_msg *event)
{
	return event->event == UFFD_EVENT_REMAP || event->event == UFFD_EVENT_UNMAP;
}

/*
 * Apply a batch of events, answer. True if the space is settled: then the gate is open again. Inside the gate, lock not
 * held.
 */
static bool apply_batch(struct cl_engine *engine, struct cl_space *space, const struct uffd_msg *events, int nr_events)
{
	struct answer answers[EVENTS];
	bool settled, changed = cl_space_unsettled(space);
	int nr_answers = 0, i;
	uint64_t now_us = cl_now_us(), since_us = now_us;

	pthread_mutex_lock(&engine->lock);
	for (i = 0; i < nr_events; i++) {
		let_others_in(engine, &since_us);
		if (apply(engine, space, &events[i], &answers[nr_answers], now_us, &since_us))
			nr_answers++;
		changed |= moves_regions(&events[i]);
	}
	if (engine->nr_later)
		pthread_cond_broadcast(&engine->gate);
	engine->reading = false;
	cl_engine_follow_madvise(engine);
	if (nr_events < 0)
		cl_engine_fail(engine, nr_events, "task %d: reading its userfaultfd: %s", space->pid, strerror(-nr_events));
	pthread_mutex_unlock(&engine->lock);

	settled = settle(engine, space);
	save_regions(engine, space, changed);
	pthread_mutex_lock(&engine->lock);
	if (space->mirror.entry && cl_chunk_pool_left_file(&engine->chunks))
		cl_engine_warn_no_resume_state(engine, -ENOMEM);
	if (settled) {
		/* Whoever waits to copy needn't wait for what is sent. */
		space->reading = false;
		pthread_cond_broadcast(&engine->gate);
	}
	cl_engine_work_is_there(engine); /* demand pages that are here: they don't wait for what is sent */
	cl_engine_ask(engine);
	pthread_mutex_unlock(&engine->lock);
	for (i = 0; i < nr_answers; i++) {
		if (answers[i].zero && settled)
			give_zeroes(engine, space, &answers[i]);
		else
			(void)cl_uffd_wake(space->uffd, answers[i].address, answers[i].length);
	}
	return settled;
}

/* Read once, apply, answer. As apply_batch(). */
static bool read_batch(struct cl_engine *engine, struct cl_space *space)
{
	uint64_t generation = engine->guardian.generation;
	struct uffd_msg own[EVENTS],
		*events = space->mirror.entry ? cl_resume_state_begin(space->mirror.entry, generation) : own;
	bool forked = false;
	int nr_events, i;

	cl_fork_advice_forget(&space->advice);
	cl_engine_look_at_fork_advice(engine, space, false);
	/* Whoever caused an event goes on from the moment that it is read: what it tells then comes after it. */
	pthread_mutex_lock(&engine->lock);
	cl_engine_follow_madvise(engine);
	engine->reading = true;
	pthread_mutex_unlock(&engine->lock);
	cl_engine_forget_own_guards(engine, space);
	nr_events = cl_uffd_read(space->uffd, events, EVENTS);
	if (nr_events == -EMFILE || nr_events == -ENFILE || nr_events == -ENOMEM) {
		/* A child's userfaultfd found no place. The event stays, and the forking thread waits, until one is free. */
		if (!engine->short_of_fds)
			cl_log(&engine->log, CL_LOG_WARN, "task %d: reading its userfaultfd: %s; trying again", space->pid,
			       strerror(-nr_events));
		engine->short_of_fds = true;
		usleep(SHORT_OF_FDS_WAIT_US);
		nr_events = 0;
	}
	for (i = 0; i < nr_events; i++) {
		if (events[i].event == UFFD_EVENT_FORK) {
			set_fork_key(&events[i], generation);
			cl_uffd_guardian_add(&engine->guardian, fork_key(&events[i]), (int)events[i].arg.fork.ufd);
			forked = true;
		}
	}
	if (forked && !space->advice.known)
		cl_engine_look_at_fork_advice(engine, space, true);
	return apply_batch(engine, space, events, nr_events);
}

int cl_engine_replay(struct cl_engine *engine, struct cl_space *space, struct cl_held *held, size_t nr_held)
{
	struct uffd_msg events[EVENTS];
	uint64_t generation;
	int nr_read = cl_resume_state_pending(space->mirror.entry, events, &generation), nr = 0, i;
	size_t h;

	for (i = 0; i < nr_read; i++) {
		/* Its thread will fault again. */
		if (events[i].event == UFFD_EVENT_PAGEFAULT)
			continue;
		if (events[i].event == UFFD_EVENT_FORK) {
			set_fork_key(&events[i], generation);
			for (h = 0; h < nr_held && held[h].key != fork_key(&events[i]); h++)
				;
			if (h == nr_held)
				cl_log(&engine->log, CL_LOG_ERROR,
				       "task %d: a child that it was forking when the daemon was "
				       "killed is lost: it reads zeroes where pages are missing",
				       space->pid);
			/* Or it is in the resume state by now. */
			if (h == nr_held || held[h].fd < 0)
				continue;
			events[i].arg.fork.ufd = (uint32_t)held[h].fd;
			held[h].fd = -1;
		}
		events[nr++] = events[i];
	}
	(void)apply_batch(engine, space, events, nr);
	return engine->failure.code ? engine->failure.code : cl_uffd_wake_all(space->uffd);
}

bool cl_engine_read_events(struct cl_engine *engine, struct cl_space *space)
{
	uint64_t give_up_us = cl_now_us() + UNSETTLED_MAX_US;
	bool settled;

	pthread_mutex_lock(&engine->lock);
	close_gate(engine, space);
	pthread_mutex_unlock(&engine->lock);

	while (!(settled = read_batch(engine, space)) && cl_now_us() < give_up_us)
		usleep(UNSETTLED_WAIT_US);
	return settled;
}
