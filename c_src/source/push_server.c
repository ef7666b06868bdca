/* SPDX-License-Identifier: Apache-2.0 */
#include "source/push_server.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "wire/compression.h"
#include "images/pages_local.h"
#include "base/thread.h"
#include "source/push_batch.h"
#include "source/push_in_flight.h"
#include "task/proc_pagemap.h"
#include "destination/address_space.h"
#include "task/task_memory.h"

enum {
	BUFFER_BYTES = CL_PUSH_HEADER_BYTES + CL_PUSH_MAX_PAGES * CL_PAGE_SIZE,
	REQUESTS_BYTES = 512 * CL_PUSH_HEADER_BYTES,
	/* What a background socket may hold unsent: enough to keep it going while its thread reads the next batch. */
	UNSENT_BYTES = 128 << 10,
	/* Whether a task shares pages is not looked at again for SHARE_PAUSE batches after SHARE_TRIES (not small) without any. */
	SHARE_TRIES = 4,
	SHARE_PAUSE = 16,
	SHARE_SMALL = 16, /* pages */
};

/* Another task, which may have pages in common with one. */
struct sibling {
	uint8_t misses; /* batches in a row */
	uint8_t pause;  /* batches left */
};

struct task {
	struct cl_image *image; /* todo[CL_REMOTE]: told missing and not sent yet */
	struct cl_taskmem memory;
	int frames_fd;          /* -1: not known */
	struct sibling siblings[CL_PUSH_MAX_ALSO]; /* the tasks that follow it, in a ring */
};

struct cl_push_server {
	struct cl_push_server_config config;
	struct task *tasks;
	size_t nr_tasks;
	struct cl_image *images;
	pthread_mutex_t lock;
	pthread_cond_t work;    /* there is something to push, or a session is over, or the rate has changed */
	uint64_t session;       /* its number */
	uint8_t token[CL_PUSH_TOKEN_BYTES];
	int fds[1 + CL_PUSH_MAX_STREAMS]; /* the session's connections, -1: none; [0], demand: without it there is none */
	struct cl_push_sent sent[1 + CL_PUSH_MAX_STREAMS]; /* by its streams; not used of [0] */
	bool client_unpacks;
	bool client_shares;
	bool client_stores;     /* it has the store whose pages' hashes we have */
	bool going;             /* it said GO: push */
	bool closed;            /* for ever */
	bool over; /* committed or rolled back: told to who still asks */
	bool gone;              /* a task: nobody is pushed to any more */
	bool alone;             /* there is no dump; set while `frozen` answers to nobody */
	uint64_t client;        /* whose session it is, or the last one was; 0: nobody's */
	bool restored;          /* it said GO, ever */
	bool done;              /* it said last that it misses nothing */
	bool told_over;         /* it was refused with that word */
	size_t near;            /* the task of the last demand page: goes first */
	struct cl_push_pace pace;
	struct cl_push_server_info info;
};

/* ---- life ---- */

static int open_task(struct cl_push_server *server, const struct cl_push_server_config *config, size_t i, char *error,
		     size_t error_size)
{
	struct task *task = &server->tasks[i];
	struct cl_pages_local pages;
	int ret;

	ret = cl_image_load(config->images_fd, config->ids[i], NULL, 0, false, &task->image, &pages, error, error_size);
	if (ret < 0)
		return ret;
	cl_pages_local_close(&pages);
	task->image->next = server->images;
	server->images = task->image;
	ret = cl_taskmem_open(&task->memory, config->pids[i]);
	if (ret < 0)
		snprintf(error, error_size, "memory of task %d (pid %d here): %s", config->ids[i], config->pids[i],
			 strerror(-ret));
	if (ret == 0 && config->nr_tasks > 1)
		task->frames_fd = cl_resident_open(config->pids[i]); /* or nothing is shared */
	return ret;
}

