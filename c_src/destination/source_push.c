/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/source_push.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "wire/compression.h"
#include "destination/engine.h"
#include "destination/page_source.h"
#include "destination/reconnect.h"
#include "destination/requests.h"
#include "destination/uffd_fill.h"
#include "base/thread.h"
#include "destination/precopy_store.h"

enum {
	AGREE_TIMEOUT_S = 10,
	CLOSE_TIMEOUT_S = 30,
	BUFFER_BYTES = CL_PAGE_SIZE + CL_RECEIVE_BYTES,
	ZERO_PAGES = 64,
	MIN_WINDOW_BYTES = 16 << 10,
	MIN_WINDOW_SEGMENTS = 4,      /* with less the sender waits for its timer; on loopback they are of 64 KiB */
	MAX_WINDOW_BYTES = 1 << 30,   /* TCP's own limit; --max-in-flight may be more */
	WINDOW_US = 3000,             /* for so long it may differ from what was set */
	REQUESTS_A_SEND = 128,
};

/* What a header announced and has not come yet. */
struct cl_push_run {
	struct cl_image *image;
	uint64_t vaddr;
	uint64_t nr_pages;
	size_t packed_bytes;     /* in which they come; 0: as they are */
};

struct cl_push_stream {
	struct cl_engine *engine;
	unsigned int number;     /* 0: the demand connection, whose descriptor is the engine's remote's */
	pthread_t thread;
	struct cl_conn conn;
	int window;              /* bytes that the server may have under way; 0: the kernel's */
	uint64_t window_us;      /* when it was last set */
	int min_window;
	struct cl_push_run run;
	struct cl_push_run also[CL_PUSH_MAX_ALSO]; /* what the same pages are, too; nr_also of them */
	unsigned int nr_also;
	uint8_t *buffer;
	size_t filled;           /* bytes in it that are not understood yet: less than a header, a page, a packed run */
	uint8_t *unpacked;       /* CL_PUSH_PACKED_PAGES */
};

struct cl_push {
	bool on;                 /* the server agreed */
	bool agreed;             /* it did once: if it isn't on, it has fallen back to requests, on the same connections */
	bool has_store;          /* it was told of the store, and may say that pages are as there */
	bool closing;            /* it was told the end: whatever it does with its streams is right */
	bool confirmed;          /* and said that it knows */
	unsigned int nr_streams; /* background ones */
	unsigned int nr_threads, nr_parked;
	uint8_t token[CL_PUSH_TOKEN_BYTES];
	struct cl_push_stream streams[1 + CL_PUSH_MAX_STREAMS];
};

/* ---- what comes ---- */

/* These pages have come, the store's are not needed any more. Lock held; dropped meanwhile. */
static void drop_stored(struct cl_engine *engine, const struct cl_image *image, uint64_t index, uint64_t nr_pages)
{
	if (!engine->store)
		return;
	pthread_mutex_unlock(&engine->lock);
	cl_store_drop(engine->store, (uint64_t)image->pid, cl_image_vaddr(image, index), nr_pages);
	pthread_mutex_lock(&engine->lock);
}

/* Install the next pages of the run. Lock held; dropped while copying. */
static void install(struct cl_engine *engine, struct cl_push_run *run, uint64_t nr_pages, const uint8_t *data)
{
	while (nr_pages) {
		uint64_t index = cl_image_index(run->image, run->vaddr);
		uint64_t pages = cl_image_extent(run->image, index)[1].first - index;

		if (pages > nr_pages)
			pages = nr_pages;
		cl_engine_fill(engine, run->image, index, pages, data);
		drop_stored(engine, run->image, index, pages);
		run->vaddr += pages * CL_PAGE_SIZE;
		run->nr_pages -= pages;
		nr_pages -= pages;
		data += pages * CL_PAGE_SIZE;
	}
}

/* The same, and in all runs of which these are the pages. */
static void install_all(struct cl_engine *engine, struct cl_push_stream *stream, uint64_t nr_pages, const uint8_t *data)
{
	unsigned int i;

	for (i = 0; i < stream->nr_also; i++)
		install(engine, &stream->also[i], nr_pages, data);
	install(engine, &stream->run, nr_pages, data);
	if (!stream->run.nr_pages)
		stream->nr_also = 0;
}

