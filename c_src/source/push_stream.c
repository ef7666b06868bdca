/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "base/bits.h"
#include "base/thread.h"
#include "source/push_server_state.h"
#include "source/push_sharing.h"
#include "wire/compression.h"

/* What a background socket may hold unsent: enough to keep it going while its thread reads the next batch. */
enum { UNSENT_BYTES = 128 << 10 };

/* How soon it is looked again whether more is compared: nobody tells, as those who compare give way to everybody. */
enum { COMPARED_US = 2000 };

struct batch {
	struct cl_push_task *task;
	struct cl_push_header header; /* nr_pages, vaddr, dst_id */
	bool client_stores;
	bool is_same;      /* known to be as in the store: any number of pages, not to be read */
	bool is_early;     /* for the store, which has no need of zero pages */
	uint16_t siblings; /* to be looked at, a bit each */
};

/* Take the pages in `mask`, by their `indices` in the image, off what is wanted, or put them back. Which ones changed. */
static uint64_t claim(struct cl_push_server *server, uint64_t session, struct cl_image *image, const uint64_t *indices,
		      uint64_t mask, bool back)
{
	uint64_t changed = 0, left;

	pthread_mutex_lock(&server->lock);
	for (left = server->session.number == session ? mask : 0; left; left &= left - 1) {
		unsigned int i = (unsigned int)__builtin_ctzll(left);

		if (cl_image_is_todo(image, CL_REMOTE, indices[i]) == back)
			continue;
		cl_image_set_todo(image, CL_REMOTE, indices[i], indices[i] + 1, back);
		changed |= 1ULL << i;
	}
	pthread_mutex_unlock(&server->lock);
	return changed;
}

/*
 * Of the pages that go whole: which are other tasks', too, at the same address, and wanted there. They are not wanted then
 * any more: should they not arrive, the session is over, and the client tells anew what it misses. Returns which
 * siblings share something.
 */
static uint16_t find_shared(struct cl_push_server *server, uint64_t session, const struct batch *batch,
			    const struct cl_push_common *common, struct cl_push_batch *out, const uint8_t *kinds)
{
	uint64_t indices[CL_PUSH_BATCH_PAGES], vaddr = batch->header.vaddr, mask, left, same;
	uint16_t hits = 0;
	unsigned int k, i;

	memset(out->also, 0, sizeof(out->also));
	for (k = 0; batch->siblings >> k; k++) {
		const struct cl_push_task *sibling = cl_push_sibling(&server->tasks, batch->task, k);

		for (mask = 0, left = common->pages[k]; left; left &= left - 1) {
			i = (unsigned int)__builtin_ctzll(left);
			indices[i] = cl_image_index(sibling->image, vaddr + i * (uint64_t)CL_PAGE_SIZE);
			if (kinds[i] == CL_PUSH_PAGES && indices[i] != CL_NO_PAGE)
				mask |= 1ULL << i;
		}
		mask = mask ? claim(server, session, sibling->image, indices, mask, false) : 0;
		if (!mask)
			continue;
		same = cl_push_same_pages(sibling, vaddr, mask, cl_push_batch_pages(out), cl_push_batch_scratch(out));
		if (mask & ~same)
			(void)claim(server, session, sibling->image, indices, mask & ~same, true);
		out->also_ids[k] = (uint64_t)sibling->image->pid;
		for (; same; same &= same - 1) {
			out->also[__builtin_ctzll(same)] |= (uint16_t)(1U << k);
			hits |= (uint16_t)(1U << k);
		}
	}
	return hits;
}

