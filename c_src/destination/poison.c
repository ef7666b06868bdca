/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/poison.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "destination/ended.h"
#include "destination/engine.h"
#include "destination/uffd.h"
#include "destination/uffd_events.h"

enum {
	POISON_WAIT_US = 50,
	POISON_MAX_US = 10000000, /* a big task takes a while to fork */
};

/*
 * Close the space's userfaultfd, which unregisters its memory: from now on its faults are the kernel's own business.
 * Lock held; dropped meanwhile.
 */
static void let_go(struct cl_engine *engine, struct cl_space *space)
{
	int uffd = space->uffd;

	space->uffd = -1;
	cl_space_retire(space);
	space->reading = false; /* nobody opens its gate any more */
	cl_ended_let_go(space);
	pthread_cond_broadcast(&engine->gate);
	engine->stats.address_spaces--;
	pthread_mutex_unlock(&engine->lock);
	/* Whoever is killed in between is found to have had nothing, or something of which the resume state knows. */
	cl_engine_unwatch(engine, uffd);
	cl_uffd_guardian_release(&engine->guardian, space->key);
	cl_resume_state_forget(&engine->resume_state, space);
	pthread_mutex_lock(&engine->lock);
}

bool cl_spaces_retire_finished(struct cl_engine *engine, bool *look_again)
{
	struct cl_image *image;
	struct cl_space *space;
	bool done = true;

	for (image = engine->images; image; image = image->next) {
		for (space = image->spaces; space; space = space->next) {
			if (space->retired)
				continue;
			if (space->nr_missing || space->copying || !cl_ended_may_let_go(space)) {
				done = false;
				continue;
			}
			/*
			 * What was unmapped lately may be there still, or in a child that was forked before, whose event is
			 * on its way (fork_undo.h).
			 */
			if (space->undo.nr) {
				*look_again = true;
				done = false;
				continue;
			}
			let_go(engine, space);
			cl_log(&engine->log, CL_LOG_INFO, "task %d: complete", space->pid);
		}
		/* A task may fork all through its transfer. Who fills may be at any of them; else they are this thread's. */
		if (!engine->filling)
			cl_image_forget_retired(image);
	}
	return done;
}

/*
 * The end of an engine that leaves tasks with missing pages. Closing a userfaultfd would make those pages read as
 * zeroes: silent corruption. SIGBUS is the honest way. Nobody else fills the space any more. Lock held; dropped
 * while events are read.
 */
static void poison(struct cl_engine *engine, struct cl_space *space)
{
	const struct cl_image *image = space->image;
	uint64_t lost = 0, max_pages = image->nr_pages, done_bytes, done, index = 0, end, start_us = cl_now_us();
	struct cl_run run;
	int ret;

	while (space->nr_missing && index < image->nr_pages) {
		end = cl_image_extent(image, index)[1].first;
		if (!cl_space_next_run(space, index, end, &run)) {
			index = end;
			continue;
		}
		if (run.nr_pages > max_pages)
			run.nr_pages = max_pages;
		ret = cl_uffd_poison(space->uffd, run.address, run.nr_pages * CL_PAGE_SIZE, &done_bytes);
		done = done_bytes / CL_PAGE_SIZE;
		lost += done;
		max_pages = image->nr_pages;
		if (ret == -EEXIST || (ret == -ENOENT && run.nr_pages == 1 && !cl_uffd_is_changing(space->uffd))) {
			done++; /* it is there; or nowhere */
		} else if (ret == -ENOENT && !done && run.nr_pages > 1) {
			max_pages = (run.nr_pages + 1) / 2; /* the task has made two VMAs of it */
		} else if (!done) {
			if (ret == -ESRCH) {
				cl_ended_gone(engine, space);
				break;
			}
			/* What the task changed is told by its events. */
			if ((ret != -EAGAIN && ret != -ENOENT) || cl_now_us() - start_us > POISON_MAX_US) {
				cl_log(&engine->log, CL_LOG_ERROR,
				       "task %d: %llu pages are lost to it, and READ AS ZEROES: UFFDIO_POISON: %s",
				       space->pid, (unsigned long long)space->nr_missing, strerror(-ret));
				break;
			}
			pthread_mutex_unlock(&engine->lock);
			usleep(POISON_WAIT_US);
			(void)cl_engine_read_events(engine, space);
			pthread_mutex_lock(&engine->lock);
			index = 0; /* pages may have moved to where we were */
			continue;
		}
		cl_space_filled(space, run.index, run.index + done);
	}
	if (lost)
		cl_log(&engine->log, CL_LOG_ERROR, "task %d: %llu pages are lost to it: it gets SIGBUS where it touches one",
		       space->pid, (unsigned long long)lost);
}

/* A child that was being forked meanwhile comes to the front of its list. Lock held. */
static struct cl_space *first_left(struct cl_engine *engine)
{
	struct cl_image *image;
	struct cl_space *space;

	for (image = engine->images; image; image = image->next)
		for (space = image->spaces; space; space = space->next)
			if (!space->retired)
				return space;
	return NULL;
}

void cl_spaces_abandon(struct cl_engine *engine)
{
	struct cl_space *space;

	pthread_mutex_lock(&engine->lock);
	while ((space = first_left(engine))) {
		if (engine->restored)
			poison(engine, space);
		let_go(engine, space);
	}
	pthread_mutex_unlock(&engine->lock);
}