int cl_push_server_new(const struct cl_push_server_config *config, struct cl_push_server **out, char *error,
		       size_t error_size)
{
	struct cl_push_server *server = calloc(1, sizeof(*server));
	int ret = 0;

	*out = server;
	if (server)
		server->tasks = calloc(config->nr_tasks + 1, sizeof(*server->tasks));
	if (!server || !server->tasks) {
		free(server);
		snprintf(error, error_size, "no memory");
		return -ENOMEM;
	}
	server->config = *config;
	server->client = config->client;
	server->gone = config->gone;
	server->restored = config->client != 0;
	memset(server->fds, -1, sizeof(server->fds));
	pthread_mutex_init(&server->lock, NULL);
	cl_cond_init(&server->work);
	for (; ret == 0 && server->nr_tasks < config->nr_tasks; server->nr_tasks++) {
		server->tasks[server->nr_tasks].memory = cl_taskmem_closed(config->pids[server->nr_tasks]);
		server->tasks[server->nr_tasks].frames_fd = -1;
		ret = open_task(server, config, server->nr_tasks, error, error_size);
	}
	if (ret < 0)
		cl_push_server_free(server);
	return ret;
}

void cl_push_server_free(struct cl_push_server *server)
{
	size_t i;

	if (!server)
		return;
	for (i = 0; i < server->nr_tasks; i++) {
		cl_taskmem_close(&server->tasks[i].memory);
		if (server->tasks[i].frames_fd >= 0)
			close(server->tasks[i].frames_fd);
		if (server->tasks[i].image)
			cl_image_free(server->tasks[i].image);
	}
	pthread_cond_destroy(&server->work);
	pthread_mutex_destroy(&server->lock);
	free(server->tasks);
	free(server);
}

/* ---- the session ---- */

/* Lock held. */
static void end_session(struct cl_push_server *server)
{
	unsigned int i;

	for (i = 0; i < sizeof(server->fds) / sizeof(server->fds[0]); i++) {
		if (server->fds[i] >= 0)
			(void)shutdown(server->fds[i], SHUT_RDWR);
		server->fds[i] = -1;
	}
	server->going = false;
	server->session++;
	server->info.nr_streams = 0;
	pthread_cond_broadcast(&server->work);
}

/* Lock held. */
static void set_wanted(struct cl_image *image, uint64_t from, uint64_t to, bool wanted)
{
	uint64_t changed = cl_bits_assign(image->todo[CL_REMOTE], from, to, wanted);

	image->nr_todo[CL_REMOTE] += wanted ? changed : -changed;
}

/* Lock held. */
static enum cl_push_admission admission(const struct cl_push_server *server, uint64_t client)
{
	bool taken = server->fds[0] >= 0 || server->restored;

	if (server->closed)
		return server->over ? CL_PUSH_REFUSED_OVER : CL_PUSH_NOT_NOW;
	/* Among those without a name it can't be told who is who. */
	if (taken && client != server->client && !(client == 0 && server->client == CL_PUSH_UNNAMED))
		return CL_PUSH_REFUSED_BUSY;
	return server->gone ? CL_PUSH_PLAIN : CL_PUSH_ADMITTED;
}

enum cl_push_admission cl_push_server_admits(struct cl_push_server *server, uint64_t client)
{
	enum cl_push_admission result;

	pthread_mutex_lock(&server->lock);
	result = admission(server, client);
	pthread_mutex_unlock(&server->lock);
	return result;
}

/* A new session, its number in *session, instead of the one that there may be. 0 or -errno. */
static int open_session(struct cl_push_server *server, int fd, const struct cl_push_hello *hello, uint64_t *session,
			struct cl_push_answer *answer, const char *name)
{
	size_t i;

	*answer = (struct cl_push_answer){ .nr_streams = hello->nr_streams };
	if (getrandom(answer->token, sizeof(answer->token), 0) != (ssize_t)sizeof(answer->token))
		return -EIO;
	pthread_mutex_lock(&server->lock);
	if (admission(server, hello->client) != CL_PUSH_ADMITTED) {
		pthread_mutex_unlock(&server->lock);
		return -EBUSY;
	}
	end_session(server);
	server->client = hello->client;
	for (i = 0; i < server->nr_tasks; i++) {
		set_wanted(server->tasks[i].image, 0, server->tasks[i].image->nr_pages, false);
		server->tasks[i].image->background[CL_REMOTE] = 0;
		memset(server->tasks[i].siblings, 0, sizeof(server->tasks[i].siblings));
	}
	memcpy(server->token, answer->token, sizeof(server->token));
	server->client_unpacks = hello->unpacks && cl_codec_has_lz4();
	server->client_shares = hello->shares;
	server->client_stores = false;
	memset(server->sent, 0, sizeof(server->sent));
	server->fds[0] = fd;
	server->info.sessions++;
	server->info.lost_tasks = 0; /* it tells anew */
	server->info.lost_pages = 0;
	server->info.nr_streams = hello->nr_streams;
	*session = server->session;
	server->config.told(server->config.context, CL_PUSH_TOLD_BEGUN, name, server->client);
	pthread_mutex_unlock(&server->lock);
	return 0;
}

