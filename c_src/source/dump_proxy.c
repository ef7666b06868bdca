/* SPDX-License-Identifier: Apache-2.0 */
#include "source/dump_proxy.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "source/dump_proxy_state.h"

enum {
	/* A client whose host has not even answered a keepalive for so long gives way to the next one in the queue. */
	SILENT_MS = 5000,
	NEWCOMER_CHECK_MS = 1000,
};

/* ---- the client ---- */

/* why: NULL: it has every page. */
static void lose_client(struct cl_dump_proxy *r, const char *why)
{
	if (r->client.fd < 0)
		return;
	pthread_mutex_lock(&r->lock);
	cl_log(&r->log, why ? CL_LOG_WARN : CL_LOG_INFO, "client %s %s%s", r->client_text, why ? "lost: " : "has every page",
	       why ? why : "");
	r->client_fd_for_info = -1;
	r->client_text[0] = '\0';
	cl_dump_proxy_update_state(r);
	pthread_mutex_unlock(&r->lock);
	cl_pull_client_end(&r->client);
	cl_dump_stream_drop_client(&r->dump);
}

/* The next client's turn, if nobody else is served. */
static void take_client(struct cl_dump_proxy *r)
{
	int fd;

	pthread_mutex_lock(&r->lock);
	if (r->client.fd < 0 && !r->dump.close_sent && !r->pushing && cl_client_queue_take(&r->queue, &fd, r->client_text)) {
		cl_pull_client_begin(&r->client, fd);
		r->client_fd_for_info = fd;
		atomic_fetch_add(&r->clients, 1);
		cl_log(&r->log, CL_LOG_INFO, "client %s connected", r->client_text);
		cl_dump_proxy_update_state(r);
	}
	pthread_mutex_unlock(&r->lock);
}

static bool client_waits(struct cl_dump_proxy *r)
{
	bool waits;

	pthread_mutex_lock(&r->lock);
	waits = r->queue.nr > 0;
	pthread_mutex_unlock(&r->lock);
	return waits;
}

/* Forward the requests at hand: as many as there is room for answers owed. 0 or -errno. */
static int handle_requests(struct cl_dump_proxy *r)
{
	struct cl_dump_batch batch;
	const char *refusal;
	uint64_t nr_requests;
	int known = r->dump.header_bytes > 0;

	if (!r->client.input_bytes || r->client.closing || r->dump.close_sent)
		return 0;
	if (!known)
		known = cl_pull_client_tell_version(&r->client, &r->dump, &r->log);
	if (known < 0)
		lose_client(r, "its first request does not tell the protocol's version (see --wire-version)");
	if (known <= 0)
		return 0;
	batch.used = 0;
	refusal = cl_pull_client_requests(&r->client, &r->dump, &r->rules, &r->log, &batch, &nr_requests);
	if (nr_requests)
		atomic_store(&cl_dump_proxy_shared(r)->drained, 0);
	atomic_fetch_add(&r->requests, nr_requests);
	if (refusal)
		lose_client(r, refusal);
	return cl_dump_stream_send(&r->dump, &batch, &r->error);
}

/* Give the client what is there for it. Whether something moved. */
static bool forward(struct cl_dump_proxy *r)
{
	int64_t sent;

	if (r->client.blocked && cl_dump_stream_waits_for_client(&r->dump))
		return false;
	sent = cl_dump_stream_forward(&r->dump, r->client.fd);
	if (sent == -ENODATA)
		return false;
	if (sent == -EAGAIN)
		r->client.blocked = true;
	else if (sent < 0)
		lose_client(r, strerror((int)-sent));
	else
		atomic_fetch_add(&r->bytes, (uint64_t)sent);
	return true;
}

