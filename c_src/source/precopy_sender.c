/* SPDX-License-Identifier: Apache-2.0 */
#include "source/precopy_sender.h"

#include <errno.h>
#include <linux/sockios.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/thread.h"
#include "source/precopy_scan.h"
#include "source/push_batch.h"
#include "task/proc_pagemap.h"
#include "task/soft_dirty.h"

enum { MAX_THREADS = 16 };

struct cl_precopy {
	struct cl_precopy_config config;
	struct cl_log log;
	pthread_mutex_t lock, sending;
	pthread_cond_t changed;
	enum cl_precopy_state state;
	struct cl_conn conn;         /* the store's, while CONNECTED */
	unsigned int client_unpacks; /* ways, a bit each */
	uint8_t token[CL_PUSH_TOKEN_BYTES];
	/* Of what was sent on this connection; changed by a round, or with none under way: */
	struct cl_hashes *hashes;
	struct cl_soft_dirty *dirty;
	bool busy; /* a round or the end is under way, and uses conn */
	bool stopping;
	uint64_t number, asked, confirmed; /* rounds */
	bool end_asked, end_confirmed;
	struct cl_push_pace pace;
	struct round *round; /* under way, or NULL */
};

/* ---- life ---- */

struct cl_precopy *cl_precopy_new(const struct cl_precopy_config *config, struct cl_error *error)
{
	struct cl_precopy *precopy;
	struct cl_hashes *hashes;
	struct cl_soft_dirty *dirty;

	if (!cl_hashes_supported()) {
		cl_error_set(error, -ENOSYS, "--precopy: this criu-lazy was built without xxHash (libxxhash-dev)");
		return NULL;
	}
	hashes = cl_hashes_new();
	dirty = cl_soft_dirty_new();
	precopy = calloc(1, sizeof(*precopy));
	if (!hashes || !dirty || !precopy) {
		cl_hashes_free(hashes);
		cl_soft_dirty_free(dirty);
		free(precopy);
		cl_error_set(error, -ENOMEM, "no memory or no random numbers");
		return NULL;
	}
	precopy->hashes = hashes;
	precopy->dirty = dirty;
	precopy->config = *config;
	precopy->log = (struct cl_log){
		.fd = config->log_fd, .level = config->log_level, .start_us = cl_now_us(), .from = "page-server"
	};
	precopy->conn.fd = -1;
	cl_push_pace_set(&precopy->pace, config->rate);
	pthread_mutex_init(&precopy->lock, NULL);
	pthread_mutex_init(&precopy->sending, NULL);
	cl_cond_init(&precopy->changed);
	return precopy;
}

void cl_precopy_free(struct cl_precopy *precopy)
{
	if (!precopy)
		return;
	cl_hashes_free(precopy->hashes);
	cl_soft_dirty_free(precopy->dirty);
	pthread_cond_destroy(&precopy->changed);
	pthread_mutex_destroy(&precopy->sending);
	pthread_mutex_destroy(&precopy->lock);
	free(precopy);
}

void cl_precopy_stop(struct cl_precopy *precopy)
{
	pthread_mutex_lock(&precopy->lock);
	precopy->stopping = true;
	if (precopy->conn.fd >= 0)
		(void)shutdown(precopy->conn.fd, SHUT_RDWR);
	pthread_cond_broadcast(&precopy->changed);
	pthread_mutex_unlock(&precopy->lock);
}

void cl_precopy_set_rate(struct cl_precopy *precopy, uint64_t bytes_per_s)
{
	bool was_limited;
	int unsent;

	pthread_mutex_lock(&precopy->lock);
	was_limited = precopy->pace.rate != 0;
	cl_push_pace_set(&precopy->pace, bytes_per_s);
	/* Megabytes may have been given to the socket, and would keep the link's queue full for long, at a rate like its own.
	 * (With a rate they never are; what is counted then is what isn't acknowledged, which on a long path is a lot.) */
	if (!was_limited && precopy->conn.fd >= 0 && ioctl(precopy->conn.fd, SIOCOUTQ, &unsent) == 0 && unsent > 0)
		cl_push_pace_owe(&precopy->pace, (uint64_t)unsent);
	pthread_cond_broadcast(&precopy->changed);
	pthread_mutex_unlock(&precopy->lock);
}

