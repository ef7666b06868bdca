/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/source_push_streams.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/thread.h"
#include "destination/engine.h"
#include "destination/reconnect.h"
#include "destination/source_push_receive.h"
#include "destination/source_push_state.h"
#include "wire/push_hello.h"

enum {
	BUFFER_PAGES = 1 + CL_RECEIVE_BYTES / CL_PAGE_SIZE,
	MIN_WINDOW_BYTES = 16 << 10,
	MIN_WINDOW_SEGMENTS = 4,    /* with less the sender waits for its timer; on loopback they are of 64 KiB */
	MAX_WINDOW_BYTES = 1 << 30, /* TCP's own limit; --max-in-flight may be more */
	WINDOW_US = 3000,           /* for so long it may differ from what was set */
};

/* Lock held, so that nobody shuts down a descriptor that isn't ours any more. */
static void hang_up(struct cl_push_stream *stream)
{
	cl_conn_close(&stream->conn);
	stream->window = 0;
}

/* The connection is lost: leave it, and wait until there is a session again. */
static void park(struct cl_engine *engine, struct cl_push_stream *stream)
{
	stream->run = (struct cl_push_run){ 0 };
	stream->nr_also = 0;
	stream->filled = 0;
	if (stream->number)
		hang_up(stream);
	engine->push->nr_parked++;
	pthread_cond_signal(&engine->work); /* whoever is to connect again waits for us */
	while (engine->lost && !engine->stopping)
		pthread_cond_wait(&engine->gate, &engine->lock);
	engine->push->nr_parked--;
}

static int least_window(int fd)
{
	struct tcp_info info = { 0 };
	socklen_t length = sizeof(info);
	int bytes;

	(void)getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length);
	bytes = (int)info.tcpi_advmss * MIN_WINDOW_SEGMENTS;
	return bytes > MIN_WINDOW_BYTES ? bytes : MIN_WINDOW_BYTES;
}

/* Open a background stream of this session. Dropped while waiting. */
static void open_stream(struct cl_engine *engine, struct cl_push_stream *stream)
{
	struct cl_push_hello hello = { .stream = stream->number, .early = engine->push->has_store };
	struct cl_push_answer answer;
	struct cl_error error;
	int ret;

	memcpy(hello.token, engine->push->token, sizeof(hello.token));
	ret = cl_engine_call(engine, &stream->conn.fd, &stream->conn.tls, &error);
	stream->min_window = least_window(stream->conn.fd);
	if (ret == 0 && !engine->stopping && !engine->lost) {
		pthread_mutex_unlock(&engine->lock);
		ret = cl_push_say_hello(stream->conn, engine->remote.version, &hello, &answer, &error);
		pthread_mutex_lock(&engine->lock);
		if (ret == 0 || (ret == 1 && answer.nr_streams != stream->number)) {
			ret = cl_error_set(&error, -EPROTO, "it does not know a stream of its own session");
		} else if (ret == -EPROTO && stream->conn.tls) {
			ret = error.code = -ECONNRESET; /* it took us on the demand connection: the session is over */
		}
	}
	if (ret < 0)
		cl_engine_broken(engine, &error);
}

/*
 * What the streams have under way queues on the link in front of demand pages. Their receive windows together are what a
 * client that asks for every page would allow to be in flight (flow.h).
 */
static void limit_window(struct cl_engine *engine, struct cl_push_stream *stream)
{
	uint64_t now_us = cl_now_us();
	uint64_t share = cl_flow_push_window(&engine->flow, now_us) / engine->push->nr_streams;
	int window = share < MAX_WINDOW_BYTES ? (int)share : MAX_WINDOW_BYTES;

	if (window < stream->min_window)
		window = stream->min_window;
	/*
	 * Not for a little: every call costs. But now and then: when the kernel enlarges the buffer, it widens the window.
	 */
	if (!stream->number ||
	    (window > stream->window / 8 * 7 && window < stream->window / 8 * 9 && now_us - stream->window_us < WINDOW_US))
		return;
	stream->window = window;
	stream->window_us = now_us;
	(void)setsockopt(stream->conn.fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, &window, sizeof(window));
}

