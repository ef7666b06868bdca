/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/thread.h"
#include "source/push_server_state.h"

enum { REQUESTS_BYTES = 512 * CL_PUSH_HEADER_BYTES };

/* Whether all these pages are on their way already, on some stream. Lock held, while a stream's socket is looked at. */
static bool have_left(const struct cl_push_server *server, const struct cl_push_task *task, uint64_t index,
		      uint64_t nr_pages)
{
	unsigned int k;

	for (; nr_pages; index++, nr_pages--) {
		for (k = 1; k <= server->info.nr_streams; k++)
			if (server->session.fds[k] >= 0 &&
			    cl_push_in_flight_has_left(&server->session.sent[k], server->session.fds[k], task, index))
				break;
		if (k > server->info.nr_streams)
			return false;
	}
	return true;
}

/* Whether one of these pages is to be pushed yet. Lock held. */
static bool is_wanted(const struct cl_push_task *task, uint64_t index, uint64_t nr_pages)
{
	return cl_shared_bits_find(&task->image->todo[CL_REMOTE], index, index + nr_pages, true) < index + nr_pages;
}

/* An answer couldn't overtake these pages. Returns 0. */
static int leave_to_stream(struct cl_push_server *server, uint64_t session, uint64_t nr_pages)
{
	pthread_mutex_lock(&server->lock);
	if (server->session.number == session)
		server->info.left_pages += nr_pages;
	pthread_mutex_unlock(&server->lock);
	return 0;
}

/* 0 or -errno. */
static int answer_get(struct cl_push_server *server, struct cl_conn conn, uint64_t session, const struct cl_push_header *get,
		      uint8_t *out)
{
	uint8_t *message = out - CL_PUSH_HEADER_BYTES;
	struct cl_push_header pages = *get;
	struct cl_push_task *task = cl_push_tasks_find(&server->tasks, get);
	uint8_t kinds[CL_PUSH_MAX_PAGES];
	bool client_stores, same = false, left = false;
	uint64_t index;
	int ret;

	if (!task || get->nr_pages > CL_PUSH_MAX_PAGES)
		return -EPROTO;
	index = cl_image_index(task->image, get->vaddr);
	pthread_mutex_lock(&server->lock);
	client_stores = server->session.stores && server->session.number == session;
	if (server->session.number == session) {
		/*
		 * With a store, an answer overtakes also what has left: before it on the stream there may be "as in the
		 * store", a few bytes that stand for many pages, which the client reads and installs one after the other.
		 */
		same = client_stores && cl_push_compare_is_same(task, index, get->nr_pages);
		/* What it said is missing since then it has dropped. */
		left = !client_stores && !is_wanted(task, index, get->nr_pages) &&
		       have_left(server, task, index, get->nr_pages);
		cl_image_set_todo(task->image, CL_REMOTE, index, index + get->nr_pages, false);
		server->near = (size_t)(task - server->tasks.at);
		task->image->background[CL_REMOTE] = index + get->nr_pages;
		server->info.asked_pages += get->nr_pages;
	}
	pthread_mutex_unlock(&server->lock);
	if (left)
		return leave_to_stream(server, session, get->nr_pages);
	ret = same ? 0 : cl_push_read_pages(server, task, &pages, server->tasks.nr > 1, out);
	if (ret == 0)
		ret = cl_push_still_frozen(server, task);
	if (ret < 0)
		return ret;
	memset(kinds, CL_PUSH_PAGES, get->nr_pages);
	/* One answer, so whole if a part of it is. */
	same = same || (client_stores && cl_push_find_same(server, get, out, kinds) == get->nr_pages);
	pages.type = same ? CL_PUSH_SAME : CL_PUSH_PAGES;
	pages.bytes = same ? 0 : (uint32_t)(get->nr_pages * CL_PAGE_SIZE);
	cl_push_pack(&pages, message);
	pthread_mutex_lock(&server->lock);
	if (server->session.number == session) {
		server->info.same_pages += same ? get->nr_pages : 0;
		cl_push_charge(server, CL_PUSH_HEADER_BYTES + pages.bytes);
	}
	pthread_mutex_unlock(&server->lock);
	return cl_conn_send(conn, message, CL_PUSH_HEADER_BYTES + pages.bytes);
}