int cl_precopy_state(struct cl_precopy *precopy)
{
	int state;

	pthread_mutex_lock(&precopy->lock);
	state = precopy->state;
	pthread_mutex_unlock(&precopy->lock);
	return state;
}

const struct cl_hashes *cl_precopy_hashes(struct cl_precopy *precopy, uint8_t token[CL_PUSH_TOKEN_BYTES])
{
	bool complete;

	pthread_mutex_lock(&precopy->lock);
	complete = precopy->state == CL_PRECOPY_COMPLETE;
	memcpy(token, precopy->token, CL_PUSH_TOKEN_BYTES);
	pthread_mutex_unlock(&precopy->lock);
	return complete ? precopy->hashes : NULL;
}

/* ---- the store's connection ---- */

/* 0 or -errno. */
static int greet(struct cl_precopy *precopy, struct cl_conn conn, const struct cl_push_hello *hello)
{
	struct cl_push_answer answer = { .nr_streams = 1 };
	uint8_t out[CL_PUSH_ANSWER_BYTES];
	int ret = 0;

	if (getrandom(answer.token, sizeof(answer.token), 0) != (ssize_t)sizeof(answer.token))
		return -EIO;
	cl_push_pack_answer(&answer, out);
	pthread_mutex_lock(&precopy->lock);
	if (precopy->stopping || precopy->busy || precopy->state == CL_PRECOPY_CONNECTED ||
	    precopy->state == CL_PRECOPY_COMPLETE)
		ret = precopy->stopping ? -ESHUTDOWN : -EBUSY;
	if (ret == 0) {
		/* Nobody else sends before the answer: who has seen the new state waits for `sending`. */
		pthread_mutex_lock(&precopy->sending);
		memcpy(precopy->token, answer.token, sizeof(answer.token));
		precopy->client_unpacks = hello->unpacks;
		precopy->conn = conn;
		precopy->number = precopy->asked = precopy->confirmed = 0;
		precopy->end_asked = precopy->end_confirmed = false;
		precopy->state = CL_PRECOPY_CONNECTED;
	}
	pthread_mutex_unlock(&precopy->lock);
	if (ret == 0) {
		ret = cl_conn_send(conn, out, sizeof(out));
		pthread_mutex_unlock(&precopy->sending);
		if (ret < 0)
			(void)shutdown(conn.fd, SHUT_RDWR); /* receiving finds it lost */
		ret = 0;
	}
	return ret;
}

/* What the store says. Lock held. 0 or -EPROTO. */
static int note_stored(struct cl_precopy *precopy, const struct cl_push_header *header)
{
	if (header->type != CL_PUSH_STORED)
		return -EPROTO;
	if (!header->nr_pages && precopy->end_asked && precopy->confirmed == precopy->asked)
		precopy->end_confirmed = true;
	else if (header->nr_pages == precopy->asked && precopy->asked == precopy->confirmed + 1)
		precopy->confirmed = precopy->asked;
	else
		return -EPROTO;
	pthread_cond_broadcast(&precopy->changed);
	return 0;
}

void cl_precopy_serve(struct cl_precopy *precopy, struct cl_conn conn, const struct cl_push_hello *hello, const char *name)
{
	uint8_t raw[CL_PUSH_HEADER_BYTES];
	struct cl_push_header header;
	struct cl_error error = { 0 };
	bool stopping;
	int ret = greet(precopy, conn, hello);

	if (ret < 0) {
		cl_log(&precopy->log, CL_LOG_WARN, "store %s: refused: %s", name,
		       ret == -EBUSY ? "there is one" : strerror(-ret));
		return;
	}
	cl_log(&precopy->log, CL_LOG_INFO, "store %s connected", name);
	while (ret == 0 && !precopy->end_confirmed) { /* which only this thread sets */
		ret = cl_conn_receive_exactly(conn, raw, sizeof(raw), 0, &error);
		if (ret == 0)
			ret = cl_push_unpack(raw, &header);
		pthread_mutex_lock(&precopy->lock);
		if (ret == 0)
			ret = note_stored(precopy, &header);
		pthread_mutex_unlock(&precopy->lock);
	}
	if (ret < 0)
		(void)shutdown(conn.fd, SHUT_RDWR); /* who is sending wakes up */
	pthread_mutex_lock(&precopy->lock);
	precopy->state = ret < 0 ? CL_PRECOPY_LOST : CL_PRECOPY_COMPLETE;
	pthread_cond_broadcast(&precopy->changed);
	while (precopy->busy)
		pthread_cond_wait(&precopy->changed, &precopy->lock);
	precopy->conn.fd = -1;
	if (ret < 0) {
		cl_hashes_clear(precopy->hashes);
		cl_soft_dirty_forget(precopy->dirty);
	}
	stopping = precopy->stopping;
	pthread_mutex_unlock(&precopy->lock);
	if (ret < 0)
		cl_log(&precopy->log, stopping ? CL_LOG_INFO : CL_LOG_WARN, "store %s lost, and all that it has: %s", name,
		       ret == -EPROTO || ret == -EBADMSG ? "it broke the protocol" : error.text);
	else
		cl_log(&precopy->log, CL_LOG_INFO, "store %s is complete", name);
}