/* Whether two tokens are the same, in the same time whatever they are. */
static bool same_token(const uint8_t *a, const uint8_t *b)
{
	uint8_t differs = 0;
	size_t i;

	for (i = 0; i < CL_PUSH_TOKEN_BYTES; i++)
		differs |= a[i] ^ b[i];
	return !differs;
}

static int join_session(struct cl_push_server *server, int fd, const struct cl_push_hello *hello, uint64_t *session)
{
	bool known;

	pthread_mutex_lock(&server->lock);
	known = server->fds[0] >= 0 && hello->stream <= server->info.nr_streams && server->fds[hello->stream] < 0 &&
		same_token(hello->token, server->token);
	if (known)
		server->fds[hello->stream] = fd;
	*session = server->session;
	pthread_mutex_unlock(&server->lock);
	return known ? 0 : -EPERM;
}

/* This connection is over, and with it the session, if that isn't over yet. */
static void leave_session(struct cl_push_server *server, uint64_t session)
{
	pthread_mutex_lock(&server->lock);
	if (server->session == session) {
		end_session(server);
		server->config.told(server->config.context, CL_PUSH_TOLD_ENDED, NULL, server->client);
	}
	pthread_mutex_unlock(&server->lock);
}

/* ---- pages ---- */

static struct task *find_task(struct cl_push_server *server, uint64_t id)
{
	size_t i;

	for (i = 0; i < server->nr_tasks; i++)
		if ((uint64_t)server->tasks[i].image->pid == id)
			return &server->tasks[i];
	return NULL;
}

/* Of a range that a client named: its task, if all of it is lazy pages. */
static struct task *check_range(struct cl_push_server *server, const struct cl_push_header *header)
{
	struct task *task = find_task(server, header->dst_id);

	return task && cl_image_has_remote(task->image, header->vaddr, header->nr_pages) ? task : NULL;
}

/* The task has gone, killed by somebody; the dump has its pages still, for those who ask. */
static void stop_pushing(struct cl_push_server *server, const struct task *task)
{
	bool is_news;

	pthread_mutex_lock(&server->lock);
	is_news = !server->gone;
	server->gone = true;
	pthread_mutex_unlock(&server->lock);
	if (!is_news)
		return;
	cl_log(&server->config.log, CL_LOG_ERROR, "the frozen task %d was killed: its pages are served from the dump, and "
	       "nothing is pushed any more", task->image->pid);
	cl_push_server_end(server, CL_PUSH_END_SESSION);
}

/* Without a dump: what is missing of this task can't be had any more. */
static int lose_source(struct cl_push_server *server, const struct task *task, const char *why)
{
	cl_log(&server->config.log, CL_LOG_ERROR, "the source task %d %s: no page is sent any more", task->image->pid, why);
	cl_push_server_end(server, CL_PUSH_END_LOST);
	pthread_mutex_lock(&server->lock);
	server->config.told(server->config.context, CL_PUSH_TOLD_LOST, NULL, server->client);
	pthread_mutex_unlock(&server->lock);
	return -EOWNERDEAD;
}

/* shared: other tasks may have these pages, too, and are to keep them. */
static int read_pages(struct cl_push_server *server, const struct task *task, const struct cl_push_header *header,
		      bool shared, uint8_t *out)
{
	int ret = (shared ? cl_taskmem_read_shared : cl_taskmem_read)(&task->memory, header->vaddr, out,
								       header->nr_pages * CL_PAGE_SIZE);

	if (ret < 0 && ret != -ESRCH)
		cl_log(&server->config.log, CL_LOG_ERROR, "memory of task %d at %#llx: %s", task->image->pid,
		       (unsigned long long)header->vaddr, strerror(-ret));
	if (ret == -ESRCH && server->alone)
		return lose_source(server, task, "was killed");
	if (ret == -ESRCH)
		stop_pushing(server, task);
	return ret;
}

