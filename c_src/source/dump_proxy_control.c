/* SPDX-License-Identifier: Apache-2.0 */
#include "source/dump_proxy.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "source/dump_proxy_state.h"

_Static_assert((int)CL_CLIENT_NAME_BYTES == (int)CL_DUMP_PROXY_TEXT_BYTES, "a client's name is what is told of it");

static void wake_up(struct cl_dump_proxy *r)
{
	const uint64_t one = 1;

	if (write(r->wake, &one, sizeof(one)) < 0)
		return; /* full: it will wake up anyway */
}

/* ---- the state ---- */

void cl_dump_proxy_set_end(struct cl_dump_proxy *r, int state)
{
	pthread_mutex_lock(&r->lock);
	atomic_store(&r->state, state);
	pthread_cond_broadcast(&r->holder_changed);
	pthread_mutex_unlock(&r->lock);
}

void cl_dump_proxy_update_state(struct cl_dump_proxy *r)
{
	int drained = (int)atomic_load(&cl_dump_proxy_shared(r)->drained);

	if (atomic_load(&r->state) >= CL_DUMP_PROXY_COMMITTED)
		return;
	if (r->pushing ? !drained : r->client_fd_for_info >= 0)
		atomic_store(&r->state, CL_DUMP_PROXY_SERVING);
	else if (drained)
		atomic_store(&r->state, CL_DUMP_PROXY_DRAINED);
	else if (atomic_load(&r->clients))
		atomic_store(&r->state, CL_DUMP_PROXY_PAUSED);
}

/* ---- who holds the source ---- */

bool cl_dump_proxy_set_holder(struct cl_dump_proxy *r, enum cl_source_holder holder)
{
	bool is_news;

	pthread_mutex_lock(&r->lock);
	is_news = holder > r->holder;
	if (is_news)
		r->holder = holder;
	pthread_cond_broadcast(&r->holder_changed);
	cl_client_queue_clear(&r->queue);
	pthread_mutex_unlock(&r->lock);
	return is_news;
}

bool cl_dump_proxy_holds_source(struct cl_dump_proxy *r)
{
	bool held;

	if (cl_dump_stream_stands(&r->dump))
		return true;
	pthread_mutex_lock(&r->lock);
	while (r->holder == HELD_BY_DUMP && atomic_load(&r->state) < CL_DUMP_PROXY_COMMITTED)
		pthread_cond_wait(&r->holder_changed, &r->lock);
	held = r->holder == HELD_BY_FENCE;
	pthread_mutex_unlock(&r->lock);
	return held;
}

/* ---- what is asked, and told ---- */

void cl_dump_proxy_set_running(struct cl_dump_proxy *r, int running)
{
	/* Should we die in between, the next proxy finds that it doesn't run, and rolls back. */
	if (!running)
		atomic_store(&cl_dump_proxy_shared(r)->running, 0);
	if (running)
		(void)cl_dump_proxy_move_phase(r, CL_DUMP_GUARDIAN_ROLLBACK, CL_DUMP_GUARDIAN_HOLD);
	else
		(void)cl_dump_proxy_move_phase(r, CL_DUMP_GUARDIAN_HOLD, CL_DUMP_GUARDIAN_ROLLBACK);
	if (running)
		atomic_store(&cl_dump_proxy_shared(r)->running, 1);
	cl_log(&r->log, CL_LOG_INFO,
	       running ? "the restored task runs: this end holds until every page is there" :
			 "the restored task does not run");
}

int cl_dump_proxy_commit(struct cl_dump_proxy *r, int force)
{
	if (!force && atomic_load(&r->state) != CL_DUMP_PROXY_DRAINED)
		return -EBUSY;
	atomic_store(&r->want_commit, 1);
	wake_up(r);
	return 0;
}

int cl_dump_proxy_abort(struct cl_dump_proxy *r, int force)
{
	if (!force && atomic_load(&cl_dump_proxy_shared(r)->running))
		return -EBUSY;
	atomic_store(&r->want_abort, 1);
	wake_up(r);
	return 0;
}