/* Begin to use the connection. Lock held. 0 or error->code. */
static int take_connection(struct cl_precopy *precopy, struct cl_error *error)
{
	int ret = precopy->stopping                      ? -ECANCELED :
		  precopy->busy                          ? -EBUSY :
		  precopy->state != CL_PRECOPY_CONNECTED ? -ENOTCONN :
							   0;

	if (ret < 0)
		return cl_error_set(error, ret, "%s",
				    ret == -ECANCELED                     ? "pre-copy was stopped" :
				    ret == -EBUSY                         ? "a round is under way" :
				    precopy->state == CL_PRECOPY_NONE     ? "no store is connected" :
				    precopy->state == CL_PRECOPY_COMPLETE ? "the store is complete" :
									    "the store was lost");
	precopy->busy = true;
	return 0;
}

/* The connection isn't used any more; `ret`: how that went. Lock held. 0 or error->code. */
static int leave_connection(struct cl_precopy *precopy, int ret, struct cl_error *error)
{
	precopy->busy = false;
	pthread_cond_broadcast(&precopy->changed);
	if (ret == 0)
		return 0;
	if (precopy->stopping)
		ret = -ECANCELED;
	else if (precopy->state == CL_PRECOPY_LOST || ret == -EPIPE || ret == -ECONNRESET)
		ret = -ENOTCONN;
	return cl_error_set(error, ret, "%s",
			    ret == -ECANCELED ? "pre-copy was stopped" :
			    ret == -ENOTCONN  ? "the store was lost" :
						strerror(-ret));
}

/* Ask the store to confirm, wait until it has. Lock held; dropped meanwhile. 0 or -errno. */
static int confirm(struct cl_precopy *precopy, const struct cl_push_header *header)
{
	struct cl_conn conn = precopy->conn;
	uint8_t message[CL_PUSH_HEADER_BYTES];
	int ret;

	if (header->type == CL_PUSH_END)
		precopy->end_asked = true;
	else
		precopy->asked = header->nr_pages;
	pthread_mutex_unlock(&precopy->lock);
	cl_push_pack(header, message);
	pthread_mutex_lock(&precopy->sending);
	ret = cl_conn_send(conn, message, sizeof(message));
	pthread_mutex_unlock(&precopy->sending);
	pthread_mutex_lock(&precopy->lock);
	while (ret == 0 && precopy->state == CL_PRECOPY_CONNECTED && !precopy->stopping &&
	       (header->type == CL_PUSH_END || precopy->confirmed < header->nr_pages))
		pthread_cond_wait(&precopy->changed, &precopy->lock);
	if (ret == 0 &&
	    !(header->type == CL_PUSH_END ? precopy->state == CL_PRECOPY_COMPLETE : precopy->confirmed == header->nr_pages))
		ret = -ECONNRESET;
	return ret;
}

/* ---- a round ---- */

struct round {
	struct cl_precopy *precopy;
	/* Under precopy's lock: */
	struct cl_precopy_scan scan;
	int error;
	bool cut; /* nothing more is sent */
	struct cl_precopy_round info;
};

void cl_precopy_cut(struct cl_precopy *precopy)
{
	pthread_mutex_lock(&precopy->lock);
	if (precopy->round)
		precopy->round->cut = true;
	pthread_cond_broadcast(&precopy->changed);
	pthread_mutex_unlock(&precopy->lock);
}

