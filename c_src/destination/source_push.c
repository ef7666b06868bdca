/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/source_push.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"
#include "destination/engine.h"
#include "destination/page_source.h"
#include "destination/precopied.h"
#include "destination/precopy_store.h"
#include "destination/reconnect.h"
#include "destination/requests.h"
#include "destination/source_push_state.h"
#include "destination/source_push_streams.h"
#include "wire/compression.h"
#include "wire/push_hello.h"

enum {
	CLOSE_TIMEOUT_S = 30,
	REQUESTS_A_SEND = 128,
};

/* Say which store there is, so that what is in it needn't come. 0 or -errno. Lock not held. */
static int tell_store(struct cl_conn conn, const uint8_t *token)
{
	struct cl_push_header store = { .type = CL_PUSH_STORE, .bytes = CL_PUSH_TOKEN_BYTES };
	uint8_t out[CL_PUSH_HEADER_BYTES + CL_PUSH_TOKEN_BYTES];

	cl_push_pack(&store, out);
	memcpy(out + CL_PUSH_HEADER_BYTES, token, CL_PUSH_TOKEN_BYTES);
	return cl_conn_send(conn, out, sizeof(out));
}

static int agree(struct cl_engine *engine, struct cl_error *error)
{
	struct cl_push_hello hello = { .nr_streams = engine->config.push_streams,
				       .unpacks = cl_compression_ways(),
				       .shares = true,
				       .client = engine->client };
	struct cl_conn conn = { engine->remote.fd, engine->remote.tls };
	const uint8_t *store = engine->store && !engine->store_is_bad ? cl_precopy_store_token(engine->store) : NULL;
	int version = engine->remote.version, ret;
	struct cl_push_answer answer;

	pthread_mutex_unlock(&engine->lock);
	ret = cl_push_say_hello(conn, version, &hello, &answer, error);
	if (ret == 1 && answer.nr_streams > hello.nr_streams)
		ret = cl_error_set(error, -EPROTO, "it offers more streams than it was asked for");
	if (ret == 1 && store && tell_store(conn, store) < 0)
		ret = cl_conn_error(-EPIPE, error);
	pthread_mutex_lock(&engine->lock);
	if (ret < 0)
		return ret;
	if (ret == 1 && engine->push->agreed && answer.nr_streams != engine->push->nr_streams)
		return cl_error_set(error, -EPROTO, "it offers another number of streams than before");
	if (ret == 0 && answer.plain == CL_PUSH_PLAIN_GONE && (engine->push->on || !engine->push->agreed))
		cl_log(&engine->log, CL_LOG_WARN,
		       "page server: it can't push, as the source's task is gone; its dump has the "
		       "pages still: asking for the %llu that are missing",
		       (unsigned long long)cl_engine_remaining_pages(engine));
	engine->push->on = ret == 1;
	engine->remote.byte_ahead = ret == 0;
	if (ret == 0)
		return 0;
	engine->push->agreed = true;
	engine->push->has_store = store;
	engine->push->nr_streams = answer.nr_streams;
	memcpy(engine->push->token, answer.token, CL_PUSH_TOKEN_BYTES);
	return 1;
}

static const struct cl_page_source push_source;

int cl_push_agree(struct cl_engine *engine, struct cl_error *error)
{
	int ret;

	engine->push = calloc(1, sizeof(*engine->push));
	if (!engine->push)
		return cl_conn_error(-ENOMEM, error);
	ret = agree(engine, error);
	if (ret == 1) {
		engine->source = &push_source;
	} else {
		free(engine->push);
		engine->push = NULL;
	}
	return ret;
}

/* From now on it is asked for what is missing. Whatever was taken for coming by itself is todo. */
static void fall_back(struct cl_engine *engine)
{
	struct cl_image *image;
	size_t e;

	for (image = engine->images; image; image = image->next) {
		for (e = 0; e < image->nr_extents; e++)
			if (cl_extent_source(&image->extents[e]) == CL_REMOTE)
				cl_image_ask_again(image, image->extents[e].first, image->extents[e + 1].first);
		if (engine->restored) /* before, what no task has asked for yet will be missing */
			cl_image_only_missing(image);
	}
}