/* Zero pages need no payload. Lock held; dropped while copying. */
static void install_zeroes(struct cl_engine *engine, struct cl_push_run *run)
{
	static const uint8_t zeroes[ZERO_PAGES * CL_PAGE_SIZE];

	while (run->nr_pages && !engine->stopping)
		install(engine, run, run->nr_pages < ZERO_PAGES ? run->nr_pages : ZERO_PAGES, zeroes);
}

/* Pages of [index, end) that some space misses, from the first one on: [*from, *to). False if there is none. */
static bool next_missing(const struct cl_image *image, uint64_t index, uint64_t end, uint64_t *from, uint64_t *to)
{
	const struct cl_space *space;
	uint64_t at;

	*from = end;
	for (space = image->spaces; space; space = space->next)
		if (!space->retired) {
			at = cl_bits_find(space->missing, index, end, true);
			*from = at < *from ? at : *from;
		}
	*to = end;
	for (space = image->spaces; space && *from < end; space = space->next)
		if (!space->retired && cl_bit_get(space->missing, *from)) {
			at = cl_bits_find(space->missing, *from, end, false);
			*to = at < *to ? at : *to;
		}
	return *from < end;
}

/*
 * Pages that are as in the store. Those that nobody misses may be gone from there: another thread has installed them. Lock
 * held; dropped while reading and copying. 0, or error->code: -ESTALE.
 */
static int install_same(struct cl_engine *engine, struct cl_push_stream *stream, struct cl_error *error)
{
	struct cl_push_run *run = &stream->run;
	uint64_t from, to, failed = UINT64_MAX;
	int ret;

	while (run->nr_pages && !engine->stopping) {
		uint64_t index = cl_image_index(run->image, run->vaddr);
		uint64_t end = cl_image_extent(run->image, index)[1].first;

		if (end > index + run->nr_pages)
			end = index + run->nr_pages;
		if (next_missing(run->image, index, end, &from, &to)) {
			end = to < from + CL_PUSH_PACKED_PAGES ? to : from + CL_PUSH_PACKED_PAGES;
			pthread_mutex_unlock(&engine->lock);
			ret = cl_store_read(engine->store, (uint64_t)run->image->pid, cl_image_vaddr(run->image, from),
					    end - from, stream->unpacked);
			pthread_mutex_lock(&engine->lock);
			if (ret == -ENODATA && failed != from) {
				failed = from;
				continue; /* if it isn't missing any more, it needn't be there */
			}
			if (ret < 0) {
				engine->store_is_bad = true;
				return cl_error_set(error, -ESTALE, "it expects pre-copied pages that can't be read here; asking for all");
			}
			cl_engine_fill(engine, run->image, from, end - from, stream->unpacked);
			engine->stats.same_pages += end - from;
			drop_stored(engine, run->image, from, end - from);
		}
		run->vaddr += (end - index) * CL_PAGE_SIZE;
		run->nr_pages -= end - index;
	}
	return 0;
}

/* The pages of the next message are these, too. 0, or error->code: -EPROTO. */
static int note_also(struct cl_push_stream *stream, struct cl_error *error)
{
	if (stream->nr_also == CL_PUSH_MAX_ALSO)
		return cl_error_set(error, -EPROTO, "it sent too many ALSO in a row, where they have no place");
	stream->also[stream->nr_also++] = stream->run;
	stream->run.nr_pages = 0;
	return 0;
}

/* Whether this message may follow those ALSO that there were. */
static bool fits_also(const struct cl_push_stream *stream, const struct cl_push_header *header)
{
	unsigned int i;

	if (stream->nr_also && header->type != CL_PUSH_ALSO && header->type != CL_PUSH_PAGES && header->type != CL_PUSH_PACKED)
		return false;
	for (i = 0; i < stream->nr_also; i++)
		if (stream->also[i].nr_pages != header->nr_pages)
			return false;
	return true;
}

/* Whether it has pages in a form that this server may send on this stream. */
static bool may_come(const struct cl_engine *engine, const struct cl_push_stream *stream, const struct cl_push_header *header)
{
	switch (header->type) {
	case CL_PUSH_PAGES:
	case CL_PUSH_ZERO:
		return true;
	case CL_PUSH_SAME:
		return engine->push->has_store;
	case CL_PUSH_PACKED:
		return cl_codec_has_lz4();
	case CL_PUSH_ALSO:
		return stream->number;
	default:
		return false;
	}
}