/* The next pages to push: of the task that faulted last first. Lock held. */
static bool take_batch(struct cl_push_server *server, struct batch *batch)
{
	uint64_t max_pages = cl_push_pace_batch_pages(&server->pace), index, nr_pages;
	size_t i;

	if (!server->session.going)
		return false;
	for (i = 0; i < server->tasks.nr; i++) {
		struct cl_push_task *task = &server->tasks.at[(server->near + i) % server->tasks.nr];
		struct cl_image *image = task->image;

		nr_pages = cl_image_take(image, CL_REMOTE, image->background[CL_REMOTE], true, max_pages, &index);
		if (!nr_pages)
			continue;
		image->background[CL_REMOTE] = index + nr_pages;
		batch->task = task;
		batch->header = (struct cl_push_header){ .nr_pages = nr_pages,
							 .vaddr = cl_image_vaddr(image, index),
							 .dst_id = (uint64_t)image->pid };
		batch->client_stores = server->session.stores;
		batch->is_same = batch->is_early = false;
		batch->siblings = server->session.shares ? cl_push_siblings_choose(&server->tasks, task) : 0;
		return true;
	}
	return false;
}

/*
 * The next run that is known to be as in the store: a few bytes stand for many pages, and the client gives them at once to
 * whoever waits. 0 pages: none here, but perhaps further on. Lock held.
 */
static bool take_same(struct cl_push_server *server, struct batch *batch)
{
	size_t i;

	for (i = 0; server->session.going && server->session.stores && i < server->tasks.nr; i++) {
		struct cl_push_task *task = &server->tasks.at[i];
		uint64_t index, nr_pages;

		if (!cl_push_compare_take(task, &index, &nr_pages))
			continue;
		*batch = (struct batch){ .task = task, .is_same = true };
		batch->header = (struct cl_push_header){ .type = CL_PUSH_SAME,
							 .nr_pages = nr_pages,
							 .vaddr = cl_image_vaddr(task->image, index),
							 .dst_id = (uint64_t)task->image->pid };
		return true;
	}
	return false;
}

/*
 * While the client's tasks are restored, and the link is idle: what has been compared so far, but for pages that are zero
 * now. What changed since it was stored is what they touch first. The client stores it: of that it will not say that it is
 * missing. *later: there may be more. Lock held.
 */
static bool take_early(struct cl_push_server *server, struct batch *batch, bool *later)
{
	uint64_t index, nr_pages;
	bool is_same;
	struct cl_push_task *task = cl_push_compare_take_early(server, cl_push_pace_batch_pages(&server->pace), &index,
							       &nr_pages, &is_same, later);

	if (!task)
		return false;
	*batch = (struct batch){ .task = task, .is_same = is_same, .is_early = true };
	batch->header = (struct cl_push_header){ .type = is_same ? CL_PUSH_SAME : 0,
						 .nr_pages = nr_pages,
						 .vaddr = cl_image_vaddr(task->image, index),
						 .dst_id = (uint64_t)task->image->pid };
	return true;
}

/* Send what waits. Lock held; dropped meanwhile. 0 or -errno. */
static int flush(struct cl_push_server *server, struct cl_push_batch *out)
{
	int ret;

	out->sent_bytes = 0;
	pthread_mutex_unlock(&server->lock);
	ret = cl_push_batch_flush(out);
	pthread_mutex_lock(&server->lock);
	cl_push_charge(server, out->sent_bytes);
	return ret;
}

/*
 * The next batch, when there is one and the rate allows it: for that it waits *held_us. What waits in `out` is sent before.
 * Lock held; dropped while waiting and sending. False: the session is over, or its connection.
 */
static bool await_batch(struct cl_push_server *server, uint64_t session, bool client_is_early, struct cl_push_batch *out,
			struct batch *batch, uint64_t *held_us)
{
	for (*held_us = 0; server->session.number == session;) {
		bool is_early = client_is_early && server->session.stores && !server->restored, later = false;
		uint64_t until_us = cl_push_pace_held_until(&server->pace), began_us;
		bool is_held = (server->session.going || is_early) && until_us;

		if (!is_held && (take_same(server, batch) || take_batch(server, batch) ||
				 (is_early && take_early(server, batch, &later))))
			return true;
		if (out->told_bytes) {
			if (flush(server, out) < 0)
				return false;
		} else if (is_held) {
			began_us = cl_now_us();
			(void)cl_cond_wait(&server->work, &server->lock, until_us);
			*held_us += cl_now_us() - began_us;
		} else if (later) {
			(void)cl_cond_wait(&server->work, &server->lock, cl_now_us() + COMPARED_US);
		} else {
			pthread_cond_wait(&server->work, &server->lock);
		}
	}
	return false;
}