void cl_dump_proxy_source_lost(struct cl_dump_proxy *r, const char *why)
{
	if (cl_dump_proxy_set_holder(r, HELD_BY_NOBODY) && why)
		cl_log(&r->log, CL_LOG_ERROR, "%s: no page is sent any more", why);
	wake_up(r);
}

void cl_dump_proxy_drop_client(struct cl_dump_proxy *r)
{
	atomic_store(&r->want_drop, 1);
	wake_up(r);
}

int cl_dump_proxy_offer(struct cl_dump_proxy *r, int fd, const char *name)
{
	int ret;

	pthread_mutex_lock(&r->lock);
	ret = r->holder == HELD_BY_DUMP ? cl_client_queue_add(&r->queue, fd, name) : -EPIPE;
	pthread_mutex_unlock(&r->lock);
	if (ret < 0)
		close(fd);
	else
		wake_up(r);
	return ret;
}

/* drained: -1: as it was; name: NULL: the same client's. */
static void tell_pushing(struct cl_dump_proxy *r, bool pushing, int drained, const char *name)
{
	pthread_mutex_lock(&r->lock);
	r->pushing = pushing;
	if (name) {
		snprintf(r->push_text, sizeof(r->push_text), "%s", name);
		atomic_fetch_add(&r->clients, 1);
	}
	if (drained >= 0)
		atomic_store(&cl_dump_proxy_shared(r)->drained, (uint32_t)drained);
	cl_dump_proxy_update_state(r);
	pthread_mutex_unlock(&r->lock);
}

void cl_dump_proxy_push_begins(struct cl_dump_proxy *r, const char *name)
{
	cl_log(&r->log, CL_LOG_INFO, "client %s connected: its pages are pushed", name);
	tell_pushing(r, true, -1, name);
	cl_dump_proxy_drop_client(r);
}

uint64_t cl_dump_proxy_restored_client(const struct cl_dump_proxy *r)
{
	return atomic_load(&cl_dump_proxy_shared(r)->restored_client);
}

void cl_dump_proxy_push_misses(struct cl_dump_proxy *r, uint64_t client)
{
	atomic_store(&cl_dump_proxy_shared(r)->restored_client, client);
	tell_pushing(r, true, 0, NULL);
}

void cl_dump_proxy_push_is_done(struct cl_dump_proxy *r)
{
	cl_log(&r->log, CL_LOG_INFO, "the client says that it has every page");
	tell_pushing(r, true, 1, NULL);
	if (!r->hold_close)
		cl_dump_proxy_commit(r, 1);
}

void cl_dump_proxy_push_ends(struct cl_dump_proxy *r)
{
	cl_log(&r->log, CL_LOG_INFO, "the client's session is over");
	tell_pushing(r, false, -1, NULL);
	wake_up(r);
}

void cl_dump_proxy_info(struct cl_dump_proxy *r, struct cl_dump_proxy_info *out)
{
	uint32_t phase = atomic_load(&cl_dump_proxy_shared(r)->phase);

	memset(out, 0, sizeof(*out));
	out->held = phase == CL_DUMP_GUARDIAN_HOLD || phase == CL_DUMP_GUARDIAN_COMMIT;
	out->state = atomic_load(&r->state);
	out->running = (int)atomic_load(&cl_dump_proxy_shared(r)->running);
	out->wire_version = (int)atomic_load(&cl_dump_proxy_shared(r)->wire_version);
	out->requests = atomic_load(&r->requests);
	out->bytes = atomic_load(&r->bytes);
	out->discarded_bytes = atomic_load(&r->dump.discarded_bytes);
	out->clients = atomic_load(&r->clients);
	pthread_mutex_lock(&r->lock);
	out->alone = r->holder == HELD_BY_FENCE;
	out->silent_ms = cl_pull_client_silent_ms(r->client_fd_for_info);
	memcpy(out->client, r->pushing ? r->push_text : r->client_text, sizeof(out->client));
	pthread_mutex_unlock(&r->lock);
}
