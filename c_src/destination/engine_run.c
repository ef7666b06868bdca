/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_run: the life of an engine, from the images to the end: what criu_lazy.h promises of cl_engine_new() to
 * cl_engine_free(), and the events thread's loop.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/thread.h"
#include "destination/advice.h"
#include "destination/ended.h"
#include "destination/engine.h"
#include "destination/page_source.h"
#include "destination/poison.h"
#include "destination/precopy_store.h"
#include "destination/requests.h"
#include "destination/restore_socket.h"
#include "destination/session.h"
#include "destination/uffd_events.h"
#include "destination/workers.h"
#include "images/pages_local.h"

enum {
	DEFAULT_IN_FLIGHT = 16 << 20,
	EPOLL_EVENTS = 64,
	UNSETTLED_POLL_MS = 1,
	CHECK_TODO_US = 200,
};

/* ---- life ---- */

/* A name for the page server, which nobody else has. */
static bool new_client(uint64_t *client)
{
	if (getrandom(client, sizeof(*client), 0) != sizeof(*client))
		return false;
	*client &= CL_PUSH_MAX_CLIENT;
	if (*client <= CL_PUSH_UNNAMED)
		*client += 2;
	return true;
}

struct cl_engine *cl_engine_new(const struct cl_config *config, struct cl_error *error)
{
	CL_CLEANUP_FREE struct cl_engine *engine = calloc(1, sizeof(*engine));
	CL_CLEANUP_FD int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	CL_CLEANUP_FD int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	pthread_mutexattr_t spinning;
	int ret = 0;

	if (wake_fd < 0 || epoll_fd < 0)
		ret = cl_error_set(error, -errno, "no file descriptor for the engine: %s", strerror(errno));
	if (!engine)
		ret = cl_error_set(error, -ENOMEM, "no memory for the engine");
	else if (!new_client(&engine->client))
		ret = cl_error_set(error, -EIO, "no random number");
	if (sysconf(_SC_PAGESIZE) != CL_PAGE_SIZE)
		ret = cl_error_set(error, -ENOTSUP, "this kernel has pages of %ld bytes, and criu-lazy serves %d only",
				   sysconf(_SC_PAGESIZE), CL_PAGE_SIZE);
	if (ret < 0)
		return NULL;
	engine->config = *config;
	engine->log = (struct cl_log){
		.fd = config->log_fd, .level = config->log_level, .start_us = config->log_start_us, .from = "uffd"
	};
	if (!config->log_start_us)
		engine->log.start_us = cl_now_us();
	engine->restore_fd = -1;
	engine->remote.fd = -1;
	engine->source = &cl_requests_source;
	engine->guardian = CL_NO_UFFD_GUARDIAN;
	engine->resume_state = CL_NO_RESUME_STATE;
	engine->chunks = engine->todo_chunks = CL_CHUNKS_IN_MEMORY;
	engine->wake_fd = cl_steal_fd(&wake_fd);
	engine->epoll_fd = cl_steal_fd(&epoll_fd);
	/* It is held for a microsecond or two: sleeping until then costs both threads more. */
	pthread_mutexattr_init(&spinning);
#ifdef __GLIBC__ /* musl has no such kind */
	pthread_mutexattr_settype(&spinning, PTHREAD_MUTEX_ADAPTIVE_NP);
#endif
	pthread_mutex_init(&engine->lock, &spinning);
	pthread_mutexattr_destroy(&spinning);
	cl_cond_init(&engine->work);
	cl_cond_init(&engine->stored);
	cl_cond_init(&engine->gate);
	return cl_steal(&engine);
}

void cl_engine_free(struct cl_engine *engine)
{
	struct cl_image *image, *next;

	if (!engine)
		return;
	for (image = engine->images; image; image = next) {
		next = image->next;
		cl_pages_local_close(image->pages);
		free(image->pages);
		cl_image_free_spaces(image);
		cl_image_free(image);
	}
	cl_chunk_pool_free(&engine->chunks);
	cl_chunk_pool_free(&engine->todo_chunks);
	cl_uffd_guardian_leave(&engine->guardian); /* a successor that never ran */
	cl_tls_free(engine->remote.tls);
	cl_tls_credentials_free(engine->tls);
	if (engine->remote.fd >= 0)
		close(engine->remote.fd);
	cl_schedule_free(&engine->schedule);
	cl_ended_free(engine);
	cl_madvise_watch_stop(&engine->madvise);
	free(engine->later);
	if (engine->resume_state.fd >= 0)
		close(engine->resume_state.fd);
	cl_precopy_store_free(engine->store);
	engine->source->free(engine);
	pthread_cond_destroy(&engine->gate);
	pthread_cond_destroy(&engine->work);
	pthread_cond_destroy(&engine->stored);
	pthread_mutex_destroy(&engine->lock);
	close(engine->epoll_fd);
	close(engine->wake_fd);
	free(engine);
}