/* A message's header. Lock held; dropped while copying. 0, or error->code: -EPROTO, -ESTALE. */
static int begin(struct cl_engine *engine, struct cl_push_stream *stream, const uint8_t *at, struct cl_error *error)
{
	struct cl_push_header header;

	if (cl_push_unpack(at, &header) < 0)
		return cl_error_set(error, -EPROTO, "it sent a damaged message");
	if (header.type == CL_PUSH_CLOSED && engine->push->closing && !stream->number) {
		engine->push->confirmed = true;
		pthread_cond_broadcast(&engine->gate);
		return 0;
	}
	if (!may_come(engine, stream, &header) || !fits_also(stream, &header))
		return cl_error_set(error, -EPROTO, "it sent what only a client sends, or where or when it has no place");
	stream->run.image = cl_image_find(engine->images, header.dst_id);
	stream->run.vaddr = header.vaddr;
	stream->run.nr_pages = header.nr_pages;
	stream->run.packed_bytes = header.type == CL_PUSH_PACKED ? header.bytes : 0;
	if (!stream->run.image || !cl_image_has_remote(stream->run.image, header.vaddr, header.nr_pages))
		return cl_error_set(error, -EPROTO, "it sent pages that were not asked for");
	if (header.type == CL_PUSH_ALSO)
		return note_also(stream, error);
	if (header.type == CL_PUSH_ZERO)
		install_zeroes(engine, &stream->run);
	return header.type == CL_PUSH_SAME ? install_same(engine, stream, error) : 0;
}

/* Install a run that has come as a whole. Lock held; dropped while unpacking and copying. 0, or error->code: -EPROTO. */
static int install_packed(struct cl_engine *engine, struct cl_push_stream *stream, const uint8_t *packed,
			  struct cl_error *error)
{
	struct cl_push_run *run = &stream->run;
	int ret;

	pthread_mutex_unlock(&engine->lock);
	ret = cl_codec_unpack(packed, run->packed_bytes, stream->unpacked, run->nr_pages * CL_PAGE_SIZE);
	pthread_mutex_lock(&engine->lock);
	if (ret < 0)
		return cl_error_set(error, -EPROTO, "what it sent can't be unpacked");
	run->packed_bytes = 0;
	install_all(engine, stream, run->nr_pages, stream->unpacked);
	return 0;
}

/* Take what has come apart, and install it. Lock held; dropped while copying. 0, or error->code: -EPROTO, -ESTALE. */
static int understand(struct cl_engine *engine, struct cl_push_stream *stream, struct cl_error *error)
{
	struct cl_push_run *run = &stream->run;
	size_t at = 0;
	int ret = 0;

	while (ret == 0 && !engine->stopping) {
		size_t left = stream->filled - at;

		if (run->nr_pages == 0) {
			if (left < CL_PUSH_HEADER_BYTES)
				break;
			ret = begin(engine, stream, stream->buffer + at, error);
			at += CL_PUSH_HEADER_BYTES;
		} else if (run->packed_bytes) {
			size_t bytes = run->packed_bytes;

			if (left < bytes)
				break;
			ret = install_packed(engine, stream, stream->buffer + at, error);
			at += bytes;
		} else {
			uint64_t pages = left / CL_PAGE_SIZE;

			if (pages == 0)
				break;
			if (pages > run->nr_pages)
				pages = run->nr_pages;
			install_all(engine, stream, pages, stream->buffer + at);
			at += pages * CL_PAGE_SIZE;
		}
	}
	stream->filled -= at;
	memmove(stream->buffer, stream->buffer + at, stream->filled);
	return ret;
}

/* Lock held, so that nobody shuts down a descriptor that isn't ours any more. */
static void hang_up(struct cl_push_stream *stream)
{
	cl_conn_close(&stream->conn);
	stream->window = 0;
}

/* ---- what is said ---- */