/* Lock held. 0 or -EPROTO. */
static int note_missing(struct cl_push_server *server, const struct cl_push_header *missing)
{
	struct cl_push_task *task = cl_push_tasks_find(&server->tasks, missing);
	uint64_t index;

	if (!task)
		return -EPROTO;
	index = cl_image_index(task->image, missing->vaddr);
	cl_image_set_todo(task->image, CL_REMOTE, index, index + missing->nr_pages, true);
	return 0;
}

/* Lock held. */
static void note_lost(struct cl_push_server *server, const struct cl_push_header *header)
{
	if (!server->info.lost_tasks++) {
		server->info.lost_task = header->dst_id;
		server->info.lost_signal = (unsigned int)header->vaddr;
	}
	server->info.lost_pages += header->nr_pages;
	cl_log(&server->config.log, CL_LOG_ERROR, "the restored task %llu ended at the client with %llu pages missing",
	       (unsigned long long)header->dst_id, (unsigned long long)header->nr_pages);
}

/* What the client says; `rest`: what follows the header. 0 or -errno. */
static int obey(struct cl_push_server *server, struct cl_conn conn, uint64_t session, const struct cl_push_header *header,
		const uint8_t *rest, uint8_t *out)
{
	static const struct cl_push_header closed = { .type = CL_PUSH_CLOSED };
	bool done = header->type == CL_PUSH_DONE;
	int ret = 0;

	if (header->type == CL_PUSH_GET)
		return answer_get(server, conn, session, header, out);
	pthread_mutex_lock(&server->lock);
	if (server->session.number != session) {
		ret = -ECANCELED;
	} else if (header->type == CL_PUSH_MISSING) {
		ret = note_missing(server, header);
	} else if (header->type == CL_PUSH_LOST) {
		note_lost(server, header);
	} else if (header->type == CL_PUSH_STORE) {
		server->session.stores = server->config.stored && cl_push_same_token(rest, server->config.store_token);
		pthread_cond_broadcast(&server->work);
	} else if (header->type == CL_PUSH_GO || done) {
		server->session.going = !done;
		cl_push_compare_end(server); /* what is compared from now on is pushed */
		pthread_cond_broadcast(&server->work);
		server->restored = true;
		server->done = done;
		server->config.told(server->config.context, done ? CL_PUSH_TOLD_DONE : CL_PUSH_TOLD_MISSING, NULL,
				    server->client);
	} else {
		ret = -EPROTO;
	}
	pthread_mutex_unlock(&server->lock);
	if (ret < 0 || !done)
		return ret;
	cl_push_pack(&closed, out);
	return cl_conn_send(conn, out, CL_PUSH_HEADER_BYTES);
}

int cl_push_serve_demand(struct cl_push_server *server, struct cl_conn conn, uint64_t session, uint8_t *out)
{
	uint8_t in[REQUESTS_BYTES];
	struct cl_push_header header;
	struct cl_error error;
	size_t filled = 0, at;
	int64_t got;
	size_t rest;
	int ret;

	cl_become_urgent();
	for (;;) {
		got = cl_conn_receive(conn, in + filled, sizeof(in) - filled, &error);
		if (got < 0)
			return got == -ECONNRESET ? 0 : (int)got;
		filled += (size_t)got;
		for (at = 0; filled - at >= CL_PUSH_HEADER_BYTES; at += CL_PUSH_HEADER_BYTES + rest) {
			ret = cl_push_unpack(in + at, &header);
			if (ret == 0 && header.bytes && header.type != CL_PUSH_STORE)
				ret = -EPROTO; /* only STORE has something after it */
			rest = header.bytes;
			if (ret < 0)
				return ret;
			if (filled - at < CL_PUSH_HEADER_BYTES + rest)
				break;
			ret = obey(server, conn, session, &header, in + at + CL_PUSH_HEADER_BYTES, out);
			if (ret < 0)
				return ret;
		}
		filled -= at;
		memmove(in, in + at, filled);
	}
}