/* ---- before the run ---- */

int cl_engine_add_task(struct cl_engine *engine, int32_t pid, const struct cl_vma *vmas, size_t nr_vmas,
		       struct cl_error *error)
{
	const struct cl_image_files files = { .images_fd = engine->config.images_fd,
					      .pid = pid,
					      .vmas = vmas,
					      .nr_vmas = nr_vmas,
					      .punch = engine->config.auto_dedup,
					      .todo_chunks = &engine->todo_chunks };
	struct cl_image **end = &engine->images;
	struct cl_pages_local *pages;
	struct cl_image *image;
	int ret;

	if (cl_image_find(engine->images, (uint64_t)pid))
		return cl_error_set(error, -EEXIST, "task %d is announced twice", pid);
	pages = malloc(sizeof(*pages));
	if (!pages)
		return cl_error_set(error, -ENOMEM, "task %d: no memory for its images", pid);
	ret = cl_image_load(&files, &image, pages, error);
	if (ret < 0) {
		free(pages);
		return ret;
	}
	image->pages = pages;
	image->chunks = &engine->chunks;
	image->before = engine->stats.total_pages;
	if (pages->wire_version > engine->wire_version)
		engine->wire_version = pages->wire_version;
	while (*end)
		end = &(*end)->next;
	*end = image;
	engine->stats.total_pages += image->nr_pages;
	cl_log(&engine->log, CL_LOG_INFO, "task %d: %llu lazy pages in %zu ranges, %llu of them local", pid,
	       (unsigned long long)image->nr_pages, image->nr_extents, (unsigned long long)image->nr_todo[CL_LOCAL]);
	return 0;
}

int cl_engine_wire_version(const struct cl_engine *engine)
{
	return engine->wire_version;
}

/* Settle what add_task and set_remote left open. 0 or error->code. */
static int prepare(struct cl_engine *engine, struct cl_error *error)
{
	uint64_t max_in_flight = engine->config.max_in_flight_bytes;
	struct cl_image *image;

	for (image = engine->images; image; image = image->next)
		if (image->nr_todo[CL_REMOTE] && !engine->has_remote)
			return cl_error_set(
				error, -ENOTCONN,
				"task %d: its pages are at the source, and no page server was named (--page-server)",
				image->pid);
	cl_session_know_version(engine);
	cl_flow_init(&engine->flow, max_in_flight ? max_in_flight : DEFAULT_IN_FLIGHT, cl_now_us());
	if (engine->has_remote)
		cl_flow_round_trip(&engine->flow, cl_remote_min_rtt_us(&engine->remote));
	engine->schedule.images = engine->images;
	return 0;
}

/* Before there are threads. Where there is none, only a kill is worse: no reason not to serve. */
static void start_guardian(struct cl_engine *engine)
{
	int ret;

	if (!engine->stats.total_pages || engine->resumed)
		return;
	ret = cl_resume_state_new(&engine->resume_state, engine->client, &engine->chunks);
	if (ret < 0)
		cl_engine_warn_no_resume_state(engine, ret);
	ret = cl_uffd_guardian_start(&engine->guardian, &engine->log, engine->restore_fd, engine->resume_state.fd);
	if (ret < 0)
		cl_log(&engine->log, CL_LOG_WARN,
		       "no process can be started that guards the tasks should this one be killed: "
		       "%s",
		       strerror(-ret));
}

/* ---- the events thread ---- */

/*
 * The page server's end of the connection was closed while nothing was asked: as long as criu restore is at it, the
 * restore must fail, and not its tasks afterwards.
 */
static void handle_hang_up(struct cl_engine *engine)
{
	pthread_mutex_lock(&engine->lock);
	engine->remote_hung_up = !engine->restored;
	pthread_cond_signal(&engine->work);
	pthread_mutex_unlock(&engine->lock);
}