static int refused(const uint8_t *in, struct cl_error *error)
{
	switch (cl_push_unpack_refusal(in)) {
	case CL_PUSH_BUSY:
		return cl_error_set(error, -EBUSY, "it refuses: it serves another lazy-pages daemon");
	case CL_PUSH_OVER:
		return cl_error_set(error, -ESHUTDOWN, "it refuses: the source's dump is committed or rolled back");
	default:
		return cl_error_set(error, -EPROTO, "it refuses, for a reason that isn't known here");
	}
}

int cl_push_say_hello(struct cl_conn conn, int version, const struct cl_push_hello *hello,
		      struct cl_push_answer *answer, struct cl_error *error)
{
	uint8_t out[CL_PUSH_HELLO_MAX_BYTES], in[CL_PUSH_ANSWER_BYTES];
	int ret = cl_conn_send(conn, out, cl_push_pack_hello(version, hello, out));

	if (ret < 0)
		return cl_conn_error(ret, error);
	ret = cl_conn_receive_exactly(conn, in, 4, AGREE_TIMEOUT_S, error);
	if (ret < 0)
		return ret;
	*answer = (struct cl_push_answer){ .plain = in[0] | in[1] << 8 | in[2] << 16 }; /* small, or not ours */
	if (!cl_push_is_answer(in) && !cl_push_is_refusal(in))
		return 0;
	ret = cl_conn_receive_exactly(conn, in + 4, sizeof(in) - 4, AGREE_TIMEOUT_S, error);
	if (ret < 0)
		return ret;
	if (cl_push_is_refusal(in))
		return refused(in, error);
	if (cl_push_unpack_answer(in, answer) == 0)
		return 1;
	return cl_error_set(error, -EPROTO, "it speaks another version of the push protocol");
}

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
	struct cl_push_hello hello = { .nr_streams = engine->config.push_streams, .unpacks = cl_codec_has_lz4(),
				       .shares = true, .client = engine->client };
	struct cl_conn conn = { engine->remote.fd, engine->remote.tls };
	const uint8_t *store = engine->store && !engine->store_is_bad ? cl_store_token(engine->store) : NULL;
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
		cl_log(&engine->log, CL_LOG_WARN, "page server: it can't push, as the source's task is gone; its dump has the "
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
	engine->sending = true;
	while (!engine->stopping && !engine->lost) {
		for (bytes = 0; bytes < sizeof(out) && cl_schedule_demand(&engine->schedule, CL_REMOTE, &pick);
		     bytes += CL_PUSH_HEADER_BYTES) {
			struct cl_push_header get = { .type = CL_PUSH_GET,
						      .nr_pages = pick.nr_pages,
						      .vaddr = cl_image_vaddr(pick.image, pick.index),
						      .dst_id = (uint64_t)pick.image->pid };

			cl_push_pack(&get, out + bytes);
			engine->stats.requests++;
		}
		if (!bytes)
			break;
		ret = send_demand(engine, out, bytes);
		if (ret < 0)
			cl_engine_broken(engine, ret, NULL);
	}
	engine->sending = false;
	if (engine->lost)
		pthread_cond_signal(&engine->work);
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
	/* The lock is dropped now and then; meanwhile there can only be less that is missing. */
	for (image = engine->images; image && ret == 0; image = image->next)
		for (e = 0; e < image->nr_extents && ret == 0; e++) {
			const struct cl_extent *extent = &image->extents[e];

			if (cl_extent_source(extent) != CL_REMOTE)
				continue;
			for (to = extent[0].first; ret == 0 && next_missing(image, to, extent[1].first, &from, &to);) {
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
	return ret < 0 ? cl_conn_error(ret, error) : 0;
}

static int close_session(struct cl_engine *engine)
{
	struct cl_push_header done = { .type = CL_PUSH_DONE };
	uint8_t out[CL_PUSH_HEADER_BYTES];
	uint64_t deadline_us = cl_now_us() + CLOSE_TIMEOUT_S * 1000000ULL;
	int ret;

	if (!engine->push->on)
		return cl_requests_source.close(engine);
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
	return engine->push->confirmed ? 0 : ret;
}

static void tell_lost(struct cl_engine *engine, int32_t pid, uint64_t nr_pages, int signal)
{
	const struct cl_push_header message = { .type = CL_PUSH_LOST,
						.nr_pages = nr_pages,
						.vaddr = (uint64_t)signal,
						.dst_id = (uint64_t)pid };
	uint8_t out[CL_PUSH_HEADER_BYTES];

	if (!engine->push->on || engine->sending || engine->lost || engine->stopping) /* nobody to tell */
		return;
	cl_push_pack(&message, out);
	engine->sending = true;
	(void)send_demand(engine, out, sizeof(out));
	engine->sending = false;
}

/* ---- streams ---- */

/* The connection is lost: leave it, and wait until there is a session again. */
static void park(struct cl_engine *engine, struct cl_push_stream *stream)
{
	stream->run = (struct cl_push_run){ 0 };
	stream->nr_also = 0;
	stream->filled = 0;
	if (stream->number)
		hang_up(stream);
	engine->push->nr_parked++;
	pthread_cond_signal(&engine->work); /* who is to call again waits for us */
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
	struct cl_push_hello hello = { .stream = stream->number };
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
			ret = -ECONNRESET; /* it took us on the demand connection: the session is over */
		}
	}
	if (ret < 0)
		cl_engine_broken(engine, ret, error.text);
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
	/* Not for a little: every call costs. But now and then: when the kernel enlarges the buffer, it widens the window. */
	if (!stream->number || (window > stream->window / 8 * 7 && window < stream->window / 8 * 9 &&
				now_us - stream->window_us < WINDOW_US))
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
			      BUFFER_BYTES - stream->filled, &error);
	pthread_mutex_lock(&engine->lock);
	if (engine->stopping)
		return;
	if (got < 0 && engine->push->closing && stream->number) {
		hang_up(stream);
		return;
	}
	if (got < 0) {
		cl_engine_broken(engine, (int)got, error.text);
		return;
	}
	engine->lost_us = engine->lost ? engine->lost_us : 0;
	engine->stats.received_bytes += (uint64_t)got;
	cl_flow_delivered(&engine->flow, (uint64_t)got, cl_now_us());
	limit_window(engine, stream);
	stream->filled += (size_t)got;
	ret = understand(engine, stream, &error);
	if (ret < 0)
		cl_engine_broken(engine, ret, error.text);
}

