/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/advice.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/vec.h"
#include "destination/ended.h"
#include "destination/engine.h"
#include "destination/uffd.h"

void cl_engine_watch_madvise(struct cl_engine *engine)
{
	int ret = cl_madvise_watch_start(&engine->madvise);

	if (ret == 0)
		ret = cl_madvise_watch_poll(&engine->madvise, engine->epoll_fd, &engine->madvise);
	if (ret < 0)
		cl_madvise_watch_stop(&engine->madvise);

	/* What was advised while no daemon watched is not known. */
	engine->fork_advice_changed = ret < 0 || engine->resumed;
	if (ret < 0)
		cl_log(&engine->log, CL_LOG_INFO,
		       "what the tasks do by madvise(2) can't be watched: %s; guard regions that "
		       "they put on missing pages and take off again are not seen",
		       strerror(-ret));
}

static const struct cl_restored *restored_as(const struct cl_engine *engine, pid_t process)
{
	const struct cl_restored *restored = engine->restored_tasks;

	while (restored && restored->task.pid != process)
		restored = restored->next;
	return restored;
}

static bool is_restored(const void *engine, pid_t process)
{
	return restored_as(engine, process);
}

/* The restored task that the image is of; NULL if it is gone. */
static const struct cl_restored *restored_of(const struct cl_engine *engine, const struct cl_image *image)
{
	const struct cl_restored *restored = engine->restored_tasks;

	while (restored && (restored->pid != image->pid || !restored->task.pid))
		restored = restored->next;
	return restored;
}

/* A forked child put guards on memory, it isn't known which: what each of them misses there is neither old data nor zero. */
static void doubt_guards(struct cl_engine *engine, struct cl_image *image, const struct cl_madvise_call *call)
{
	struct cl_space *space;
	uint64_t pages = 0;

	for (space = image->spaces; space; space = space->next)
		if (!space->retired && !space->restored && space->nr_missing && cl_uffd_is_alive(space->uffd))
			pages += cl_space_doubt(space, call->start, call->end);
	if (pages)
		cl_log(&engine->log, CL_LOG_WARN,
		       "task %d: one of its children (process %d) put guards on memory, and it can't be "
		       "told which: %llu pages that several of them miss raise SIGBUS when they are touched",
		       image->pid, call->process, (unsigned long long)pages);
}

/* The only forked child's space of this image that has pages to come; NULL if there are none, or several. */
static struct cl_space *only_child(struct cl_image *image)
{
	struct cl_space *space, *found = NULL;

	for (space = image->spaces; space; space = space->next) {
		if (space->retired || space->restored || !space->nr_missing || !cl_uffd_is_alive(space->uffd))
			continue;
		if (found)
			return NULL;
		found = space;
	}
	return found;
}

/* Guards come to [start, end): what is there is gone, and zeroes are what is left when they go. */
static void follow_guards(struct cl_engine *engine, struct cl_space *space, const struct cl_madvise_call *call)
{
	uint64_t missing = space->nr_missing, end;

	/* The kernel goes from mapping to mapping, and stops at a locked one. */
	end = cl_process_locked_from(call->process, call->start, call->end);
	/* A fork that was made before may have its event on its way. */
	if (cl_uffd_is_changing(space->uffd))
		cl_space_remember_guards(space, call->start, end, call->thread);
	cl_space_remove(space, call->start, end);
	if (space->nr_missing == missing)
		return;
	space->guarded += missing - space->nr_missing;
	engine->stats.dropped_pages += missing - space->nr_missing;
	cl_log(&engine->log, CL_LOG_DEBUG, "task %d: guards on %llu missing pages from 0x%llx on", space->pid,
	       (unsigned long long)(missing - space->nr_missing), (unsigned long long)call->start);
	cl_engine_forget_dropped_waiters(space);
	(void)cl_uffd_wake(space->uffd, call->start, call->end - call->start);
	cl_engine_wake(engine); /* it may be complete; or it was much, and is to be checked: cl_image_check_todo() */
}

/* Whether one of the image's spaces has to do with the call: the restored task's, or its forked children's. */
static bool is_of_interest(const struct cl_image *image, const struct cl_madvise_call *call, bool of_children)
{
	const struct cl_space *space;

	for (space = image->spaces; space; space = space->next)
		if (!space->retired && !space->restored == of_children && cl_space_misses(space, call->start, call->end))
			return true;
	return false;
}

/*
 * Whether the caller's guards are on memory that it had at the dump, not on something that it has there since: it may have
 * unmapped that, or moved it away, which its events are going to tell.
 */
static bool is_on_old_memory(const struct cl_madvise_call *call, const struct cl_space *space)
{
	if (space && cl_uffd_has(space->uffd, call->start, CL_PAGE_SIZE) > 0)
		return true;
	return cl_process_has_registered(call->process, call->start, call->end);
}