/* Receive once, install what came. */
static void receive_once(struct cl_engine *engine, struct cl_push_stream *stream)
{
	struct cl_conn demand = { engine->remote.fd, engine->remote.tls };
	struct cl_error error;
	int64_t got;
	int ret;

	pthread_mutex_unlock(&engine->lock);
	got = cl_conn_receive(stream->number ? stream->conn : demand, stream->buffer + stream->filled,
			      BUFFER_PAGES * CL_PAGE_SIZE - stream->filled, &error);
	pthread_mutex_lock(&engine->lock);
	if (engine->stopping)
		return;
	if (got < 0 && engine->push->closing && stream->number) {
		hang_up(stream);
		return;
	}
	if (got < 0) {
		cl_engine_broken(engine, &error);
		return;
	}
	engine->lost_us = engine->lost ? engine->lost_us : 0;
	engine->stats.received_bytes += (uint64_t)got;
	cl_flow_delivered(&engine->flow, (uint64_t)got, cl_now_us());
	limit_window(engine, stream);
	stream->filled += (size_t)got;
	ret = cl_push_install(engine, stream, &error);
	if (ret < 0)
		cl_engine_broken(engine, &error);
}

static void *stream_work(void *argument)
{
	struct cl_push_stream *stream = argument;
	struct cl_engine *engine = stream->engine;

	if (stream->number)
		cl_take_precedence();
	else
		cl_become_urgent();
	pthread_mutex_lock(&engine->lock);
	while (!engine->stopping) {
		if (engine->lost)
			park(engine, stream);
		else if (!engine->push->on)
			pthread_cond_wait(&engine->gate, &engine->lock); /* for it to push again, or the end */
		else if (engine->push->closing && (stream->number ? stream->conn.fd < 0 : engine->push->confirmed))
			pthread_cond_wait(&engine->gate, &engine->lock); /* for the end */
		else if (stream->number && stream->conn.fd < 0)
			open_stream(engine, stream);
		else
			receive_once(engine, stream);
	}
	hang_up(stream);
	pthread_mutex_unlock(&engine->lock);
	return NULL;
}

int cl_push_start_streams(struct cl_engine *engine)
{
	struct cl_push *push = engine->push;
	char name[16];
	int ret = 0;

	pthread_mutex_lock(&engine->lock);
	while (push->nr_threads <= push->nr_streams && ret == 0) {
		struct cl_push_stream *stream = &push->streams[push->nr_threads];

		*stream = (struct cl_push_stream){ .engine = engine, .number = push->nr_threads, .conn.fd = -1 };
		stream->buffer = cl_pages_alloc(BUFFER_PAGES);
		stream->unpacked = cl_pages_alloc(CL_PUSH_PACKED_PAGES);
		snprintf(name, sizeof(name), "cl-stream-%u", push->nr_threads);
		ret = stream->buffer && stream->unpacked ? cl_thread_start(&stream->thread, name, stream_work, stream) :
							   -ENOMEM;
		if (ret < 0) {
			free(stream->buffer);
			free(stream->unpacked);
			break;
		}
		push->nr_threads++;
	}
	pthread_mutex_unlock(&engine->lock);
	return ret;
}

void cl_push_join_streams(struct cl_engine *engine)
{
	struct cl_push *push = engine->push;
	unsigned int i;

	for (i = 0; i < push->nr_threads; i++) {
		pthread_join(push->streams[i].thread, NULL);
		free(push->streams[i].buffer);
		free(push->streams[i].unpacked);
		cl_packer_free(&push->streams[i].packer);
	}
	pthread_mutex_lock(&engine->lock);
	push->nr_threads = 0;
	pthread_mutex_unlock(&engine->lock);
}

void cl_push_shut_down_streams(struct cl_engine *engine)
{
	unsigned int i;

	if (engine->push->nr_threads)
		(void)shutdown(engine->remote.fd, SHUT_RDWR);
	for (i = 1; i < engine->push->nr_threads; i++)
		if (engine->push->streams[i].conn.fd >= 0)
			(void)shutdown(engine->push->streams[i].conn.fd, SHUT_RDWR);
}

void cl_push_each_stream(struct cl_engine *engine, void (*each)(const struct cl_engine *engine, int fd))
{
	unsigned int i;

	for (i = 1; i < engine->push->nr_threads; i++)
		each(engine, engine->push->streams[i].conn.fd);
}