/* A restored task's process has ended. */
static void handle_end(struct cl_engine *engine)
{
	pthread_mutex_lock(&engine->lock);
	engine->look_at_ends = true;
	pthread_mutex_unlock(&engine->lock);
}

/* The tasks have said a lot. */
static void handle_madvise(struct cl_engine *engine)
{
	pthread_mutex_lock(&engine->lock);
	cl_engine_follow_madvise(engine);
	pthread_mutex_unlock(&engine->lock);
}

/* Take pages off the todo lists that nobody needs any more, for a moment. False: nothing of that is left. Lock held. */
static bool check_todo(struct cl_engine *engine)
{
	uint64_t until_us = cl_now_us() + CHECK_TODO_US;
	struct cl_image *image;

	for (image = engine->images; image; image = image->next)
		while (cl_image_check_todo(image))
			if (cl_now_us() >= until_us)
				return true;
	return false;
}

/* Read the events of the spaces whose gate stayed closed. True if one's still is. */
static bool read_unsettled(struct cl_engine *engine)
{
	struct cl_image *image;
	struct cl_space *space;
	bool unsettled = false;

	for (image = engine->images; image; image = image->next)
		for (space = image->spaces; space; space = space->next)
			if (space->reading && !space->retired)
				unsettled |= !cl_engine_read_events(engine, space);
	return unsettled;
}

/* What of their unmaps failed. True if that isn't known yet of all. */
static bool look_at_unmaps(struct cl_engine *engine)
{
	struct cl_image *image;
	struct cl_space *space;
	bool again = false;

	for (image = engine->images; image; image = image->next)
		for (space = image->spaces; space; space = space->next)
			again |= cl_engine_look_at_unmaps(engine, space);
	return again;
}

static void event_loop(struct cl_engine *engine)
{
	struct epoll_event events[EPOLL_EVENTS];
	bool done = false, unchecked = false, unsettled = engine->resumed; /* as it may be left */
	int look_ms = -1, n, i;
	uint64_t count;

	while (!done) {
		n = epoll_wait(engine->epoll_fd, events, EPOLL_EVENTS, unsettled || unchecked ? UNSETTLED_POLL_MS : look_ms);
		if (n < 0 && errno != EINTR) {
			int error = errno;

			pthread_mutex_lock(&engine->lock);
			cl_engine_fail(engine, -error, "epoll_wait: %s", strerror(error));
			pthread_mutex_unlock(&engine->lock);
		}
		for (i = 0; i < n; i++) {
			if (events[i].data.ptr == &engine->wake_fd)
				(void)!read(engine->wake_fd, &count, sizeof(count));
			else if (events[i].data.ptr == &engine->remote)
				handle_hang_up(engine);
			else if (events[i].data.ptr == &engine->restored_tasks)
				handle_end(engine);
			else if (events[i].data.ptr == &engine->madvise)
				handle_madvise(engine);
			else if (events[i].data.ptr == &engine->restore_fd)
				(void)cl_restore_read(engine);
			else if (((struct cl_space *)events[i].data.ptr)->uffd >= 0)
				unsettled |= !cl_engine_read_events(engine, events[i].data.ptr);
		}
		if (unsettled)
			unsettled = read_unsettled(engine);
		unsettled |= look_at_unmaps(engine);
		look_ms = cl_ended_look(engine);
		pthread_mutex_lock(&engine->lock);
		done = engine->restored && cl_spaces_retire_finished(engine, &unsettled);
		unchecked = check_todo(engine);
		done = engine->stopping || (done && !unchecked); /* else what nobody needs would be asked for on and on */
		pthread_mutex_unlock(&engine->lock);
	}
}

/*
 * Whether the tasks go on waiting, for another daemon, rather than get SIGBUS: where the pages can still be had, as this
 * engine fails for a reason of its own; or it is a successor that received nothing, and so changed nothing: another
 * attempt is allowed.
 */
static bool is_left_to_a_successor(const struct cl_engine *engine, int failure)
{
	if (!failure || failure == -ECANCELED || failure == -ESRCH)
		return false;
	if (engine->resumed && !engine->stats.received_bytes)
		return true;
	return engine->restored && !engine->source_is_gone && engine->guardian.channel >= 0 &&
	       !engine->warned_no_resume_state && !cl_chunk_pool_left_file(&engine->chunks);
}