static void *stream_work(void *argument)
{
	struct cl_push_stream *stream = argument;
	struct cl_engine *engine = stream->engine;

	cl_take_precedence();
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

/* ---- life ---- */

static int start(struct cl_engine *engine)
{
	struct cl_push *push = engine->push;
	char name[16];
	int ret = 0;

	pthread_mutex_lock(&engine->lock);
	while (push->nr_threads <= push->nr_streams && ret == 0) {
		struct cl_push_stream *stream = &push->streams[push->nr_threads];

		*stream = (struct cl_push_stream){ .engine = engine, .number = push->nr_threads, .conn.fd = -1 };
		stream->buffer = malloc(BUFFER_BYTES);
		stream->unpacked = malloc(CL_PUSH_PACKED_PAGES * CL_PAGE_SIZE);
		snprintf(name, sizeof(name), "cl-stream-%u", push->nr_threads);
		ret = stream->buffer && stream->unpacked ? cl_thread_start(&stream->thread, name, stream_work, stream) : -ENOMEM;
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

static void join(struct cl_engine *engine)
{
	struct cl_push *push = engine->push;
	unsigned int i;

	for (i = 0; i < push->nr_threads; i++) {
		pthread_join(push->streams[i].thread, NULL);
		free(push->streams[i].buffer);
		free(push->streams[i].unpacked);
	}
	pthread_mutex_lock(&engine->lock);
	push->nr_threads = 0;
	pthread_mutex_unlock(&engine->lock);
}

static void shut_down(struct cl_engine *engine)
{
	unsigned int i;

	if (engine->push->nr_threads)
		(void)shutdown(engine->remote.fd, SHUT_RDWR);
	for (i = 1; i < engine->push->nr_threads; i++)
		if (engine->push->streams[i].conn.fd >= 0)
			(void)shutdown(engine->push->streams[i].conn.fd, SHUT_RDWR);
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

static void each_stream(struct cl_engine *engine, void (*each)(const struct cl_engine *engine, int fd))
{
	unsigned int i;

	for (i = 1; i < engine->push->nr_threads; i++)
		each(engine, engine->push->streams[i].conn.fd);
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
	.each_stream = each_stream,
	.shut_down = shut_down,
	.start = start,
	.join = join,
	.free = release,
};