void cl_precopy_under_way(struct cl_precopy *precopy, struct cl_precopy_round *out)
{
	pthread_mutex_lock(&precopy->lock);
	*out = precopy->round ? precopy->round->info : (struct cl_precopy_round){ 0 };
	pthread_mutex_unlock(&precopy->lock);
}

struct worker {
	struct round *round;
	struct cl_push_batch out;
	uint64_t *pagemap; /* CL_PRECOPY_PIECE_PAGES */
	struct cl_hash zero;
};

/* Wait until the rate allows to send. *held_us: how long that was. How many pages may be sent then; 0: stop, or cut. */
static uint64_t await_rate(struct worker *worker, uint64_t *held_us, bool *cut)
{
	struct cl_precopy *precopy = worker->round->precopy;
	uint64_t until_us, began_us = cl_now_us(), max_pages = 0;

	*held_us = 0;
	pthread_mutex_lock(&precopy->lock);
	while (!worker->round->error && !worker->round->cut && !precopy->stopping &&
	       precopy->state == CL_PRECOPY_CONNECTED) {
		until_us = cl_push_pace_held_until(&precopy->pace);
		if (!until_us) {
			max_pages = cl_push_pace_batch_pages(&precopy->pace);
			break;
		}
		(void)cl_cond_wait(&precopy->changed, &precopy->lock, until_us);
		*held_us = cl_now_us() - began_us;
	}
	*cut = worker->round->cut;
	pthread_mutex_unlock(&precopy->lock);
	return max_pages;
}

/*
 * Read a batch of pages, and say of each whether it could be (1 or 0). shared: some are forked tasks', too, and are to stay
 * so. -ESRCH: the task has gone.
 */
static int read_batch(const struct cl_precopy_source *source, const struct cl_push_header *batch, bool shared,
		      uint8_t *pages, uint8_t *there)
{
	int (*read)(const struct cl_task_memory *, uint64_t, uint8_t *, size_t) = shared ? cl_task_memory_read_shared :
											   cl_task_memory_read;
	int ret = read(&source->memory, batch->vaddr, pages, batch->nr_pages * CL_PAGE_SIZE);
	uint64_t i;

	memset(there, ret == 0, batch->nr_pages);
	if (ret == 0 || ret == -ESRCH)
		return ret;
	for (i = 0; i < batch->nr_pages; i++) { /* some were unmapped meanwhile */
		ret = read(&source->memory, batch->vaddr + i * CL_PAGE_SIZE, pages + i * CL_PAGE_SIZE, CL_PAGE_SIZE);
		if (ret == -ESRCH)
			return ret;
		there[i] = ret == 0;
	}
	return 0;
}

/* Read these pages, which end before the next multiple of CL_HASHES_BYTES; send what was not sent as it is. */
static int send_changed(struct worker *worker, const struct cl_precopy_source *source, const struct cl_push_header *batch,
			bool shared, struct cl_hash *hashes, uint64_t held_us)
{
	struct cl_precopy *precopy = worker->round->precopy;
	uint8_t kinds[CL_PUSH_BATCH_PAGES], *pages = cl_push_batch_pages(&worker->out);
	struct cl_precopy_round *info = &worker->round->info;
	uint64_t i, began_us = cl_now_us(), nr_read = 0, nr_sent = 0;
	int ret = read_batch(source, batch, shared, pages, kinds);

	if (ret < 0)
		return ret;
	for (i = 0; i < batch->nr_pages; i++) {
		const uint8_t *page = pages + i * CL_PAGE_SIZE;
		bool zero = kinds[i] && cl_page_is_zero(page);
		struct cl_hash hash;

		if (!kinds[i])
			continue;
		nr_read++;
		hash = zero ? worker->zero : cl_hashes_of(precopy->hashes, page);
		kinds[i] = cl_hash_is(hash, hashes[i]) ? 0 : zero ? CL_PUSH_ZERO : CL_PUSH_PAGES;
		hashes[i] = hash; /* should sending fail, all are dropped */
		nr_sent += kinds[i] != 0;
	}
	ret = nr_sent ? cl_push_batch_send(&worker->out, batch, kinds, began_us, held_us) : 0;
	if (nr_sent && ret == 0)
		ret = cl_push_batch_flush(&worker->out);
	if (!nr_sent)
		worker->out.sent_bytes = worker->out.zero_pages = worker->out.packed_pages = 0;
	pthread_mutex_lock(&precopy->lock);
	info->scanned_pages += nr_read;
	info->sent_pages += nr_sent;
	info->zero_pages += worker->out.zero_pages;
	info->packed_pages += worker->out.packed_pages;
	info->sent_bytes += worker->out.sent_bytes;
	cl_push_pace_charge(&precopy->pace, worker->out.sent_bytes);
	if (nr_sent)
		cl_hashes_note_sent(precopy->hashes, source->id, batch->vaddr, batch->nr_pages, info->number);
	pthread_mutex_unlock(&precopy->lock);
	return ret == -ESRCH ? -EIO : ret; /* that is not said of a task */
}

