/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/ended.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "destination/engine.h"
#include "destination/page_source.h"
#include "destination/uffd.h"

enum {
	DYING_LOOK_MS = 5,      /* between the end of its memory and the end of the process */
	SHARED_LOOK_MS = 200,   /* a child of vfork() goes on with the memory of a process that has ended */
	DYING_MAX_US = 5000000, /* as long as a tracer holds on to a thread it doesn't end */
};

int cl_ended_add(struct cl_engine *engine, int32_t pid, struct cl_space *space, const struct cl_task *task,
		 struct cl_restored **restored_out)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLONESHOT, .data.ptr = &engine->restored_tasks };
	struct cl_restored *restored = calloc(1, sizeof(*restored));

	if (!restored)
		return -ENOMEM;
	restored->pid = pid;
	restored->space = space;
	restored->task = *task;
	restored->next = engine->restored_tasks;
	engine->restored_tasks = restored;
	if (space)
		space->restored = restored;
	if (task->pidfd >= 0 && epoll_ctl(engine->epoll_fd, EPOLL_CTL_ADD, task->pidfd, &event) < 0) {
		int error = errno;

		cl_task_close(&restored->task);
		cl_log(&engine->log, CL_LOG_WARN, "task %d: its process can't be watched: %s", pid, strerror(error));
	}
	*restored_out = restored;
	return 0;
}

void cl_ended_gone(struct cl_engine *engine, struct cl_space *space)
{
	struct cl_restored *restored = space->restored;
	uint64_t pages = space->nr_missing;

	if (!pages)
		return;
	cl_log(&engine->log, CL_LOG_INFO, "task %d%s: its address space is gone with %llu pages missing", space->pid,
	       restored ? "" : "'s child", (unsigned long long)pages);
	if (restored) {
		restored->gone_pages = pages;
		restored->gone_us = cl_now_us();
		cl_resume_state_gone(space, pages); /* before they are dropped, and not missing there either */
	} else {
		engine->stats.dropped_pages += pages;
	}
	cl_space_drop_all(space);
	space->waiters.nr = 0;
	engine->look_at_ends = true;
	cl_engine_wake(engine);
}

bool cl_ended_may_let_go(const struct cl_space *space)
{
	return !space->restored || space->restored->settled || !space->restored->gone_us;
}

void cl_ended_let_go(struct cl_space *space)
{
	if (!space->restored)
		return;
	space->restored->space = NULL;
	space->restored->complete = !space->restored->gone_us;
}

void cl_ended_again(struct cl_engine *engine, struct cl_restored *restored, uint64_t pages, const struct cl_end *end)
{
	restored->settled = true;
	restored->ended = true;
	restored->gone_pages = pages;
	restored->end = *end;
	if (end->how == CL_END_EXIT)
		engine->stats.dropped_pages += pages;
	else
		engine->stats.lost_pages += pages;
}

void cl_ended_gone_again(struct cl_engine *engine, struct cl_restored *restored, uint64_t pages)
{
	if (restored->space)
		cl_space_drop_all(restored->space);
	restored->gone_pages = pages;
	restored->gone_us = cl_now_us();
	engine->look_at_ends = true;
}

/* It is known what became of it. Lock held. */
static void settle(struct cl_engine *engine, struct cl_restored *restored, struct cl_end end)
{
	char how[sizeof(((struct cl_ended *)0)->how)];

	cl_ended_again(engine, restored, restored->gone_pages, &end);
	cl_end_describe(end, how, sizeof(how));
	cl_log(&engine->log, end.how == CL_END_EXIT ? CL_LOG_WARN : CL_LOG_ERROR,
	       "the restored task %d ended (%s) with %llu pages missing", restored->pid, how,
	       (unsigned long long)restored->gone_pages);
	if (restored->has_area)
		cl_resume_state_ended(&engine->resume_state, restored->area, &end);
	cl_engine_wake(engine);
}

/* Its address space is gone. In how many ms to look again, or -1. Lock held. */
static int look_at_gone(struct cl_engine *engine, struct cl_restored *restored)
{
	static const struct cl_end unknown = { CL_END_UNKNOWN, 0 };

	if (restored->task.pidfd < 0) {
		settle(engine, restored, unknown);
	} else if (cl_task_has_ended(&restored->task)) {
		settle(engine, restored, cl_task_how(&restored->task));
	} else if (cl_task_has_memory(&restored->task)) {
		restored->settled = true;
		engine->stats.dropped_pages += restored->gone_pages;
		cl_log(&engine->log, CL_LOG_INFO, "task %d called execve: its %llu missing pages are not needed any more",
		       restored->pid, (unsigned long long)restored->gone_pages);
	} else if (cl_now_us() - restored->gone_us > DYING_MAX_US) {
		settle(engine, restored, unknown);
	} else {
		return DYING_LOOK_MS;
	}
	return -1;
}

/* The same, of one whose address space is there as far as is known. Lock held. */
static int look_at_living(struct cl_engine *engine, struct cl_restored *restored)
{
	if (!restored->space || !restored->space->nr_missing || !cl_task_has_ended(&restored->task))
		return -1;
	if (cl_uffd_is_alive(restored->space->uffd))
		return SHARED_LOOK_MS;
	cl_ended_gone(engine, restored->space);
	return look_at_gone(engine, restored);
}