/* On the demand connection, by its sender. Lock held; dropped while sending. A failure loses the connection. */
static int send_demand(struct cl_engine *engine, const uint8_t *data, size_t bytes)
{
	int ret;

	pthread_mutex_unlock(&engine->lock);
	ret = cl_conn_send((struct cl_conn){ engine->remote.fd, engine->remote.tls }, data, bytes);
	pthread_mutex_lock(&engine->lock);
	return ret;
}

/* The next run of pages that are missing and not to come from the store; false: there is none. */
static bool next_to_push(const struct cl_image *image, uint64_t index, uint64_t end, uint64_t *from, uint64_t *to)
{
	const struct cl_shared_bits *stored = &image->todo[CL_STORED];

	for (; cl_image_next_missing(image, index, end, from, to); index = *to) {
		*from = cl_shared_bits_find(stored, *from, *to, false);
		if (*from == *to)
			continue;
		*to = cl_shared_bits_find(stored, *from, *to, true);
		return true;
	}
	return false;
}

/* Which starts (again) what it pushes. Lock held; dropped while sending. 0 or -errno. */
static int send_missing(struct cl_engine *engine)
{
	uint8_t out[REQUESTS_A_SEND * CL_PUSH_HEADER_BYTES];
	struct cl_push_header message = { .type = CL_PUSH_MISSING };
	const struct cl_image *image;
	uint64_t from, to;
	size_t bytes = 0, e;
	int ret = 0;

	engine->sending = true;
	engine->untold = false;
	/* The lock is dropped now and then; what is missing again meanwhile is told again. */
	for (image = engine->images; image && ret == 0; image = image->next)
		for (e = 0; e < image->nr_extents && ret == 0; e++) {
			const struct cl_extent *extent = &image->extents[e];

			if (cl_extent_source(extent) != CL_REMOTE)
				continue;
			for (to = extent[0].first; ret == 0 && next_to_push(image, to, extent[1].first, &from, &to);) {
				message.nr_pages = to - from;
				message.vaddr = cl_image_vaddr(image, from);
				message.dst_id = (uint64_t)image->pid;
				cl_push_pack(&message, out + bytes);
				bytes += CL_PUSH_HEADER_BYTES;
				if (bytes == sizeof(out)) {
					ret = send_demand(engine, out, bytes);
					bytes = 0;
				}
			}
		}
	message = (struct cl_push_header){ .type = CL_PUSH_GO };
	cl_push_pack(&message, out + bytes);
	if (ret == 0)
		ret = send_demand(engine, out, bytes + CL_PUSH_HEADER_BYTES);
	engine->sending = false;
	return ret;
}

static void ask(struct cl_engine *engine)
{
	uint8_t out[REQUESTS_A_SEND * CL_PUSH_HEADER_BYTES];
	struct cl_pick pick;
	size_t bytes;
	int ret;

	if (!engine->push->on) {
		cl_requests_ask(engine);
		return;
	}
	while (!engine->stopping && !engine->lost) {
		if (engine->untold && engine->restored)
			(void)send_missing(engine); /* who receives sees the same */
		engine->sending = true;
		for (bytes = 0; bytes + 2 * CL_PUSH_HEADER_BYTES <= sizeof(out) &&
				cl_schedule_demand(&engine->schedule, CL_REMOTE, &pick);
		     bytes += CL_PUSH_HEADER_BYTES) {
			struct cl_push_header get = { .type = CL_PUSH_GET,
						      .nr_pages = pick.nr_pages,
						      .vaddr = cl_image_vaddr(pick.image, pick.index),
						      .dst_id = (uint64_t)pick.image->pid },
					      missing = get;

			/* What was on its way may have been dropped here: the server must not wait for it to arrive. */
			missing.type = CL_PUSH_MISSING;
			if (pick.again) {
				cl_push_pack(&missing, out + bytes);
				bytes += CL_PUSH_HEADER_BYTES;
			}
			cl_push_pack(&get, out + bytes);
			engine->stats.requests++;
		}
		if (!bytes)
			break;
		ret = send_demand(engine, out, bytes);
		if (ret < 0)
			cl_engine_send_failed(engine, ret);
	}
	engine->sending = false;
	if (engine->lost)
		pthread_cond_signal(&engine->work);
}