/* Of the piece's nr pages' entries: those that were sent, and not written since, become 0. */
static void leave_unwritten(struct worker *worker, const struct cl_precopy_piece *piece, uint64_t nr)
{
	struct cl_precopy *precopy = worker->round->precopy;
	const struct cl_hash *hashes, none = { 0, 0 };
	uint64_t i, end, vaddr, nr_unread = 0;

	for (i = 0; i < nr; i = end) {
		vaddr = piece->from + i * CL_PAGE_SIZE;
		end = i + CL_HASHES_PAGES - vaddr / CL_PAGE_SIZE % CL_HASHES_PAGES;
		end = end < nr ? end : nr;
		pthread_mutex_lock(&precopy->lock);
		hashes = cl_hashes_find(precopy->hashes, piece->source->id, vaddr);
		pthread_mutex_unlock(&precopy->lock);
		for (; hashes && i < end; i++, hashes++) {
			if (!cl_entry_is_anonymous(worker->pagemap[i]) || worker->pagemap[i] & CL_ENTRY_SOFT_DIRTY ||
			    cl_hash_is(*hashes, none))
				continue;
			worker->pagemap[i] = 0;
			nr_unread++;
		}
	}
	pthread_mutex_lock(&precopy->lock);
	worker->round->info.unread_pages += nr_unread;
	pthread_mutex_unlock(&precopy->lock);
}

static int send_piece(struct worker *worker, const struct cl_precopy_piece *piece)
{
	struct cl_precopy *precopy = worker->round->precopy;
	struct cl_push_header batch = { .dst_id = (uint64_t)piece->source->id };
	uint64_t first = piece->from / CL_PAGE_SIZE, nr = piece->to / CL_PAGE_SIZE - first, i = 0, end, held_us;
	uint64_t (*read)(int, uint64_t, uint64_t *, uint64_t) = piece->source->tracked ? cl_soft_dirty_read :
											 cl_proc_pagemap_read;
	struct cl_hash *hashes;
	bool cut, shared;
	int ret = 0;

	nr = read(piece->source->pagemap_fd, piece->from, worker->pagemap, nr);
	if (piece->source->tracked)
		leave_unwritten(worker, piece, nr);
	while (ret == 0) {
		for (; i < nr && !cl_entry_is_anonymous(worker->pagemap[i]); i++)
			;
		if (i == nr)
			break;
		batch.nr_pages = await_rate(worker, &held_us, &cut);
		if (!batch.nr_pages)
			return cut ? 0 : -ECANCELED;
		end = (first + i) / CL_HASHES_PAGES * CL_HASHES_PAGES + CL_HASHES_PAGES - first;
		end = end < nr ? end : nr;
		end = end < i + batch.nr_pages ? end : i + batch.nr_pages;
		shared = false;
		for (batch.nr_pages = 0;
		     i + batch.nr_pages < end && cl_entry_is_anonymous(worker->pagemap[i + batch.nr_pages]);)
			shared |= !(worker->pagemap[i + batch.nr_pages++] & CL_ENTRY_EXCLUSIVE);
		batch.vaddr = (first + i) * CL_PAGE_SIZE;
		pthread_mutex_lock(&precopy->lock);
		hashes = cl_hashes_at(precopy->hashes, piece->source->id, batch.vaddr);
		pthread_mutex_unlock(&precopy->lock);
		ret = hashes ? send_changed(worker, piece->source, &batch, shared, hashes, held_us) : -ENOMEM;
		i += batch.nr_pages;
	}
	return ret == -ESRCH ? 0 : ret;
}