/* The same, of one all of whose pages are there. Lock held. */
static void look_at_complete(struct cl_engine *engine, struct cl_restored *restored)
{
	char how[sizeof(((struct cl_ended *)0)->how)];

	if (restored->task.pidfd >= 0 && !cl_task_has_ended(&restored->task))
		return;
	restored->settled = true;
	if (restored->task.pidfd < 0)
		return;
	restored->end = cl_task_how(&restored->task);
	if (restored->end.how == CL_END_EXIT)
		return;
	restored->ended = true;
	cl_end_describe(restored->end, how, sizeof(how));
	cl_log(&engine->log, CL_LOG_WARN, "the restored task %d ended (%s) after all of its pages had arrived",
	       restored->pid, how);
}

int cl_ended_look(struct cl_engine *engine)
{
	struct cl_restored *restored;
	int again_ms = -1, ms;

	pthread_mutex_lock(&engine->lock);
	/* Before that, criu restore fails by itself. */
	restored = engine->look_at_ends && engine->restored ? engine->restored_tasks : NULL;
	for (; restored; restored = restored->next) {
		if (restored->settled)
			continue;
		ms = -1;
		if (restored->complete)
			look_at_complete(engine, restored);
		else
			ms = restored->gone_us ? look_at_gone(engine, restored) : look_at_living(engine, restored);
		if (ms >= 0 && (again_ms < 0 || ms < again_ms))
			again_ms = ms;
	}
	engine->look_at_ends = again_ms >= 0 || !engine->restored;
	pthread_mutex_unlock(&engine->lock);
	return again_ms;
}

/* Of one that isn't watched only the end of its address space tells. */
static bool may_live(const struct cl_restored *restored)
{
	if (restored->task.pidfd >= 0)
		return !cl_task_has_ended(&restored->task);
	return !restored->gone_us && !restored->ended;
}

bool cl_ended_any_lives(const struct cl_engine *engine)
{
	const struct cl_restored *restored;

	for (restored = engine->restored_tasks; restored; restored = restored->next)
		if (may_live(restored))
			return true;
	return false;
}

static bool has_lost(const struct cl_restored *restored)
{
	return restored->ended && restored->gone_pages && restored->end.how != CL_END_EXIT;
}

void cl_ended_tell_source(struct cl_engine *engine)
{
	const struct cl_restored *restored;

	for (restored = engine->restored_tasks; restored; restored = restored->next)
		if (has_lost(restored))
			engine->source->tell_lost(engine, restored->pid, restored->gone_pages,
						  restored->end.how == CL_END_SIGNAL ? restored->end.code : 0);
}

void cl_ended_describe(const struct cl_engine *engine, char *text, size_t bytes)
{
	const struct cl_restored *restored, *first = NULL;
	unsigned int nr = 0;
	char how[sizeof(((struct cl_ended *)0)->how)], others[32] = "";

	for (restored = engine->restored_tasks; restored; restored = restored->next)
		if (has_lost(restored)) {
			first = restored;
			nr++;
		}
	if (!first)
		return;
	cl_end_describe(first->end, how, sizeof(how));
	if (nr > 1)
		snprintf(others, sizeof(others), " (and %u more)", nr - 1);
	snprintf(text, bytes, "the restored task %d %s%s%s with %llu pages missing", first->pid,
		 first->end.how == CL_END_SIGNAL ? "was " : "ended, it is not known how,",
		 first->end.how == CL_END_SIGNAL ? how : "", others, (unsigned long long)engine->stats.lost_pages);
}

int cl_engine_ended(struct cl_engine *engine, uint64_t index, struct cl_ended *out)
{
	const struct cl_restored *restored;

	pthread_mutex_lock(&engine->lock);
	for (restored = engine->restored_tasks; restored; restored = restored->next)
		if (restored->ended && index-- == 0)
			break;
	if (restored) {
		*out = (struct cl_ended){ .pid = restored->pid, .missing_pages = restored->gone_pages };
		cl_end_describe(restored->end, out->how, sizeof(out->how));
	}
	pthread_mutex_unlock(&engine->lock);
	return restored != NULL;
}

void cl_ended_free(struct cl_engine *engine)
{
	struct cl_restored *restored, *next;

	for (restored = engine->restored_tasks; restored; restored = next) {
		next = restored->next;
		cl_task_close(&restored->task);
		free(restored);
	}
	engine->restored_tasks = NULL;
}

void cl_engine_enter(struct cl_engine *engine, struct cl_space *space)
{
	struct cl_restored *restored = space->restored;
	uint64_t area;
	int ret;

	if (engine->resume_state.fd < 0)
		return;
	pthread_mutex_unlock(&engine->lock);
	ret = cl_resume_state_prepare(&engine->resume_state, space, restored ? &restored->task : NULL, &area);
	pthread_mutex_lock(&engine->lock);
	if (ret < 0) {
		cl_engine_warn_no_resume_state(engine, ret);
		return;
	}
	cl_resume_state_enter(space);
	if (restored) {
		restored->area = area;
		restored->has_area = true;
	}
}
