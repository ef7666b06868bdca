/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resume: an engine goes on where a killed daemon was, with what its guardian kept (uffd_guardian.h, resume_state.h).
 * Whatever is doubtful is refused before anything is touched that another successor would need.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "destination/ended.h"
#include "destination/engine.h"
#include "destination/uffd.h"
#include "destination/uffd_events.h"

static int refuse(struct cl_error *error, int code, const char *why)
{
	return cl_error_set(error, code, "can't take over: %s", why);
}

/*
 * A restored task as the resume state has it; `missing` pages in its space, which is NULL if it is gone; pidfd: -1, or
 * owned by the task from now on. 0 or -ENOMEM.
 */
static int load_task(struct cl_engine *engine, int32_t pid, struct cl_space *space, uint64_t area,
		     const struct cl_resume_task *told, uint64_t missing, int pidfd)
{
	struct cl_restored *restored;
	struct cl_task task = CL_NO_TASK;
	int ret;

	cl_task_adopt(&task, pidfd, told->process, told->began);
	if (told->ended)
		cl_task_close(&task);
	ret = cl_ended_add(engine, pid, space, &task, &restored);
	if (ret < 0) {
		cl_task_close(&task);
		return ret;
	}
	restored->area = area;
	restored->has_area = true;
	if (told->ended)
		cl_ended_again(engine, restored, told->gone_pages, &told->end);
	else if (told->gone_pages || !space)
		cl_ended_gone_again(engine, restored, told->gone_pages ? told->gone_pages : missing);
	return 0;
}

/* One area, and the userfaultfd that belongs to it: -1, or owned from now on. 0 or -errno. */
static int load_area(struct cl_engine *engine, uint64_t area, int32_t pid, uint64_t key, int owned_uffd,
		     struct cl_handed_over *over)
{
	CL_CLEANUP_FD int uffd = owned_uffd;
	struct cl_image *image = cl_image_find(engine->images, (uint64_t)pid);
	struct cl_space *space = NULL;
	struct cl_resume_task told;
	uint64_t missing;
	int ret = image ? cl_resume_state_task(&engine->resume_state, area, image, &told, &missing) : -ESTALE;

	if (ret == 0 && uffd >= 0 && !told.ended) {
		ret = cl_resume_state_load(&engine->resume_state, area, image, uffd, &space);
		if (ret < 0)
			return ret;
		uffd = -1;
		space->reading = true; /* until its events are read, which is before any copy */
		engine->stats.address_spaces++;
		ret = cl_engine_watch(engine, space);
	} else if (ret == 0 && uffd >= 0) {
		/* The daemon was killed when it was about to do this. */
		close(cl_steal_fd(&uffd));
		cl_uffd_guardian_release(&engine->guardian, key);
	}
	if (ret == 0 && told.is_task && !space && missing && !told.gone_pages)
		cl_resume_state_gone_before(&engine->resume_state, area, missing); /* its bitmap is given up */
	if (ret == 0 && told.is_task && (told.ended || space || missing || told.gone_pages))
		ret = load_task(engine, pid, space, area, &told, missing,
				cl_held_take(over->tasks, over->nr_tasks, (uint64_t)told.process));
	return ret;
}

/* Make the spaces that are in the resume state and were handed over; and learn of the restored tasks that are gone. */
static int load(struct cl_engine *engine, struct cl_handed_over *over, struct cl_error *error)
{
	uint64_t area = 0, key;
	int32_t pid;
	int ret;

	for (; (ret = cl_resume_state_next(&engine->resume_state, &area, &key, &pid)) > 0; area++) {
		ret = load_area(engine, area, pid, key, cl_held_take(over->uffds, over->nr_uffds, key), over);
		if (ret < 0)
			break;
	}
	if (ret == -ESTALE)
		return refuse(error, ret, "these are not the images that the daemon served");
	if (ret < 0)
		return refuse(error, ret, ret == -EBADMSG ? "the daemon's resume state makes no sense" : strerror(-ret));
	cl_chunk_pool_free_unclaimed(&engine->chunks);
	return 0;
}

static int replay(struct cl_engine *engine, struct cl_handed_over *over, struct cl_error *error)
{
	struct cl_image *image;
	struct cl_space *space;
	int ret;

	for (image = engine->images; image; image = image->next) {
		for (space = image->spaces; space; space = space->next) {
			ret = space->mirror.entry ? cl_engine_replay(engine, space, over->uffds, over->nr_uffds) : 0;
			if (ret < 0)
				return refuse(error, ret, engine->failure.code ? engine->failure.text : strerror(-ret));
		}
	}
	return 0;
}

int cl_engine_take_over(struct cl_engine *engine, int guardian_fd, struct cl_error *error)
{
	struct cl_image *image;
	struct cl_handed_over over;
	int ret;

	ret = cl_uffd_guardian_take_over(&engine->guardian, &engine->log, guardian_fd, &over);
	if (ret < 0)
		return refuse(error, ret,
			      ret == -EPERM  ? "its guardian is another user's" :
			      ret == -EPROTO ? "what is held can't be handed over" :
					       strerror(-ret));
	ret = cl_resume_state_open(&engine->resume_state, cl_steal_fd(&over.state_fd), &engine->chunks);
	engine->client = engine->resume_state.client;
	if (ret < 0)
		(void)refuse(error, ret,
			     ret == -EBADMSG ? "the killed daemon was of another version of criu-lazy" : strerror(-ret));
	if (ret == 0)
		ret = load(engine, &over, error);
	if (ret == 0)
		ret = replay(engine, &over, error);
	if (cl_handed_over_free(&over) && ret == 0)
		ret = refuse(error, -EBADMSG, "an address space is held of which the daemon's resume state says nothing");
	if (ret < 0) {
		cl_uffd_guardian_leave(&engine->guardian);
		return ret;
	}
	for (image = engine->images; image; image = image->next)
		cl_image_only_missing(image);
	engine->resumed = true;
	cl_uffd_guardian_taken(&engine->guardian);
	cl_log(&engine->log, CL_LOG_INFO, "took over %llu address spaces: %llu pages missing",
	       (unsigned long long)engine->stats.address_spaces, (unsigned long long)cl_engine_remaining_pages(engine));
	return 0;
}