static void tell_missing(struct cl_engine *engine)
{
	if (engine->push->on)
		(void)send_missing(engine); /* who receives sees the same */
}

/*
 * A new connection to a server that has pushed. Once all is restored, it is told what is missing; one that doesn't push
 * any more, as its tasks are gone, is going to be asked for it.
 */
static int begin_again(struct cl_engine *engine, struct cl_error *error)
{
	int ret = agree(engine, error);

	if (ret == 0)
		fall_back(engine);
	if (ret < 0)
		return ret;
	/* Before all tasks are restored it isn't known what is missing. */
	ret = ret == 1 && engine->restored ? send_missing(engine) : 0;
	if (ret < 0)
		return cl_conn_error(ret, error);
	/* It was told of a store that was given up meanwhile, and not that what is there is missing. */
	if (engine->push->on && engine->push->has_store && engine->store_is_bad)
		return cl_precopied_stale(error);
	return 0;
}

static int close_session(struct cl_engine *engine, struct cl_error *error)
{
	struct cl_push_header done = { .type = CL_PUSH_DONE };
	uint8_t out[CL_PUSH_HEADER_BYTES];
	uint64_t deadline_us = cl_now_us() + CLOSE_TIMEOUT_S * 1000000ULL;
	int ret;

	if (!engine->push->on)
		return cl_requests_source.close(engine, error);
	cl_push_pack(&done, out);
	engine->push->confirmed = false;
	engine->push->closing = true;
	engine->sending = true;
	ret = send_demand(engine, out, sizeof(out));
	engine->sending = false;
	while (ret == 0 && !engine->push->confirmed) {
		if (engine->stopping || engine->lost)
			ret = -ECONNRESET;
		else
			ret = cl_cond_wait(&engine->gate, &engine->lock, deadline_us);
	}
	engine->push->closing = engine->push->confirmed;
	pthread_cond_broadcast(&engine->gate);
	if (engine->lost)
		pthread_cond_signal(&engine->work);
	return engine->push->confirmed ? 0 : cl_conn_error(ret, error);
}

static void tell_lost(struct cl_engine *engine, int32_t pid, uint64_t nr_pages, int signal)
{
	const struct cl_push_header message = {
		.type = CL_PUSH_LOST, .nr_pages = nr_pages, .vaddr = (uint64_t)signal, .dst_id = (uint64_t)pid
	};
	uint8_t out[CL_PUSH_HEADER_BYTES];

	if (!engine->push->on || engine->sending || engine->lost || engine->stopping) /* nobody to tell */
		return;
	cl_push_pack(&message, out);
	engine->sending = true;
	(void)send_demand(engine, out, sizeof(out));
	engine->sending = false;
}

static bool is_parked(const struct cl_engine *engine)
{
	return !engine->push->on || engine->push->nr_parked == engine->push->nr_threads;
}

static void put_back(struct cl_engine *engine, struct cl_image *image, uint64_t index)
{
	if (engine->push->on) /* it was taken for coming by itself */
		cl_image_ask_again(image, index, index + 1);
}

static unsigned int nr_streams(const struct cl_engine *engine)
{
	return engine->push->on ? engine->push->nr_streams : 0;
}

static void release(struct cl_engine *engine)
{
	free(engine->push);
	engine->push = NULL;
}

static const struct cl_page_source push_source = {
	.keeps_tasks = true,
	.ask = ask,
	.tell_missing = tell_missing,
	.tell_lost = tell_lost,
	.close = close_session,
	.begin_again = begin_again,
	.put_back = put_back,
	.is_parked = is_parked,
	.nr_streams = nr_streams,
	.each_stream = cl_push_each_stream,
	.shut_down = cl_push_shut_down_streams,
	.start = cl_push_start_streams,
	.join = cl_push_join_streams,
	.free = release,
};