/* Read a batch and send it; the rate held it back for held_us. *hits: the siblings it went to, too. 0 or -errno. */
static int push_batch(struct cl_push_server *server, uint64_t session, struct cl_push_batch *out, const struct batch *batch,
		      uint64_t held_us, uint16_t *hits)
{
	uint8_t *pages = cl_push_batch_pages(out), kinds[CL_PUSH_BATCH_PAGES];
	uint64_t began_us = cl_now_us(), i;
	struct cl_push_common common;
	int ret;

	cl_push_find_common(&server->tasks, batch->task, batch->siblings, &batch->header, &common);
	ret = cl_push_read_pages(server, batch->task, &batch->header, common.shared, pages);
	if (ret < 0)
		return ret;
	cl_push_find_kinds(server, &batch->header, pages, batch->client_stores, kinds);
	for (i = 0; batch->is_early && i < batch->header.nr_pages; i++)
		kinds[i] = kinds[i] == CL_PUSH_ZERO ? 0 : kinds[i];
	*hits = find_shared(server, session, batch, &common, out, kinds);
	ret = cl_push_still_frozen(server, batch->task);
	return ret < 0 ? ret : cl_push_batch_send(out, &batch->header, kinds, began_us, held_us);
}

/* Tell of a run that is known to be as in the store. 0 or -errno. */
static int tell_same(struct cl_push_server *server, struct cl_push_batch *out, const struct batch *batch)
{
	int ret;

	out->sent_bytes = out->zero_pages = out->packed_pages = out->also_pages = 0;
	out->same_pages = batch->header.nr_pages;
	if (!batch->header.nr_pages)
		return 0;
	ret = cl_push_still_frozen(server, batch->task);
	return ret < 0 ? ret : cl_push_batch_tell(out, &batch->header);
}

int cl_push_serve_stream(struct cl_push_server *server, struct cl_conn conn, uint64_t session,
			 const struct cl_push_hello *hello)
{
	struct cl_push_in_flight *sent = &server->session.sent[hello->stream];
	struct cl_push_batch out;
	const int unsent = UNSENT_BYTES;
	struct batch batch;
	uint64_t held_us, written;
	uint16_t hits;
	int ret = cl_push_batch_init(&out);

	(void)setsockopt(conn.fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
	out.conn = conn;
	written = cl_push_in_flight_written(conn.fd);
	pthread_mutex_lock(&server->lock);
	cl_packing_init(&out.packing, server->session.unpacks);
	while (ret == 0 && await_batch(server, session, hello->early, &out, &batch, &held_us)) {
		cl_push_in_flight_begin(sent, batch.task, cl_image_index(batch.task->image, batch.header.vaddr),
					batch.header.nr_pages, written, out.packing.way != CL_AS_IT_IS);
		pthread_mutex_unlock(&server->lock);
		hits = 0;
		ret = batch.is_same ? tell_same(server, &out, &batch) :
				      push_batch(server, session, &out, &batch, held_us, &hits);
		/* Not so that a demand page would wait for it: to a client without a store it goes at once. */
		if (ret == 0 && !((batch.client_stores || batch.is_same) && cl_push_batch_may_wait(&out)))
			ret = cl_push_batch_flush(&out);
		written = cl_push_in_flight_written(conn.fd);
		pthread_mutex_lock(&server->lock);
		if (ret < 0 || server->session.number != session)
			break;
		cl_push_in_flight_end(sent, written);
		server->info.pushed_pages += batch.header.nr_pages;
		server->info.zero_pages += out.zero_pages;
		server->info.same_pages += out.same_pages;
		server->info.known_pages += batch.is_same ? out.same_pages : 0;
		server->info.packed_pages += out.packed_pages;
		server->info.also_pages += out.also_pages;
		cl_push_siblings_note(batch.task, batch.header.nr_pages, batch.siblings, hits);
		cl_push_charge(server, out.sent_bytes);
	}
	pthread_mutex_unlock(&server->lock);
	cl_push_batch_free(&out);
	return ret;
}
