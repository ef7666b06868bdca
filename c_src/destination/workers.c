/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/workers.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/thread.h"
#include "destination/engine.h"
#include "destination/page_source.h"
#include "destination/precopied.h"
#include "destination/reconnect.h"
#include "destination/uffd_fill.h"
#include "images/pages_local.h"

enum { ACKNOWLEDGE_BYTES = 64 << 10 }; /* with less in flight a delayed acknowledgement may hold up the rest */

struct worker {
	_Alignas(CL_PAGE_SIZE) uint8_t buffer[2 * CL_PAGE_SIZE + CL_RECEIVE_BYTES];
	struct cl_engine *engine;
};

/* Receive once, ask for more, install what came. Lock held. */
static void receive(struct cl_engine *engine, struct worker *worker)
{
	struct cl_segment segments[sizeof(worker->buffer) / CL_PAGE_SIZE];
	uint64_t cancelled_bytes, delivered;
	bool few_in_flight = engine->flow.in_flight < ACKNOWLEDGE_BYTES;
	struct cl_arrived arrived;
	struct cl_error error;
	int nr_segments, i;
	int64_t got;

	engine->receiving = true;
	pthread_mutex_unlock(&engine->lock);
	got = cl_remote_receive(&engine->remote, worker->buffer, sizeof(worker->buffer), &arrived, &error);
	if (got > 0 && few_in_flight)
		cl_remote_acknowledge(&engine->remote);
	pthread_mutex_lock(&engine->lock);
	engine->receiving = engine->remote_hung_up = false;
	if (engine->stopping)
		return;
	if (got < 0) {
		cl_engine_broken(engine, &error);
		return;
	}
	engine->lost_us = engine->lost ? engine->lost_us : 0;
	nr_segments = cl_remote_parse(&engine->remote, &arrived, segments, &cancelled_bytes, &error);
	if (nr_segments < 0) {
		cl_engine_broken(engine, &error);
		return;
	}
	engine->stats.received_bytes += (uint64_t)got;
	delivered = cl_flow_delivered(&engine->flow, (uint64_t)got, cl_now_us());
	if (delivered)
		cl_readahead_delivered(&engine->schedule.readahead[CL_REMOTE], delivered);
	cl_flow_cancelled(&engine->flow, cancelled_bytes, cl_now_us());
	/*
	 * Another worker receives meanwhile, if more is waiting than one can take: else waking it, on another CPU, costs
	 * more than it brings.
	 */
	if (cl_remote_idle(&engine->remote))
		pthread_cond_broadcast(&engine->gate);
	else if (arrived.bytes >= CL_PAGE_SIZE + CL_RECEIVE_BYTES)
		pthread_cond_signal(&engine->work);
	cl_engine_ask(engine);
	for (i = 0; i < nr_segments; i++)
		cl_engine_fill(engine, segments[i].image, segments[i].index, segments[i].nr_pages, segments[i].data);
}

/* Install one run of pages from the local images. Lock held. False if there is none to do. */
static bool copy_local(struct cl_engine *engine)
{
	struct cl_pick pick;

	if (!cl_schedule_demand(&engine->schedule, CL_LOCAL, &pick) &&
	    !(engine->restored && cl_schedule_background(&engine->schedule, CL_LOCAL, CL_COPY_BYTES / CL_PAGE_SIZE, &pick)))
		return false;
	cl_engine_fill(engine, pick.image, pick.index, pick.nr_pages,
		       cl_pages_local_at(pick.image->pages, pick.image, pick.index));
	if (engine->config.auto_dedup && !engine->stopping) {
		int ret;

		pthread_mutex_unlock(&engine->lock);
		ret = cl_pages_local_punch(pick.image->pages, pick.image, pick.index, pick.nr_pages);
		pthread_mutex_lock(&engine->lock);
		if (ret < 0)
			cl_log(&engine->log, CL_LOG_WARN, "task %d: punching used pages out of the image: %s",
			       pick.image->pid, strerror(-ret));
	}
	return true;
}

static void *work(void *argument)
{
	struct worker *worker = argument;
	struct cl_engine *engine = worker->engine;

	/* With a store it fills what nobody waits for: the task, which has need of the CPU, goes on beside it. */
	if (!engine->store)
		cl_take_precedence();
	pthread_mutex_lock(&engine->lock);
	engine->busy_workers++;
	while (!engine->stopping) {
		if (engine->lost && !engine->receiving && !engine->sending && engine->source->is_parked(engine))
			cl_engine_reconnect(engine);
		else if (cl_precopied_background(engine, worker->buffer) || copy_local(engine))
			continue;
		else if (engine->has_remote && !engine->receiving && !engine->lost &&
			 (!cl_remote_idle(&engine->remote) || engine->remote_hung_up))
			receive(engine, worker);
		else if (!engine->stopping) {
			engine->busy_workers--;
			pthread_cond_wait(&engine->work, &engine->lock);
			engine->busy_workers++;
		}
	}
	pthread_mutex_unlock(&engine->lock);
	free(worker);
	return NULL;
}

/* What threads wait for and the store has: at once, whatever else is done. */
static void *work_for_demand(void *argument)
{
	struct worker *worker = argument;
	struct cl_engine *engine = worker->engine;

	cl_become_urgent();
	pthread_mutex_lock(&engine->lock);
	while (!engine->stopping)
		if (!cl_precopied_demand(engine, worker->buffer))
			pthread_cond_wait(&engine->stored, &engine->lock);
	pthread_mutex_unlock(&engine->lock);
	free(worker);
	return NULL;
}

/* 0 or -errno. */
static int start_worker(struct cl_engine *engine, pthread_t *thread, const char *name, void *(*work_of)(void *))
{
	struct worker *worker = aligned_alloc(_Alignof(struct worker), sizeof(*worker));
	int ret;

	if (!worker)
		return -ENOMEM;
	worker->engine = engine;
	ret = cl_thread_start(thread, name, work_of, worker);
	if (ret < 0)
		free(worker);
	return ret;
}

int cl_workers_start(struct cl_engine *engine)
{
	unsigned int wanted = engine->config.nr_workers;
	char name[16];
	int ret = 0;

	if (!wanted) {
		long cpus = sysconf(_SC_NPROCESSORS_ONLN);

		wanted = cpus < 2 ? 2 : cpus > 4 ? 4 : (unsigned int)cpus;
	}
	if (wanted > CL_MAX_WORKERS)
		wanted = CL_MAX_WORKERS;
	if (engine->store) {
		ret = start_worker(engine, &engine->stored_worker, "cl-stored", work_for_demand);
		engine->has_stored_worker = ret == 0;
	}
	while (engine->nr_workers < wanted && ret == 0) {
		snprintf(name, sizeof(name), "cl-worker-%u", engine->nr_workers);
		ret = start_worker(engine, &engine->workers[engine->nr_workers], name, work);
		engine->nr_workers += ret == 0;
	}
	return engine->nr_workers ? 0 : ret;
}

void cl_workers_join(struct cl_engine *engine)
{
	unsigned int i;

	pthread_mutex_lock(&engine->lock);
	engine->stopping = true;
	engine->source->shut_down(engine);
	pthread_cond_broadcast(&engine->work);
	pthread_cond_broadcast(&engine->stored);
	pthread_cond_broadcast(&engine->gate);
	pthread_mutex_unlock(&engine->lock);
	if (engine->has_stored_worker)
		pthread_join(engine->stored_worker, NULL);
	engine->has_stored_worker = false;
	for (i = 0; i < engine->nr_workers; i++)
		pthread_join(engine->workers[i], NULL);
	engine->nr_workers = 0;
	engine->source->join(engine);
}
