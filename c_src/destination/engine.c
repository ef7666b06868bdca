/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/engine.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "destination/missing_map.h"
#include "destination/page_source.h"

void cl_engine_work_is_there(struct cl_engine *engine)
{
	if (!engine->busy_workers)
		pthread_cond_signal(&engine->work);
	if (cl_schedule_has_demand(&engine->schedule, CL_STORED))
		pthread_cond_signal(&engine->stored);
}

void cl_engine_wake(struct cl_engine *engine)
{
	uint64_t one = 1;

	/* Non-blocking; it only fails when the counter is full, and then the thread is awake. */
	if (write(engine->wake_fd, &one, sizeof(one)) < 0)
		return;
}

int cl_engine_watch_fd(struct cl_engine *engine, int fd, uint32_t events, void *tag)
{
	struct epoll_event event = { .events = events, .data.ptr = tag };

	return epoll_ctl(engine->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

/* Close what is watched. The guardian may have it open still, so epoll must be told. */
void cl_engine_unwatch(struct cl_engine *engine, int fd)
{
	(void)epoll_ctl(engine->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	close(fd);
}

/* The first one holds. Lock held. */
static void note_failure_args(struct cl_engine *engine, int error, const char *format, va_list args)
{
	if (engine->failure.code)
		return;
	(void)cl_error_vset(&engine->failure, error, format, args);
	cl_log(&engine->log, CL_LOG_ERROR, "%s", engine->failure.text);
}

/* Without an end of it all: there is something to do yet. */
void cl_engine_note_failure(struct cl_engine *engine, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	note_failure_args(engine, error, format, args);
	va_end(args);
}

void cl_engine_fail(struct cl_engine *engine, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	note_failure_args(engine, error, format, args);
	va_end(args);
	engine->stopping = true;
	/* Whoever receives or sends returns at once. As long as no task runs here, the source must still be told. */
	if (engine->has_remote)
		(void)shutdown(engine->remote.fd, engine->restored ? SHUT_RDWR : SHUT_RD);
	engine->source->shut_down(engine);
	pthread_cond_broadcast(&engine->work);
	pthread_cond_broadcast(&engine->stored);
	pthread_cond_broadcast(&engine->gate);
	cl_engine_wake(engine);
}

void cl_engine_stop(struct cl_engine *engine)
{
	pthread_mutex_lock(&engine->lock);
	cl_engine_fail(engine, -ECANCELED, "stopped");
	pthread_mutex_unlock(&engine->lock);
}

void cl_engine_ask(struct cl_engine *engine)
{
	if (engine->has_remote && !engine->sending && !engine->lost)
		engine->source->ask(engine);
}

void cl_engine_warn_no_resume_state(struct cl_engine *engine, int error)
{
	if (engine->warned_no_resume_state)
		return;
	engine->warned_no_resume_state = true;
	cl_log(&engine->log, CL_LOG_WARN, "should this process be killed, no other can go on: %s", strerror(-error));
}

void cl_engine_forget_dropped_waiters(struct cl_space *space)
{
	size_t i = 0;

	while (i < space->waiters.nr) {
		if (cl_shared_bits_get(&space->missing, space->waiters.at[i].index))
			i++;
		else
			space->waiters.at[i] = space->waiters.at[--space->waiters.nr];
	}
}

uint64_t cl_engine_remaining_pages(const struct cl_engine *engine)
{
	const struct cl_image *image;
	const struct cl_space *space;
	uint64_t pages = 0;

	for (image = engine->images; image; image = image->next) {
		if (!image->spaces && !engine->restored)
			pages += image->nr_pages;
		for (space = image->spaces; space; space = space->next)
			pages += space->nr_missing;
	}
	return pages;
}

/* What waits now. Lock held. */
static void stats_of_waiting(const struct cl_engine *engine, struct cl_stats *out)
{
	uint64_t now_us = cl_now_us();
	const struct cl_image *image;
	const struct cl_space *space;
	size_t i;

	for (image = engine->images; image; image = image->next)
		for (space = image->spaces; space; space = space->next) {
			if (space->retired)
				continue;
			out->waiting_faults += space->waiters.nr;
			for (i = 0; i < space->waiters.nr; i++)
				if (now_us - space->waiters.at[i].since_us > out->oldest_wait_us)
					out->oldest_wait_us = now_us - space->waiters.at[i].since_us;
			if (space->no_memory.since_us && now_us - space->no_memory.since_us > out->no_memory_us)
				out->no_memory_us = now_us - space->no_memory.since_us;
		}
}

void cl_engine_stats(struct cl_engine *engine, struct cl_stats *out)
{
	pthread_mutex_lock(&engine->lock);
	*out = engine->stats;
	out->remaining_pages = cl_engine_remaining_pages(engine);
	stats_of_waiting(engine, out);
	cl_missing_map(engine->images, engine->restored, out->missing_map);
	out->push_streams = engine->source->nr_streams(engine);
	out->paused_us = engine->lost ? cl_now_us() - engine->lost_us : 0;
	out->in_flight_bytes = engine->flow.in_flight;
	out->window_bytes = cl_flow_window(&engine->flow, cl_now_us());
	out->delivery_rate = engine->flow.rate;
	out->min_rtt_us = engine->flow.min_rtt_us;
	pthread_mutex_unlock(&engine->lock);
}