/*
 * What was read so far was read of a frozen task: 0. Should nobody hold it any more it runs on, and what is read then is not
 * what the restored one lacks: -EOWNERDEAD, and nobody gets anything any more.
 */
static int still_frozen(struct cl_push_server *server, const struct task *task)
{
	bool held = server->config.frozen(server->config.context);

	if (held && server->alone && !cl_taskmem_is_stopped(&task->memory))
		return lose_source(server, task, "does not stay stopped");
	if (held)
		return 0;
	cl_log(&server->config.log, CL_LOG_WARN, "the dump has ended, and holds its tasks no more: no page is sent any more");
	cl_push_server_end(server, CL_PUSH_END_LOST);
	return -EOWNERDEAD;
}

/* It was sent. Lock held. */
static void charge(struct cl_push_server *server, uint64_t bytes)
{
	server->info.sent_bytes += bytes;
	cl_push_pace_charge(&server->pace, bytes);
}

/* Of the pages that were to go whole, as they were read: those that are in the store need not. How many. */
static uint64_t find_same(struct cl_push_server *server, const struct cl_push_header *header, const uint8_t *pages,
			uint8_t *kinds)
{
	const struct cl_hash *stored = NULL;
	uint64_t i, nr_same = 0;

	for (i = 0; i < header->nr_pages; i++) {
		uint64_t vaddr = header->vaddr + i * CL_PAGE_SIZE;
		const uint8_t *page = pages + i * CL_PAGE_SIZE;

		if (!i || vaddr % CL_HASHES_BYTES == 0)
			stored = cl_hashes_find(server->config.stored, (int32_t)header->dst_id, vaddr);
		else if (stored)
			stored++;
		if (kinds[i] == CL_PUSH_PAGES && stored && cl_hash_is(*stored, cl_hashes_of(server->config.stored, page))) {
			kinds[i] = CL_PUSH_SAME;
			nr_same++;
		}
	}
	return nr_same;
}

/* ---- demand ---- */

/* Whether all these pages are on their way already, on some stream. Lock held, while a stream's socket is looked at. */
static bool have_left(const struct cl_push_server *server, const struct task *task, uint64_t index, uint64_t nr_pages)
{
	unsigned int k;

	for (; nr_pages; index++, nr_pages--) {
		for (k = 1; k <= server->info.nr_streams; k++)
			if (server->fds[k] >= 0 && cl_push_sent_has_left(&server->sent[k], server->fds[k], task, index))
				break;
		if (k > server->info.nr_streams)
			return false;
	}
	return true;
}

/* 0 or -errno. */
static int answer_get(struct cl_push_server *server, struct cl_conn conn, uint64_t session,
		      const struct cl_push_header *get, uint8_t *out)
{
	struct cl_push_header pages = *get;
	struct task *task = check_range(server, get);
	uint8_t kinds[CL_PUSH_MAX_PAGES];
	bool client_stores, same, left = false;
	uint64_t index;
	int ret;

	if (!task || get->nr_pages > CL_PUSH_MAX_PAGES)
		return -EPROTO;
	index = cl_image_index(task->image, get->vaddr);
	pthread_mutex_lock(&server->lock);
	client_stores = server->client_stores && server->session == session;
	if (server->session == session) {
		left = have_left(server, task, index, get->nr_pages);
		set_wanted(task->image, index, index + get->nr_pages, false);
		server->near = (size_t)(task - server->tasks);
		task->image->background[CL_REMOTE] = index + get->nr_pages;
		server->info.asked_pages += get->nr_pages;
		server->info.left_pages += left ? get->nr_pages : 0;
	}
	pthread_mutex_unlock(&server->lock);
	if (left) /* it couldn't overtake them */
		return 0;
	ret = read_pages(server, task, &pages, server->nr_tasks > 1, out + CL_PUSH_HEADER_BYTES);
	if (ret == 0)
		ret = still_frozen(server, task);
	if (ret < 0)
		return ret;
	memset(kinds, CL_PUSH_PAGES, get->nr_pages);
	/* One answer, so whole if a part of it is. */
	same = client_stores && find_same(server, get, out + CL_PUSH_HEADER_BYTES, kinds) == get->nr_pages;
	pages.type = same ? CL_PUSH_SAME : CL_PUSH_PAGES;
	pages.bytes = same ? 0 : (uint32_t)(get->nr_pages * CL_PAGE_SIZE);
	cl_push_pack(&pages, out);
	pthread_mutex_lock(&server->lock);
	if (server->session == session) {
		server->info.same_pages += same ? get->nr_pages : 0;
		charge(server, CL_PUSH_HEADER_BYTES + pages.bytes);
	}
	pthread_mutex_unlock(&server->lock);
	return cl_conn_send(conn, out, CL_PUSH_HEADER_BYTES + pages.bytes);
}