/* Guards are taken off: a child that is forked from now on has none there, and zeroes. */
static void forget_guards(const struct cl_engine *engine, const struct cl_madvise_call *call)
{
	struct cl_image *image;
	struct cl_space *space;

	for (image = engine->images; image; image = image->next)
		for (space = image->spaces; space; space = space->next)
			cl_undo_log_remove(&space->guards, image, call->start, call->end);
}

/* When all events that were read are applied, or all calls that were taken with it are followed. */
static void follow_later(struct cl_engine *engine, const struct cl_madvise_call *call)
{
	if (cl_vec_reserve(&engine->later, &engine->max_later, engine->nr_later + 1, CL_VEC_NO_LIMIT) < 0) {
		cl_engine_fail(engine, -ENOMEM, "following guard regions: %s", strerror(ENOMEM));
		return;
	}
	engine->later[engine->nr_later++] = *call;
}

/* False: it is none of our tasks'. */
static bool follow(struct cl_engine *engine, const struct cl_madvise_call *call)
{
	pid_t ancestor = cl_process_ancestor(call->process, is_restored, engine);
	const struct cl_restored *restored = ancestor ? restored_as(engine, ancestor) : NULL;
	struct cl_image *image;
	struct cl_space *space;

	if (!restored)
		return false;
	if (call->kind == CL_FOR_FORKS) {
		engine->fork_advice_changed = true;
		return true;
	}
	/* Guards are taken off last: one CPU's calls are taken before another's, whichever came first. */
	if (engine->reading || call->kind == CL_NO_GUARDS) {
		follow_later(engine, call);
		return true;
	}
	image = cl_image_find(engine->images, (uint64_t)restored->pid);
	space = ancestor == call->process ? restored->space : NULL;
	if (!is_of_interest(image, call, ancestor != call->process) || !is_on_old_memory(call, space))
		return true;
	if (ancestor != call->process)
		space = only_child(image);
	if (space && !space->retired)
		follow_guards(engine, space, call);
	else if (!space && ancestor != call->process)
		doubt_guards(engine, image, call);
	return true;
}

void cl_engine_follow_madvise(struct cl_engine *engine)
{
	struct cl_madvise_call call;
	bool lost = false;
	pid_t stranger = 0; /* looked up once, as it may call a lot: any user of this host may */
	size_t i;

	for (i = 0; i < engine->nr_later && !engine->reading; i++)
		if (engine->later[i].kind != CL_NO_GUARDS)
			(void)follow(engine, &engine->later[i]);
	cl_madvise_watch_begin(&engine->madvise);
	while (cl_madvise_watch_take(&engine->madvise, &call, &lost))
		if (call.process != stranger && !follow(engine, &call))
			stranger = call.process;
	for (i = 0; i < engine->nr_later && !engine->reading; i++)
		if (engine->later[i].kind == CL_NO_GUARDS)
			forget_guards(engine, &engine->later[i]);
	if (!engine->reading)
		engine->nr_later = 0;
	if (!lost)
		return;
	forget_guards(engine, &(struct cl_madvise_call){ .start = 0, .end = UINT64_MAX });
	engine->fork_advice_changed = true;
	if (!engine->lost_madvise)
		cl_log(&engine->log, CL_LOG_WARN, "too many guard regions at once: of some it is not known where");
	engine->lost_madvise = true;
}

void cl_engine_look_at_fork_advice(struct cl_engine *engine, struct cl_space *space, bool forked)
{
	const struct cl_restored *restored;
	pid_t process = 0;
	bool is_needed;

	pthread_mutex_lock(&engine->lock);
	cl_engine_follow_madvise(engine);
	is_needed = engine->fork_advice_changed;
	restored = restored_of(engine, space->image);
	if (is_needed && restored)
		process = restored->task.pid;
	pthread_mutex_unlock(&engine->lock);
	if (!process || (!forked && !cl_uffd_is_changing(space->uffd)))
		return;
	if (space->restored)
		process = forked || cl_process_is_forking(process) ? process : 0;
	else
		process = cl_process_forking_below(process);
	if (process && cl_fork_advice_read(&space->advice, process) < 0)
		cl_log(&engine->log, CL_LOG_WARN, "task %d: what its fork leaves out is not known", space->pid);
}

void cl_engine_forget_own_guards(struct cl_engine *engine, struct cl_space *space)
{
	struct cl_region was;
	size_t i;

	for (i = 0; i < space->guards.nr; i++) {
		was = space->guards.at[i].was;
		if (!cl_thread_is_forking(space->guards.at[i].thread))
			continue;
		pthread_mutex_lock(&engine->lock);
		cl_undo_log_remove(&space->guards, space->image, was.start, was.end);
		pthread_mutex_unlock(&engine->lock);
	}
}