/* What the loop waits on. 0 or -errno. */
static int watch(struct cl_engine *engine)
{
	int ret;

	/* From now on it is told who speaks: which processes the restored tasks are. */
	if (engine->restore_fd >= 0 && setsockopt(engine->restore_fd, SOL_SOCKET, SO_PASSCRED, &(int){ 1 }, sizeof(int)) < 0)
		cl_log(&engine->log, CL_LOG_WARN, "restore: which processes its tasks are is not known: %s",
		       strerror(errno));
	ret = cl_engine_watch_fd(engine, engine->wake_fd, EPOLLIN, &engine->wake_fd);
	if (ret == 0 && engine->restore_fd >= 0)
		ret = cl_engine_watch_fd(engine, engine->restore_fd, EPOLLIN, &engine->restore_fd);
	return ret;
}

/* All other threads, and what they need. 0 or -errno. */
static int start_threads(struct cl_engine *engine)
{
	int ret = 0;

	/* Who pushes is received from all the time. */
	if (engine->restore_fd >= 0 && engine->has_remote && !engine->source->keeps_tasks)
		ret = cl_engine_watch_fd(engine, engine->remote.fd, EPOLLRDHUP | EPOLLONESHOT, &engine->remote);
	if (ret == 0 && !engine->resumed && !engine->source->keeps_tasks)
		ret = cl_requests_byte_ahead(engine);
	if (ret < 0)
		return ret;
	if (engine->stats.total_pages)
		cl_engine_watch_madvise(engine);
	start_guardian(engine);
	ret = cl_workers_start(engine);
	return ret < 0 ? ret : engine->source->start(engine);
}

/* 0 or error->code. */
static int start(struct cl_engine *engine, struct cl_error *error)
{
	int ret = watch(engine);

	if (ret == 0 && cl_session_agree(engine, error) < 0)
		return error->code;
	if (ret == 0)
		ret = start_threads(engine);
	return ret < 0 ? cl_error_set(error, ret, "starting the engine: %s", strerror(-ret)) : 0;
}

/* Until every page has arrived, or something failed. */
static void serve(struct cl_engine *engine)
{
	cl_become_urgent();
	if (engine->resumed) {
		pthread_mutex_lock(&engine->lock);
		cl_restore_finished(engine);
		pthread_mutex_unlock(&engine->lock);
	}
	event_loop(engine);
	cl_session_end(engine);
	cl_become_ordinary();
}

/* What is left to do for the tasks, now that nobody serves them. Lock not held; no other thread is left. */
static void leave_tasks(struct cl_engine *engine, int failure)
{
	/* A server that pushes keeps the source's tasks, whatever becomes of its client. */
	if (failure && engine->has_remote && !engine->restored && !engine->source->keeps_tasks && !engine->is_refused) {
		cl_log(&engine->log, CL_LOG_INFO, "no task runs here yet: telling the source to let its tasks run on");
		(void)cl_remote_roll_back(&engine->remote);
	}
	if (is_left_to_a_successor(engine, failure)) {
		cl_log(&engine->log, CL_LOG_ERROR, "the tasks go on waiting for a daemon that takes over");
		cl_uffd_guardian_leave(&engine->guardian);
		return;
	}
	cl_spaces_abandon(engine);
	cl_uffd_guardian_end(&engine->guardian);
	if (engine->restore_fd >= 0)
		close(engine->restore_fd);
	engine->restore_fd = -1;
}

int cl_engine_run(struct cl_engine *engine, int restore_fd, struct cl_error *error)
{
	int ret;

	pthread_mutex_lock(&engine->lock); /* its counters may be asked for already */
	ret = prepare(engine, error);
	pthread_mutex_unlock(&engine->lock);
	if (ret < 0) {
		if (restore_fd >= 0)
			close(restore_fd);
		return ret;
	}
	engine->restore_fd = restore_fd;
	ret = start(engine, error);
	if (ret == 0) {
		serve(engine);
	} else {
		pthread_mutex_lock(&engine->lock); /* some threads may run already */
		cl_engine_note_failure(engine, ret, "%s", error->text);
		pthread_mutex_unlock(&engine->lock);
	}
	cl_workers_join(engine);
	if (engine->restore_fd >= 0)
		cl_restore_settle(engine);
	pthread_mutex_lock(&engine->lock); /* it may be told to stop just now: too late */
	*error = engine->failure;
	pthread_mutex_unlock(&engine->lock);
	leave_tasks(engine, error->code);
	return error->code;
}