/* Lock held. 0 or -EPROTO. */
static int note_missing(struct cl_push_server *server, const struct cl_push_header *missing)
{
	struct task *task = check_range(server, missing);
	uint64_t index;

	if (!task)
		return -EPROTO;
	index = cl_image_index(task->image, missing->vaddr);
	set_wanted(task->image, index, index + missing->nr_pages, true);
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
static int obey(struct cl_push_server *server, struct cl_conn conn, uint64_t session,
		const struct cl_push_header *header, const uint8_t *rest, uint8_t *out)
{
	static const struct cl_push_header closed = { .type = CL_PUSH_CLOSED };
	bool done = header->type == CL_PUSH_DONE;
	int ret = 0;

	if (header->type == CL_PUSH_GET)
		return answer_get(server, conn, session, header, out);
	pthread_mutex_lock(&server->lock);
	if (server->session != session) {
		ret = -ECANCELED;
	} else if (header->type == CL_PUSH_MISSING) {
		ret = note_missing(server, header);
	} else if (header->type == CL_PUSH_LOST) {
		note_lost(server, header);
	} else if (header->type == CL_PUSH_STORE) {
		server->client_stores = server->config.stored && same_token(rest, server->config.store_token);
	} else if (header->type == CL_PUSH_GO || done) {
		server->going = !done;
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

static int serve_demand(struct cl_push_server *server, struct cl_conn conn, uint64_t session, uint8_t *out)
{
	uint8_t in[REQUESTS_BYTES];
	struct cl_push_header header;
	size_t filled = 0, at;
	struct cl_error error;
	int64_t got;
	size_t rest;
	int ret;

	cl_take_precedence();
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

/* ---- background ---- */

struct batch {
	struct task *task;
	struct cl_push_header header; /* nr_pages, vaddr, dst_id */
	bool client_stores;
	uint16_t siblings;            /* to be looked at, a bit each */
};

static struct task *sibling_of(struct cl_push_server *server, const struct task *task, unsigned int k)
{
	return &server->tasks[((size_t)(task - server->tasks) + 1 + k) % server->nr_tasks];
}

/* Which siblings to look at for pages in common. Lock held. */
static uint16_t choose_siblings(struct cl_push_server *server, struct task *task)
{
	uint16_t chosen = 0;
	unsigned int k;

	if (!server->client_shares || task->frames_fd < 0)
		return 0;
	for (k = 0; k < CL_PUSH_MAX_ALSO && k + 1 < server->nr_tasks; k++) {
		if (task->siblings[k].pause)
			task->siblings[k].pause--;
		else if (sibling_of(server, task, k)->frames_fd >= 0)
			chosen |= (uint16_t)(1U << k);
	}
	return chosen;
}

/* They were looked at for nr_pages, and those in `hits` had some. Lock held. */
static void note_siblings(struct task *task, uint64_t nr_pages, uint16_t chosen, uint16_t hits)
{
	unsigned int k;

	for (k = 0; k < CL_PUSH_MAX_ALSO; k++) {
		struct sibling *sibling = &task->siblings[k];

		if (hits >> k & 1) {
			sibling->misses = 0;
		} else if (chosen >> k & 1 && nr_pages >= SHARE_SMALL && ++sibling->misses >= SHARE_TRIES) {
			sibling->misses = SHARE_TRIES - 1;
			sibling->pause = SHARE_PAUSE;
		}
	}
}

/* Take the pages in `mask`, by their `indices` in the image, off what is wanted, or put them back. Which ones changed. */
static uint64_t claim(struct cl_push_server *server, uint64_t session, struct cl_image *image, const uint64_t *indices,
		      uint64_t mask, bool back)
{
	uint64_t changed = 0, left;

	pthread_mutex_lock(&server->lock);
	for (left = server->session == session ? mask : 0; left; left &= left - 1) {
		unsigned int i = (unsigned int)__builtin_ctzll(left);

		if (cl_bit_get(image->todo[CL_REMOTE], indices[i]) == back)
			continue;
		set_wanted(image, indices[i], indices[i] + 1, back);
		changed |= 1ULL << i;
	}
	pthread_mutex_unlock(&server->lock);
	return changed;
}

/* Which of these pages the task has the same, by reading and comparing. */
static uint64_t compare(const struct task *task, uint64_t vaddr, uint64_t mask, const uint8_t *pages, uint8_t *scratch)
{
	uint64_t same = 0, from, to;

	for (from = cl_bits_find(&mask, 0, 64, true); from < 64; from = cl_bits_find(&mask, to, 64, true)) {
		to = cl_bits_find(&mask, from, 64, false);
		if (cl_taskmem_read_shared(&task->memory, vaddr + from * CL_PAGE_SIZE, scratch,
					   (to - from) * CL_PAGE_SIZE) < 0)
			continue; /* it will be told when its own turn comes */
		for (uint64_t i = from; i < to; i++)
			if (memcmp(pages + i * CL_PAGE_SIZE, scratch + (i - from) * CL_PAGE_SIZE, CL_PAGE_SIZE) == 0)
				same |= 1ULL << i;
	}
	return same;
}

_Static_assert(CL_PUSH_BATCH_PAGES <= 64, "a batch's pages are the bits of one word");

/* Which pages of a batch lie in a frame that a sibling has at the same address: cheap to see, it says where to look. */
struct common {
	bool shared;                      /* any is perhaps another task's, too */
	uint64_t pages[CL_PUSH_MAX_ALSO]; /* a bit each */
};

static void find_common(struct cl_push_server *server, const struct batch *batch, struct common *common)
{
	uint64_t frames[CL_PUSH_BATCH_PAGES], theirs[CL_PUSH_BATCH_PAGES], i, nr = batch->header.nr_pages;
	unsigned int k;

	memset(common, 0, sizeof(*common));
	if (batch->task->frames_fd < 0)
		return;
	if (cl_resident_frames(batch->task->frames_fd, batch->header.vaddr, frames, nr, &common->shared) < 0)
		common->shared = true;
	for (k = 0; common->shared && batch->siblings >> k; k++) {
		if (!(batch->siblings >> k & 1) || cl_resident_frames(sibling_of(server, batch->task, k)->frames_fd,
									batch->header.vaddr, theirs, nr, NULL) < 0)
			continue;
		for (i = 0; i < nr; i++)
			if (frames[i] && frames[i] == theirs[i])
				common->pages[k] |= 1ULL << i;
	}
}

/*
 * Of the pages that go whole: which are other tasks', too, at the same address, and wanted there. They are not wanted then
 * any more: should they not arrive, the session is over, and the client tells anew what it misses. Returns which
 * siblings share something.
 */
static uint16_t find_shared(struct cl_push_server *server, uint64_t session, const struct batch *batch,
			    const struct common *common, struct cl_push_out *out, const uint8_t *kinds)
{
	uint64_t indices[CL_PUSH_BATCH_PAGES], vaddr = batch->header.vaddr, mask, left, same;
	uint16_t hits = 0;
	unsigned int k, i;

	memset(out->also, 0, sizeof(out->also));
	for (k = 0; batch->siblings >> k; k++) {
		const struct task *sibling = sibling_of(server, batch->task, k);

		for (mask = 0, left = common->pages[k]; left; left &= left - 1) {
			i = (unsigned int)__builtin_ctzll(left);
			indices[i] = cl_image_index(sibling->image, vaddr + i * (uint64_t)CL_PAGE_SIZE);
			if (kinds[i] == CL_PUSH_PAGES && indices[i] != CL_NO_PAGE)
				mask |= 1ULL << i;
		}
		mask = mask ? claim(server, session, sibling->image, indices, mask, false) : 0;
		if (!mask)
			continue;
		same = compare(sibling, vaddr, mask, cl_push_out_pages(out), cl_push_out_scratch(out));
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

	if (!server->going)
		return false;
	for (i = 0; i < server->nr_tasks; i++) {
		struct task *task = &server->tasks[(server->near + i) % server->nr_tasks];
		struct cl_image *image = task->image;

		nr_pages = cl_image_take(image, CL_REMOTE, image->background[CL_REMOTE], true, max_pages, &index);
		if (!nr_pages)
			continue;
		image->background[CL_REMOTE] = index + nr_pages;
		batch->task = task;
		batch->header = (struct cl_push_header){ .nr_pages = nr_pages,
							 .vaddr = cl_image_vaddr(image, index),
							 .dst_id = (uint64_t)image->pid };
		batch->client_stores = server->client_stores;
		batch->siblings = choose_siblings(server, task);
		return true;
	}
	return false;
}

/*
 * The next batch, when there is one and the rate allows it: for that it waits *held_us. Lock held; dropped while waiting.
 * False: the session is over.
 */
static bool await_batch(struct cl_push_server *server, uint64_t session, struct batch *batch, uint64_t *held_us)
{
	for (*held_us = 0; server->session == session;) {
		uint64_t until_us = cl_push_pace_held_until(&server->pace), began_us;

		if (server->going && until_us) {
			began_us = cl_now_us();
			(void)cl_cond_wait(&server->work, &server->lock, until_us);
			*held_us += cl_now_us() - began_us;
		} else if (take_batch(server, batch)) {
			return true;
		} else {
			pthread_cond_wait(&server->work, &server->lock);
		}
	}
	return false;
}

/* Read a batch and send it; the rate held it back for held_us. *hits: the siblings it went to, too. 0 or -errno. */
static int push_batch(struct cl_push_server *server, uint64_t session, struct cl_push_out *out, const struct batch *batch,
		      uint64_t held_us, uint16_t *hits)
{
	uint8_t *pages = cl_push_out_pages(out), kinds[CL_PUSH_BATCH_PAGES];
	uint64_t i, began_us = cl_now_us();
	struct common common;
	int ret;

	find_common(server, batch, &common);
	ret = read_pages(server, batch->task, &batch->header, common.shared, pages);
	if (ret < 0)
		return ret;
	for (i = 0; i < batch->header.nr_pages; i++)
		kinds[i] = cl_codec_is_zero(pages + i * CL_PAGE_SIZE) ? CL_PUSH_ZERO : CL_PUSH_PAGES;
	if (batch->client_stores)
		(void)find_same(server, &batch->header, pages, kinds);
	*hits = find_shared(server, session, batch, &common, out, kinds);
	ret = still_frozen(server, batch->task);
	return ret < 0 ? ret : cl_push_out_batch(out, &batch->header, kinds, began_us, held_us);
}

static int serve_stream(struct cl_push_server *server, struct cl_conn conn, uint64_t session, unsigned int number)
{
	struct cl_push_sent *sent = &server->sent[number];
	struct cl_push_out out;
	const int unsent = UNSENT_BYTES;
	struct batch batch;
	uint64_t held_us, written;
	uint16_t hits;
	int ret = cl_push_out_init(&out);

	(void)setsockopt(conn.fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
	out.conn = conn;
	written = cl_push_sent_written(conn.fd);
	pthread_mutex_lock(&server->lock);
	out.client_unpacks = server->client_unpacks;
	while (ret == 0 && await_batch(server, session, &batch, &held_us)) {
		cl_push_sent_begin(sent, batch.task, cl_image_index(batch.task->image, batch.header.vaddr),
				   batch.header.nr_pages, written, out.client_unpacks && out.packing.packing);
		pthread_mutex_unlock(&server->lock);
		ret = push_batch(server, session, &out, &batch, held_us, &hits);
		written = cl_push_sent_written(conn.fd);
		pthread_mutex_lock(&server->lock);
		if (ret < 0 || server->session != session)
			break;
		cl_push_sent_end(sent, written);
		server->info.pushed_pages += batch.header.nr_pages;
		server->info.zero_pages += out.zero_pages;
		server->info.same_pages += out.same_pages;
		server->info.packed_pages += out.packed_pages;
		server->info.also_pages += out.also_pages;
		note_siblings(batch.task, batch.header.nr_pages, batch.siblings, hits);
		charge(server, out.sent_bytes);
	}
	pthread_mutex_unlock(&server->lock);
	cl_push_out_free(&out);
	return ret;
}

/* ---- connections ---- */

void cl_push_server_serve(struct cl_push_server *server, struct cl_conn conn, const struct cl_push_hello *hello,
			  const char *name)
{
	struct cl_push_answer answer = { .nr_streams = hello->stream };
	uint8_t out[CL_PUSH_ANSWER_BYTES], *buffer = hello->stream ? NULL : malloc(BUFFER_BYTES);
	uint64_t session;
	int ret = -ENOMEM;

	if (buffer || hello->stream)
		ret = hello->stream ? join_session(server, conn.fd, hello, &session) :
				      open_session(server, conn.fd, hello, &session, &answer, name);
	if (ret < 0) {
		cl_log(&server->config.log, CL_LOG_WARN, "push: client %s can't %s a session: %s", name,
		       hello->stream ? "join" : "open", ret == -EPERM ? "none has that token" : strerror(-ret));
		free(buffer);
		return;
	}
	cl_push_pack_answer(&answer, out);
	ret = cl_conn_send(conn, out, sizeof(out));
	if (ret == 0)
		ret = hello->stream ? serve_stream(server, conn, session, hello->stream) :
				      serve_demand(server, conn, session, buffer);
	if (ret < 0 && ret != -ECANCELED)
		cl_log(&server->config.log, CL_LOG_WARN, "push: connection %u of session %llu: %s", hello->stream,
		       (unsigned long long)session, ret == -EPROTO || ret == -EBADMSG ? "the client broke the protocol" :
											 strerror(-ret));
	leave_session(server, session);
	free(buffer);
}

void cl_push_server_end(struct cl_push_server *server, enum cl_push_end end)
{
	pthread_mutex_lock(&server->lock);
	server->closed = server->closed || end != CL_PUSH_END_SESSION;
	server->over = server->over || end == CL_PUSH_END_OVER;
	if (server->fds[0] >= 0) {
		end_session(server);
		server->config.told(server->config.context, CL_PUSH_TOLD_ENDED, NULL, server->client);
	}
	pthread_mutex_unlock(&server->lock);
}

int cl_push_server_stand_alone(struct cl_push_server *server)
{
	bool served;
	int ret = 0;

	pthread_mutex_lock(&server->lock);
	served = (server->info.sessions || server->restored) && !server->closed;
	if (server->gone)
		ret = -ESRCH;
	pthread_mutex_unlock(&server->lock);
	if (!served)
		return -ENOENT;
	for (size_t i = 0; ret == 0 && i < server->nr_tasks; i++)
		ret = cl_taskmem_note_stop(&server->tasks[i].memory);
	server->alone = ret == 0;
	return ret;
}

void cl_push_server_told_over(struct cl_push_server *server, uint64_t client)
{
	pthread_mutex_lock(&server->lock);
	server->told_over = server->told_over || client == server->client;
	pthread_cond_broadcast(&server->work);
	pthread_mutex_unlock(&server->lock);
}

void cl_push_server_tell_over(struct cl_push_server *server, uint64_t wait_us)
{
	uint64_t until_us = cl_now_us() + wait_us;
	int ret = 0;

	cl_push_server_end(server, CL_PUSH_END_OVER);
	pthread_mutex_lock(&server->lock);
	while (ret == 0 && server->restored && !server->done && !server->told_over)
		ret = cl_cond_wait(&server->work, &server->lock, until_us);
	pthread_mutex_unlock(&server->lock);
}

void cl_push_server_set_rate(struct cl_push_server *server, uint64_t bytes_per_s)
{
	pthread_mutex_lock(&server->lock);
	cl_push_pace_set(&server->pace, bytes_per_s);
	pthread_cond_broadcast(&server->work);
	pthread_mutex_unlock(&server->lock);
}

void cl_push_server_info(struct cl_push_server *server, struct cl_push_server_info *out)
{
	pthread_mutex_lock(&server->lock);
	*out = server->info;
	pthread_mutex_unlock(&server->lock);
}