/* The client said CLOSE and has all its answers: answer it now, or after the dump has. */
static void finish_client(struct cl_dump_proxy *r)
{
	const uint32_t zero = 0;

	if (!r->client.closing || !cl_dump_stream_is_settled(&r->dump))
		return;
	atomic_store(&cl_dump_proxy_shared(r)->drained, 1);
	if (!r->hold_close && !r->dump.status_received) {
		atomic_store(&r->want_commit, 1);
		return;
	}
	if (send(r->client.fd, &zero, sizeof(zero), MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof(zero))
		cl_log(&r->log, CL_LOG_WARN, "the client did not wait for the answer to its CLOSE");
	lose_client(r, NULL);
}

/* ---- the loop ---- */

/* Everything that can be done without waiting. 0 or -errno. */
static int work(struct cl_dump_proxy *r)
{
	int moved, ret;

	do {
		ret = handle_requests(r);
		if (ret < 0)
			return ret;
		moved = cl_dump_stream_receive(&r->dump, &r->error);
		if (moved < 0)
			return moved;
		ret = cl_dump_stream_understand(&r->dump, r->client.fd >= 0 ? r->client.serial : 0, &r->error);
		if (ret < 0)
			return ret;
		moved |= forward(r);
	} while (moved);
	finish_client(r);
	if (!atomic_load(&r->want_commit) || r->dump.close_sent || !cl_dump_stream_is_settled(&r->dump))
		return 0;
	cl_dump_proxy_set_phase(r, CL_DUMP_GUARDIAN_COMMIT);
	cl_log(&r->log, CL_LOG_INFO, "committing: the dump is told that every page has arrived");
	return cl_dump_stream_send_close(&r->dump, &r->error);
}

static int roll_back(struct cl_dump_proxy *r)
{
	int ret;

	cl_log(&r->log, CL_LOG_INFO, "rolling back: the dump is told to give up");
	lose_client(r, "the dump is rolled back");
	ret = cl_dump_guardian_roll_back(r->dump.fd);
	if (ret < 0)
		return cl_error_set(&r->error, ret, "the lazy dump did not end after it was told to give up: %s",
				    strerror(-ret));
	cl_dump_proxy_set_phase(r, CL_DUMP_GUARDIAN_DONE);
	cl_dump_proxy_set_end(r, CL_DUMP_PROXY_ABORTED);
	return -ECANCELED;
}

/* The dump hung up. */
static int dump_ended(struct cl_dump_proxy *r)
{
	if (!r->dump.close_sent || !r->dump.status_received)
		return cl_error_set(&r->error, -EPIPE, "the lazy dump ended by itself: look at its log");
	finish_client(r);
	if (r->dump.status)
		return cl_error_set(&r->error, -EPROTO, "the lazy dump answered CLOSE with status %u", r->dump.status);
	cl_dump_proxy_set_phase(r, CL_DUMP_GUARDIAN_DONE);
	cl_dump_proxy_set_end(r, CL_DUMP_PROXY_COMMITTED);
	cl_log(&r->log, CL_LOG_INFO, "committed: the dump has ended");
	return 0;
}

/* Something came of the client's socket. */
static void client_event(struct cl_dump_proxy *r, short events)
{
	const char *lost;

	if (events & POLLOUT)
		r->client.blocked = false;
	if (cl_pull_client_may_read(&r->client, &r->dump) && events & (POLLIN | POLLHUP | POLLERR)) {
		lost = cl_pull_client_read(&r->client);
		if (lost)
			lose_client(r, lost);
	} else if (events & (POLLHUP | POLLERR)) {
		lose_client(r, "its connection broke");
	}
}

static int wait_for_events(struct cl_dump_proxy *r)
{
	bool reads = cl_pull_client_may_read(&r->client, &r->dump);
	struct pollfd p[3] = {
		{ .fd = r->wake, .events = POLLIN },
		{ .fd = cl_dump_stream_has_room(&r->dump) ? r->dump.fd : -1, .events = POLLIN },
		{ .fd = r->client.fd, .events = (short)((reads ? POLLIN : 0) | (r->client.blocked ? POLLOUT : 0)) },
	};
	uint64_t count;

	if (poll(p, 3, r->client.fd >= 0 ? NEWCOMER_CHECK_MS : -1) < 0)
		return errno == EINTR ? 0 : cl_error_set(&r->error, -errno, "poll: %s", strerror(errno));
	if (p[0].revents && read(r->wake, &count, sizeof(count)) < 0 && errno != EAGAIN)
		return cl_error_set(&r->error, -errno, "eventfd: %s", strerror(errno));
	if (r->client.fd < 0)
		return 0;
	if (p[2].revents) {
		client_event(r, p[2].revents);
	} else if (cl_pull_client_silent_ms(r->client.fd) >= SILENT_MS && client_waits(r)) {
		lose_client(r, "its host has been silent, and another client waits");
	} else {
		pthread_mutex_lock(&r->lock);
		cl_client_queue_refuse(&r->queue, r->client_text, &r->log);
		pthread_mutex_unlock(&r->lock);
	}
	return 0;
}

static int serve(struct cl_dump_proxy *r)
{
	bool write_side_open = true;
	int ret = 0;

	while (ret == 0) {
		if (atomic_exchange(&r->want_drop, 0))
			lose_client(r, "dropped on request, or replaced by a push client");
		take_client(r);
		if (atomic_load(&r->want_abort) && !r->dump.close_sent)
			return roll_back(r);
		ret = work(r);
		if (ret == -ENODATA)
			return dump_ended(r);
		if (ret < 0)
			break;
		if (r->dump.status_received && write_side_open) {
			/* The dump now waits for our end of file, and would take anything else for a failure. */
			(void)shutdown(r->dump.fd, SHUT_WR);
			write_side_open = false;
			continue;
		}
		ret = wait_for_events(r);
	}
	return ret;
}

/* As r->error tells. Returns its code. */
static int give_up(struct cl_dump_proxy *r, struct cl_error *error)
{
	lose_client(r, r->error.text);
	cl_dump_proxy_set_end(r, CL_DUMP_PROXY_FAILED);
	if (r->error.code == -EPIPE)
		cl_dump_proxy_set_phase(r, CL_DUMP_GUARDIAN_DONE);
	*error = r->error;
	return error->code;
}

int cl_dump_proxy_run(struct cl_dump_proxy *r, struct cl_error *error)
{
	int result = r->dump_is_dead ? cl_error_set(&r->error, -EPIPE, "the lazy dump is dead") : serve(r);

	if (result == 0 || result == -ECANCELED)
		return result;
	cl_log(&r->log, CL_LOG_ERROR, "%s", r->error.text);
	if (result == -EPIPE && atomic_load(&cl_dump_proxy_shared(r)->running) && !cl_dump_stream_stands(&r->dump)) {
		*error = r->error;
		return -EOWNERDEAD;
	}
	return give_up(r, error);
}

/* ---- without a dump ---- */

static bool is_fenced(struct cl_dump_proxy *r)
{
	bool held;

	pthread_mutex_lock(&r->lock);
	held = r->holder == HELD_BY_FENCE;
	pthread_mutex_unlock(&r->lock);
	return held;
}

/* Until it is to end. Whether something holds the source's tasks still. */
static bool await_end(struct cl_dump_proxy *r)
{
	struct pollfd p = { .fd = r->wake, .events = POLLIN };
	bool held = true;
	uint64_t count;

	while (held && !r->dump.close_sent && !atomic_load(&r->want_commit) && !atomic_load(&r->want_abort)) {
		if (!is_fenced(r) || (poll(&p, 1, -1) > 0 && read(r->wake, &count, sizeof(count)) < 0 && errno != EAGAIN))
			return false;
		held = is_fenced(r);
	}
	return held;
}

int cl_dump_proxy_run_alone(struct cl_dump_proxy *r, int held, struct cl_error *error)
{
	lose_client(r, "the dump is dead");
	if (!held) {
		(void)cl_dump_proxy_set_holder(r, HELD_BY_NOBODY);
		return give_up(r, error);
	}
	/* It may have been lost since it was found to be held. */
	if (cl_dump_proxy_set_holder(r, HELD_BY_FENCE))
		cl_log(&r->log, CL_LOG_WARN,
		       "going on without the dump: the source task is stopped, with all of its memory");
	if (!await_end(r)) {
		cl_error_set(&r->error, -EPIPE,
			     "the lazy dump ended by itself, and then the source task did not stay as it was");
		cl_log(&r->log, CL_LOG_ERROR, "%s", r->error.text);
		return give_up(r, error);
	}
	if (!r->dump.close_sent && !atomic_load(&r->want_commit)) {
		cl_dump_proxy_source_lost(r, NULL); /* it is let run now: no page is read any more */
		return -ECANCELED;
	}
	cl_dump_proxy_set_phase(r, CL_DUMP_GUARDIAN_COMMIT);
	cl_log(&r->log, CL_LOG_INFO, "committing: every page has arrived");
	return 0;
}

int cl_dump_proxy_end_alone(struct cl_dump_proxy *r, int state, struct cl_error *error)
{
	if (state != CL_DUMP_PROXY_FAILED)
		cl_dump_proxy_set_phase(r, CL_DUMP_GUARDIAN_DONE);
	cl_dump_proxy_set_end(r, state);
	if (state != CL_DUMP_PROXY_FAILED)
		return 0;
	return cl_error_set(error, -EBUSY, "the source task was sent SIGKILL, and is not gone");
}

/* ---- making and freeing ---- */

void cl_dump_proxy_free(struct cl_dump_proxy *r)
{
	if (!r)
		return;
	if (r->client.fd >= 0)
		close(r->client.fd);
	if (r->wake >= 0)
		close(r->wake);
	if (r->lifeline >= 0)
		close(r->lifeline);
	cl_dump_stream_free(&r->dump);
	cl_client_queue_clear(&r->queue);
	pthread_cond_destroy(&r->holder_changed);
	pthread_mutex_destroy(&r->lock);
	free(r->rules.tasks);
	free(r);
}

/* NULL: no memory, no descriptor. */
static struct cl_dump_proxy *proxy_alloc(const struct cl_dump_proxy_config *config, struct cl_error *error)
{
	struct cl_dump_proxy *r = calloc(1, sizeof(*r));

	if (!r) {
		cl_error_set(error, -ENOMEM, "no memory");
		return NULL;
	}
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->holder_changed, NULL);
	r->dump.fd = r->client.fd = r->lifeline = r->client_fd_for_info = -1;
	r->log = (struct cl_log){
		.fd = config->log_fd, .level = config->log_level, .start_us = cl_now_us(), .from = "page-server"
	};
	r->hold_close = config->hold_close;
	r->rules.max_request_pages = config->max_request_pages;
	r->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->wake < 0) {
		cl_error_set(error, -errno, "eventfd: %s", strerror(errno));
		cl_dump_proxy_free(r);
		return NULL;
	}
	return r;
}

