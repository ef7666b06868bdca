/* SPDX-License-Identifier: Apache-2.0 */
#include "push_serve.h"

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

#include "bits.h"
#include "codec.h"
#include "pages_local.h"
#include "precedence.h"
#include "space.h"
#include "taskmem.h"

enum {
	BATCH_PAGES = CL_PUSH_PACKED_PAGES,
	BATCH_BYTES = BATCH_PAGES * CL_PAGE_SIZE,
	BUFFER_BYTES = CL_PUSH_HEADER_BYTES + CL_PUSH_MAX_PAGES * CL_PAGE_SIZE,
	REQUESTS_BYTES = 512 * CL_PUSH_HEADER_BYTES,
	/* What a background socket may hold unsent: enough to keep it going while its thread reads the next batch. */
	UNSENT_BYTES = 128 << 10,
	RATE_SLACK_US = 5000, /* under a rate limit: how far ahead of it pages may be sent */
	MAX_RATE_BATCH_US = 10000,
};

struct task {
	struct cl_image *image; /* todo[CL_REMOTE]: told missing and not sent yet */
	struct cl_taskmem memory;
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
	bool client_unpacks;
	bool going;             /* it said GO: push */
	bool closed;            /* for ever */
	size_t near;            /* the task of the last demand page: goes first */
	uint64_t rate;          /* bytes per second; 0: no limit */
	uint64_t busy_until_us; /* by that rate, with all that was sent */
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
	return ret;
}

