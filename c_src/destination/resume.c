/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resume: an engine goes on where a killed daemon was, with what its guardian kept (uffd_guardian.h, resume_state.h).
 * Whatever is doubtful is refused before anything is touched that another successor would need.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "destination/ended.h"
#include "destination/engine.h"
#include "destination/uffd.h"
#include "destination/uffd_events.h"

static int refuse(struct cl_error *error, int code, const char *why)
{
	return cl_error_set(error, code, "can't take over: %s", why);
}

/* A restored task as the resume state has it; `missing` pages in its space, which is NULL if it is gone. 0 or -ENOMEM. */
static int load_task(struct cl_engine *engine, int32_t pid, struct cl_space *space, uint64_t area,
		     const struct cl_resume_task *told, uint64_t missing)
{
	struct cl_restored *restored;
	struct cl_task task = CL_NO_TASK;
	int ret;

	if (told->ended)
		task.pid = told->process;
	else
		cl_task_reopen(&task, told->process, told->began);
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

/* One area, and the descriptor that belongs to it, or NULL. 0 or -errno. */
static int load_area(struct cl_engine *engine, uint64_t area, int32_t pid, struct cl_held *held)
{
	struct cl_image *image = cl_image_find(engine->images, (uint64_t)pid);
	struct cl_space *space = NULL;
	struct cl_resume_task told;
	uint64_t missing;
	int ret = image ? cl_resume_state_task(&engine->resume_state, area, image, &told, &missing) : -ESTALE;

	if (ret == 0 && held && !told.ended) {
		ret = cl_resume_state_load(&engine->resume_state, area, image, held->uffd, &space);
		if (ret < 0)
			return ret;
		held->uffd = -1;
		space->reading = true; /* until its events are read, which is before any copy */
		engine->stats.address_spaces++;
		ret = cl_engine_watch(engine, space);
	} else if (ret == 0 && held) {
		/* The daemon was killed when it was about to do this. */
		close(held->uffd);
		held->uffd = -1;
		cl_uffd_guardian_release(&engine->guardian, held->key);
	}
	if (ret == 0 && told.is_task && (told.ended || space || missing || told.gone_pages))
		ret = load_task(engine, pid, space, area, &told, missing);
	return ret;
}

/* Make the spaces that are in the resume state and were handed over; and learn of the restored tasks that are gone. */
static int load(struct cl_engine *engine, struct cl_held *held, size_t nr_held, struct cl_error *error)
{
	uint64_t area = 0, key;
	int32_t pid;
	size_t h;
	int ret;

	for (; (ret = cl_resume_state_next(&engine->resume_state, &area, &key, &pid)) > 0; area++) {
		for (h = 0; h < nr_held && (held[h].key != key || held[h].uffd < 0); h++)
			;
		ret = load_area(engine, area, pid, h < nr_held ? &held[h] : NULL);
		if (ret < 0)
			break;
	}
	if (ret == -ESTALE)
		return refuse(error, ret, "these are not the images that the daemon served");
	if (ret < 0)
		return refuse(error, ret, ret == -EBADMSG ? "the daemon's resume state makes no sense" : strerror(-ret));
	return 0;
}

static int replay(struct cl_engine *engine, struct cl_held *held, size_t nr_held, struct cl_error *error)
{
	struct cl_image *image;
	struct cl_space *space;
	int ret;

	for (image = engine->images; image; image = image->next) {
		for (space = image->spaces; space; space = space->next) {
			ret = space->mirror.entry ? cl_engine_replay(engine, space, held, nr_held) : 0;
			if (ret < 0)
				return refuse(error, ret, engine->failure.code ? engine->failure.text : strerror(-ret));
		}
	}
	return 0;
}

int cl_engine_take_over(struct cl_engine *engine, int guardian_fd, struct cl_error *error)
{
	struct cl_image *image;
	struct cl_held *held;
	size_t nr_held, unexplained = 0;
	int state_fd, ret;

	ret = cl_uffd_guardian_take_over(&engine->guardian, &engine->log, guardian_fd, &held, &nr_held, &state_fd);
	if (ret < 0)
		return refuse(error, ret,
			      ret == -EPERM  ? "its guardian is another user's" :
			      ret == -EPROTO ? "what is held can't be handed over" :
					       strerror(-ret));
	ret = cl_resume_state_open(&engine->resume_state, state_fd);
	engine->client = engine->resume_state.client;
	if (ret < 0)
		(void)refuse(error, ret,
			     ret == -EBADMSG ? "the killed daemon was of another version of criu-lazy" : strerror(-ret));
	if (ret == 0)
		ret = load(engine, held, nr_held, error);
	if (ret == 0)
		ret = replay(engine, held, nr_held, error);
	while (nr_held) {
		if (held[--nr_held].uffd >= 0) {
			close(held[nr_held].uffd);
			unexplained++;
		}
	}
	free(held);
	if (ret == 0 && unexplained)
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