/* Its part of the round, until nothing is left or something fails. */
static void *work(void *argument)
{
	static const uint8_t zeroes[CL_PAGE_SIZE];
	struct round *round = argument;
	struct cl_precopy *precopy = round->precopy;
	struct worker worker = { .round = round, .zero = cl_hashes_of(precopy->hashes, zeroes) };
	struct cl_precopy_piece piece;
	int ret = cl_push_batch_init(&worker.out);

	worker.pagemap = calloc(CL_PRECOPY_PIECE_PAGES, sizeof(*worker.pagemap));
	if (!worker.pagemap)
		ret = -ENOMEM;
	worker.out.sending = &precopy->sending;
	pthread_mutex_lock(&precopy->lock);
	worker.out.conn = precopy->conn;
	cl_packing_init(&worker.out.packing, precopy->client_unpacks);
	while (ret == 0 && !round->error && !round->cut) {
		ret = cl_precopy_scan_next(&round->scan, &piece);
		if (ret <= 0)
			break;
		pthread_mutex_unlock(&precopy->lock);
		ret = send_piece(&worker, &piece);
		pthread_mutex_lock(&precopy->lock);
	}
	if (ret < 0 && !round->error)
		round->error = ret;
	pthread_mutex_unlock(&precopy->lock);
	cl_push_batch_free(&worker.out);
	free(worker.pagemap);
	return NULL;
}

static int send_round(struct round *round)
{
	unsigned int nr_threads = round->precopy->config.nr_threads, started = 0, i;
	pthread_t threads[MAX_THREADS];

	while (started + 1 < nr_threads && started < MAX_THREADS &&
	       cl_thread_start(&threads[started], "cl-precopy", work, round) == 0)
		started++;
	(void)work(round);
	for (i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	return round->error;
}

int cl_precopy_round(struct cl_precopy *precopy, const int32_t *ids, const int32_t *pids, size_t nr_tasks,
		     struct cl_precopy_round *out, struct cl_error *error)
{
	struct round round = { .precopy = precopy };
	struct cl_push_header end = { .type = CL_PUSH_ROUND };
	uint64_t began_us = cl_now_us();
	int ret;

	pthread_mutex_lock(&precopy->lock);
	ret = take_connection(precopy, error);
	if (ret == 0)
		end.nr_pages = round.info.number = ++precopy->number;
	pthread_mutex_unlock(&precopy->lock);
	if (ret < 0)
		return ret;
	cl_soft_dirty_begin(precopy->dirty, ids, pids, nr_tasks);
	ret = cl_precopy_scan_begin(&round.scan, precopy->dirty, ids, pids, nr_tasks);
	if (ret == 0) {
		pthread_mutex_lock(&precopy->lock);
		precopy->round = &round;
		pthread_mutex_unlock(&precopy->lock);
		ret = send_round(&round);
		pthread_mutex_lock(&precopy->lock);
		precopy->round = NULL;
		pthread_mutex_unlock(&precopy->lock);
	}
	cl_precopy_scan_end(&round.scan);
	pthread_mutex_lock(&precopy->lock);
	if (ret == 0)
		ret = confirm(precopy, &end);
	else if (precopy->state == CL_PRECOPY_CONNECTED)
		(void)shutdown(precopy->conn.fd, SHUT_RDWR); /* half a message may have gone */
	ret = leave_connection(precopy, ret, error);
	pthread_mutex_unlock(&precopy->lock);
	round.info.elapsed_us = cl_now_us() - began_us;
	round.info.was_cut = round.cut;
	*out = round.info;
	return ret;
}

int cl_precopy_finish(struct cl_precopy *precopy, struct cl_error *error)
{
	const struct cl_push_header end = { .type = CL_PUSH_END };
	int ret;

	pthread_mutex_lock(&precopy->lock);
	ret = take_connection(precopy, error);
	if (ret == 0)
		ret = leave_connection(precopy, confirm(precopy, &end), error);
	pthread_mutex_unlock(&precopy->lock);
	return ret;
}