int cl_push_server_new(const struct cl_push_server_config *config, struct cl_push_server **out, char *error,
		       size_t error_size)
{
	struct cl_push_server *server = calloc(1, sizeof(*server));
	pthread_condattr_t attributes;
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
	memset(server->fds, -1, sizeof(server->fds));
	pthread_mutex_init(&server->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&server->work, &attributes);
	pthread_condattr_destroy(&attributes);
	for (; ret == 0 && server->nr_tasks < config->nr_tasks; server->nr_tasks++) {
		server->tasks[server->nr_tasks].memory.mem_fd = -1;
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

/* A new session, its number in *session, instead of the one that there may be. 0 or -errno. */
static int open_session(struct cl_push_server *server, int fd, const struct cl_push_hello *hello, uint64_t *session,
			struct cl_push_answer *answer, const char *name)
{
	size_t i;

	*answer = (struct cl_push_answer){ .nr_streams = hello->nr_streams };
	if (getrandom(answer->token, sizeof(answer->token), 0) != (ssize_t)sizeof(answer->token))
		return -EIO;
	pthread_mutex_lock(&server->lock);
	if (server->closed) {
		pthread_mutex_unlock(&server->lock);
		return -ESHUTDOWN;
	}
	end_session(server);
	for (i = 0; i < server->nr_tasks; i++) {
		set_wanted(server->tasks[i].image, 0, server->tasks[i].image->nr_pages, false);
		server->tasks[i].image->background[CL_REMOTE] = 0;
	}
	memcpy(server->token, answer->token, sizeof(server->token));
	server->client_unpacks = hello->unpacks && cl_codec_has_lz4();
	server->fds[0] = fd;
	server->info.sessions++;
	server->info.nr_streams = hello->nr_streams;
	*session = server->session;
	server->config.told(server->config.context, CL_PUSH_TOLD_BEGUN, name);
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
		server->config.told(server->config.context, CL_PUSH_TOLD_ENDED, NULL);
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

static int read_pages(struct cl_push_server *server, const struct task *task, const struct cl_push_header *header,
		      uint8_t *out)
{
	int ret = cl_taskmem_read(&task->memory, header->vaddr, out, header->nr_pages * CL_PAGE_SIZE);

	if (ret < 0)
		cl_log(&server->config.log, CL_LOG_ERROR, "memory of task %d at %#llx: %s", task->image->pid,
		       (unsigned long long)header->vaddr, ret == -ESRCH ? "the task has gone" : strerror(-ret));
	return ret;
}

/* It was sent: by the rate limit, the link is busy for so much longer. Lock held. */
static void charge(struct cl_push_server *server, uint64_t bytes)
{
	uint64_t now_us;

	server->info.sent_bytes += bytes;
	if (!server->rate)
		return;
	now_us = cl_now_us();
	if (server->busy_until_us < now_us)
		server->busy_until_us = now_us;
	server->busy_until_us += bytes * 1000000 / server->rate;
}

/* ---- demand ---- */

/* 0 or -errno. */
static int answer_get(struct cl_push_server *server, struct cl_conn conn, uint64_t session,
		      const struct cl_push_header *get, uint8_t *out)
{
	struct cl_push_header pages = *get;
	struct task *task = check_range(server, get);
	uint64_t index;
	int ret;

	if (!task || get->nr_pages > CL_PUSH_MAX_PAGES)
		return -EPROTO;
	index = cl_image_index(task->image, get->vaddr);
	pthread_mutex_lock(&server->lock);
	if (server->session == session) {
		set_wanted(task->image, index, index + get->nr_pages, false);
		server->near = (size_t)(task - server->tasks);
		task->image->background[CL_REMOTE] = index + get->nr_pages;
		server->info.asked_pages += get->nr_pages;
		charge(server, CL_PUSH_HEADER_BYTES + get->nr_pages * CL_PAGE_SIZE);
	}
	pthread_mutex_unlock(&server->lock);
	pages.type = CL_PUSH_PAGES;
	pages.bytes = (uint32_t)(get->nr_pages * CL_PAGE_SIZE);
	cl_push_pack(&pages, out);
	ret = read_pages(server, task, &pages, out + CL_PUSH_HEADER_BYTES);
	return ret < 0 ? ret : cl_conn_send(conn, out, CL_PUSH_HEADER_BYTES + pages.bytes);
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

/* What the client says. 0 or -errno. */
static int obey(struct cl_push_server *server, struct cl_conn conn, uint64_t session,
		const struct cl_push_header *header, uint8_t *out)
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
	} else if (header->type == CL_PUSH_GO || done) {
		server->going = !done;
		pthread_cond_broadcast(&server->work);
		server->config.told(server->config.context, done ? CL_PUSH_TOLD_DONE : CL_PUSH_TOLD_MISSING,
				    NULL);
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
	const char *why = NULL;
	size_t filled = 0, at;
	int64_t got;
	int ret = 0;

	cl_take_precedence();
	while (ret == 0) {
		got = cl_conn_receive(conn, in + filled, sizeof(in) - filled, &why);
		if (got < 0)
			return got == -ECONNRESET ? 0 : (int)got;
		filled += (size_t)got;
		for (at = 0; ret == 0 && filled - at >= CL_PUSH_HEADER_BYTES; at += CL_PUSH_HEADER_BYTES) {
			ret = cl_push_unpack(in + at, &header);
			if (ret == 0)
				ret = obey(server, conn, session, &header, out);
		}
		filled -= at;
		memmove(in, in + at, filled);
	}
	return ret;
}

/* ---- background ---- */

struct batch {
	struct task *task;
	struct cl_push_header header; /* nr_pages, vaddr, dst_id */
};

/* The next pages to push: of the task that faulted last first. Lock held. */
static bool take_batch(struct cl_push_server *server, struct batch *batch)
{
	uint64_t max_pages = BATCH_PAGES, index, nr_pages;
	size_t i;

	if (!server->going)
		return false;
	if (server->rate && server->rate * MAX_RATE_BATCH_US / 1000000 < BATCH_BYTES)
		max_pages = 1 + server->rate * MAX_RATE_BATCH_US / 1000000 / CL_PAGE_SIZE;
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
		uint64_t now_us = server->rate ? cl_now_us() : 0, until_us = server->busy_until_us - RATE_SLACK_US;
		struct timespec until = { .tv_sec = (time_t)(until_us / 1000000),
					  .tv_nsec = (long)(until_us % 1000000) * 1000 };

		if (server->going && server->rate && server->busy_until_us > now_us + RATE_SLACK_US) {
			pthread_cond_timedwait(&server->work, &server->lock, &until);
			*held_us += cl_now_us() - now_us;
		} else if (take_batch(server, batch)) {
			return true;
		} else {
			pthread_cond_wait(&server->work, &server->lock);
		}
	}
	return false;
}

struct stream {
	struct cl_push_server *server;
	struct cl_conn conn;
	bool client_unpacks;
	struct cl_packing packing;
	uint8_t *buffer;  /* a header, and a batch's pages */
	uint8_t *packed;  /* the same, packed */
	uint64_t sent_bytes, zero_pages, packed_pages; /* of the present batch */
};

/* Send pages [from, to) of the batch, which are in the buffer. A header is put in front, over what was sent before. */
static int send_pages(struct stream *stream, const struct batch *batch, uint64_t from, uint64_t to)
{
	uint8_t *data = stream->buffer + CL_PUSH_HEADER_BYTES + from * CL_PAGE_SIZE;
	uint8_t *message = data - CL_PUSH_HEADER_BYTES;
	struct cl_push_header header = batch->header;
	size_t bytes = 0;

	header.vaddr += from * CL_PAGE_SIZE;
	header.nr_pages = to - from;
	if (stream->client_unpacks && stream->packing.packing)
		bytes = cl_codec_pack(data, header.nr_pages * CL_PAGE_SIZE, stream->packed + CL_PUSH_HEADER_BYTES);
	if (bytes) {
		message = stream->packed;
		stream->packed_pages += header.nr_pages;
	} else {
		bytes = header.nr_pages * CL_PAGE_SIZE;
	}
	header.type = message == stream->packed ? CL_PUSH_PACKED : CL_PUSH_PAGES;
	header.bytes = (uint32_t)bytes;
	cl_push_pack(&header, message);
	stream->sent_bytes += CL_PUSH_HEADER_BYTES + bytes;
	return cl_conn_send(stream->conn, message, CL_PUSH_HEADER_BYTES + bytes);
}

static int send_zeroes(struct stream *stream, const struct batch *batch, uint64_t from, uint64_t to)
{
	struct cl_push_header header = batch->header;
	uint8_t message[CL_PUSH_HEADER_BYTES];

	header.type = CL_PUSH_ZERO;
	header.vaddr += from * CL_PAGE_SIZE;
	header.nr_pages = to - from;
	cl_push_pack(&header, message);
	stream->zero_pages += header.nr_pages;
	stream->sent_bytes += sizeof(message);
	return cl_conn_send(stream->conn, message, sizeof(message));
}

/* Read a batch and send it, in runs of zero and of other pages; the rate held it back for held_us. 0 or -errno. */
static int push_batch(struct stream *stream, const struct batch *batch, uint64_t held_us)
{
	uint8_t *pages = stream->buffer + CL_PUSH_HEADER_BYTES;
	uint64_t from = 0, to, began_us = cl_now_us() - held_us, nr_pages = batch->header.nr_pages;
	int ret = read_pages(stream->server, batch->task, &batch->header, pages);

	stream->sent_bytes = stream->zero_pages = stream->packed_pages = 0;
	for (; ret == 0 && from < nr_pages; from = to) {
		bool zero = cl_codec_is_zero(pages + from * CL_PAGE_SIZE);

		for (to = from + 1; to < nr_pages && cl_codec_is_zero(pages + to * CL_PAGE_SIZE) == zero; to++)
			;
		ret = zero ? send_zeroes(stream, batch, from, to) : send_pages(stream, batch, from, to);
	}
	if (stream->client_unpacks && stream->zero_pages < nr_pages)
		cl_packing_note(&stream->packing, nr_pages - stream->zero_pages, cl_now_us() - began_us);
	return ret;
}

static int serve_stream(struct cl_push_server *server, struct cl_conn conn, uint64_t session, uint8_t *buffer)
{
	struct stream stream = { .server = server, .conn = conn, .buffer = buffer };
	const int unsent = UNSENT_BYTES;
	struct batch batch;
	uint64_t held_us;
	int ret = 0;

	(void)setsockopt(conn.fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
	stream.packed = malloc(CL_PUSH_HEADER_BYTES + BATCH_BYTES);
	if (!stream.packed)
		return -ENOMEM;
	cl_packing_init(&stream.packing);
	pthread_mutex_lock(&server->lock);
	stream.client_unpacks = server->client_unpacks;
	while (ret == 0 && await_batch(server, session, &batch, &held_us)) {
		pthread_mutex_unlock(&server->lock);
		ret = push_batch(&stream, &batch, held_us);
		pthread_mutex_lock(&server->lock);
		server->info.pushed_pages += batch.header.nr_pages;
		server->info.zero_pages += stream.zero_pages;
		server->info.packed_pages += stream.packed_pages;
		charge(server, stream.sent_bytes);
	}
	pthread_mutex_unlock(&server->lock);
	free(stream.packed);
	return ret;
}

/* ---- connections ---- */

void cl_push_server_serve(struct cl_push_server *server, struct cl_conn conn, const struct cl_push_hello *hello,
			  const char *name)
{
	struct cl_push_answer answer = { .nr_streams = hello->stream };
	uint8_t out[CL_PUSH_ANSWER_BYTES], *buffer = malloc(BUFFER_BYTES);
	uint64_t session;
	int ret = -ENOMEM;

	if (buffer)
		ret = hello->stream ? join_session(server, conn.fd, hello, &session) :
				      open_session(server, conn.fd, hello, &session, &answer, name);
	if (ret < 0) {
		cl_log(&server->config.log, CL_LOG_WARN, "push: a client can't %s a session: %s",
		       hello->stream ? "join" : "open", ret == -EPERM ? "none has that token" : strerror(-ret));
		free(buffer);
		return;
	}
	cl_push_pack_answer(&answer, out);
	ret = cl_conn_send(conn, out, sizeof(out));
	if (ret == 0)
		ret = hello->stream ? serve_stream(server, conn, session, buffer) :
				      serve_demand(server, conn, session, buffer);
	if (ret < 0 && ret != -ECANCELED)
		cl_log(&server->config.log, CL_LOG_WARN, "push: connection %u of session %llu: %s", hello->stream,
		       (unsigned long long)session, ret == -EPROTO || ret == -EBADMSG ? "the client broke the protocol" :
											 strerror(-ret));
	leave_session(server, session);
	free(buffer);
}

void cl_push_server_end(struct cl_push_server *server, int for_ever)
{
	pthread_mutex_lock(&server->lock);
	server->closed = server->closed || for_ever;
	if (server->fds[0] >= 0) {
		end_session(server);
		server->config.told(server->config.context, CL_PUSH_TOLD_ENDED, NULL);
	}
	pthread_mutex_unlock(&server->lock);
}

void cl_push_server_set_rate(struct cl_push_server *server, uint64_t bytes_per_s)
{
	pthread_mutex_lock(&server->lock);
	server->rate = bytes_per_s;
	server->busy_until_us = 0;
	pthread_cond_broadcast(&server->work);
	pthread_mutex_unlock(&server->lock);
}

void cl_push_server_info(struct cl_push_server *server, struct cl_push_server_info *out)
{
	pthread_mutex_lock(&server->lock);
	*out = server->info;
	pthread_mutex_unlock(&server->lock);
}