int cl_dump_proxy_set_tasks(struct cl_dump_proxy *r, const uint64_t *tasks, size_t nr_tasks)
{
	uint64_t *copy = calloc(nr_tasks + 1, sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	if (nr_tasks)
		memcpy(copy, tasks, nr_tasks * sizeof(*copy));
	free(r->rules.tasks);
	r->rules.tasks = copy;
	r->rules.nr_tasks = nr_tasks;
	return 0;
}

/* On a fresh connection, which is in place. 0 or -errno. */
static int begin(struct cl_dump_proxy *r, const struct cl_dump_proxy_config *config, struct cl_error *error)
{
	int memfd, ret;

	(void)setsockopt(r->dump.fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)); /* just quicker */
	ret = cl_dump_guardian_state_new(r->dump.fd, &r->dump.shared, &memfd);
	if (ret < 0)
		return cl_error_set(error, ret, "no state to share with the guardian: %s", strerror(-ret));
	ret = cl_dump_stream_begin(&r->dump, config->wire_version, error);
	if (ret == 0) {
		r->lifeline = cl_dump_guardian_start(r->dump.fd, memfd, config->takeover_fd, config->resume);
		if (r->lifeline < 0)
			ret = cl_error_set(error, r->lifeline, "no guardian: %s", strerror(-r->lifeline));
	}
	close(memfd);
	return ret;
}

struct cl_dump_proxy *cl_dump_proxy_new(const struct cl_dump_proxy_config *config, struct cl_error *error)
{
	struct cl_dump_proxy *r = proxy_alloc(config, error);

	if (r) {
		r->dump.fd = config->upstream_fd;
		if (begin(r, config, error) == 0)
			return r;
	}
	cl_dump_guardian_roll_back(config->upstream_fd);
	if (r)
		cl_dump_proxy_free(r);
	else
		close(config->upstream_fd);
	return NULL;
}

/* With the lifeline in place. 0 or -errno. */
static int take_over(struct cl_dump_proxy *r, struct cl_error *error)
{
	int memfd, ret = cl_dump_guardian_take_over(r->lifeline, &r->dump.fd, &memfd);

	if (ret == -EPIPE)
		return cl_error_set(error, ret, "another page server has taken over, or the dump has ended");
	if (ret < 0)
		return cl_error_set(error, ret, "the guardian did not hand the connection over: %s", strerror(-ret));
	r->dump.shared = cl_dump_guardian_state_map(memfd);
	close(memfd);
	if (!r->dump.shared)
		return cl_error_set(error, -errno, "the shared state can't be mapped: %s", strerror(errno));
	/* Their clients are gone: serial numbers start anew, above theirs. */
	r->client.serial = 1;
	r->dump_is_dead = !cl_dump_stream_stands(&r->dump);
	return r->dump_is_dead ? 0 : cl_dump_stream_resume(&r->dump, error);
}

struct cl_dump_proxy *cl_dump_proxy_resume(const struct cl_dump_proxy_config *config, int lifeline_fd,
					   struct cl_error *error)
{
	struct cl_dump_proxy *r = proxy_alloc(config, error);

	if (!r) {
		close(lifeline_fd);
		return NULL;
	}
	r->lifeline = lifeline_fd;
	if (take_over(r, error) < 0) {
		cl_dump_proxy_free(r);
		return NULL;
	}
	if (atomic_load(&cl_dump_proxy_shared(r)->phase) == CL_DUMP_GUARDIAN_COMMIT)
		atomic_store(&cl_dump_proxy_shared(r)->running, 1); /* whoever told it or not */
	cl_dump_proxy_set_phase(r, atomic_load(&cl_dump_proxy_shared(r)->running) ? CL_DUMP_GUARDIAN_HOLD :
										    CL_DUMP_GUARDIAN_ROLLBACK);
	atomic_store(&r->state,
		     atomic_load(&cl_dump_proxy_shared(r)->drained) ? CL_DUMP_PROXY_DRAINED : CL_DUMP_PROXY_PAUSED);
	return r;
}
