/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/reconnect.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "base/thread.h"
#include "destination/engine.h"
#include "destination/page_source.h"

enum {
	SILENT_MS = 5000, /* a host that answers nothing for so long, not even keepalives, is gone */
	KEEPALIVE_S = 1,
	CALL_S = 1,          /* a call not answered by then is made again: TCP itself would wait ever longer */
	PAUSE_FIRST_MS = 20, /* between calls, doubling */
	PAUSE_MAX_MS = 1000,
	QUICK_CALLS = 7, /* so many double it */
	CALM_CALLS = 60, /* after so many nobody is in a hurry any more */
	PAUSE_CALM_MS = 5000,
	BEFORE_RUN_US = 3000000, /* how long, before a restored task runs */
};

/* How long it may stay away, in us; negative: without limit. */
static int64_t limit_us(const struct cl_engine *engine)
{
	int64_t limit = engine->config.reconnect_us;

	if (limit == CL_IF_IT_PUSHES)
		return engine->source->keeps_tasks ? CL_WITHOUT_LIMIT : 0;
	return limit;
}

bool cl_engine_is_held(const struct cl_engine *engine)
{
	return limit_us(engine) != 0;
}

static void watch_connection(const struct cl_engine *engine, int fd)
{
	int on = 1, seconds = KEEPALIVE_S, silent_ms = SILENT_MS;

	if (fd < 0 || !cl_engine_is_held(engine) || !engine->restored)
		return;
	/* No TCP socket: nothing to set. */
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof(seconds));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &seconds, sizeof(seconds));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &silent_ms, sizeof(silent_ms));
}

void cl_engine_watch_connections(struct cl_engine *engine)
{
	watch_connection(engine, engine->remote.fd);
	engine->source->each_stream(engine, watch_connection);
}

bool cl_engine_lose(struct cl_engine *engine, const struct cl_error *error)
{
	if (engine->stopping || !cl_engine_is_held(engine) || !engine->remote_address_bytes)
		return false;
	if (!engine->restored && !engine->source->keeps_tasks)
		return false;
	if (!engine->lost) {
		engine->lost = true;
		/* A server that takes calls and hangs up at once is no better than one that takes none. */
		if (!engine->lost_us) {
			engine->lost_us = cl_now_us();
			engine->calls = 0;
		}
		cl_log(&engine->log, CL_LOG_WARN, "page server: %s with %llu pages missing: connecting to it again",
		       error->text, (unsigned long long)cl_engine_remaining_pages(engine));
		(void)shutdown(engine->remote.fd, SHUT_RDWR);
		engine->source->shut_down(engine);
	}
	pthread_cond_broadcast(&engine->gate);
	pthread_cond_signal(&engine->work);
	return true;
}

void cl_engine_broken(struct cl_engine *engine, const struct cl_error *error)
{
	/* What the others see of a session that is lost already, TLS's words for it among them, says nothing more. */
	if (engine->stopping || engine->lost || cl_engine_lose(engine, error)) {
		/* It was there, and is likely to do the same again: no hurry. */
		if (error->code == -EPROTO && engine->calls < QUICK_CALLS)
			engine->calls = QUICK_CALLS;
		return;
	}
	engine->source_is_gone = true;
	cl_engine_fail(engine, -EIO, "page server: %s with %llu pages missing", error->text,
		       (unsigned long long)cl_engine_remaining_pages(engine));
}

void cl_engine_send_failed(struct cl_engine *engine, int code)
{
	struct cl_error error;

	(void)cl_conn_error(code, &error);
	cl_engine_broken(engine, &error);
}

/* Nothing is on its way any more: it is todo again, and pages that threads wait for come first. Lock held. */
static int put_back(struct cl_engine *engine)
{
	struct cl_image *image;
	struct cl_space *space;
	int ret = 0;
	size_t i;

	cl_remote_forget(&engine->remote);
	for (image = engine->images; image; image = image->next)
		for (space = image->spaces; space; space = space->next)
			for (i = 0; i < space->waiters.nr && ret == 0; i++) {
				uint64_t index = space->waiters.at[i].index;

				engine->source->put_back(engine, image, index);
				ret = cl_schedule_fault_again(&engine->schedule, image, index);
			}
	return ret;
}

static void pause_ms(struct cl_engine *engine, unsigned int ms)
{
	uint64_t until_us = cl_now_us() + ms * 1000ULL;

	while (!engine->stopping && cl_cond_wait(&engine->gate, &engine->lock, until_us) == 0)
		;
}

int cl_engine_call(struct cl_engine *engine, int *fd, struct cl_tls **tls, struct cl_error *error)
{
	struct timeval in_time = { .tv_sec = CALL_S }, ever = { 0 };
	const int on = 1;
	int ret = 0;

	if (!engine->remote_address_bytes)
		return cl_conn_error(-EDESTADDRREQ, error);
	*fd = socket(engine->remote_address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (*fd < 0)
		return cl_conn_error(-errno, error);
	watch_connection(engine, *fd);
	/* What follows the handshake would wait for its acknowledgement, which a server may delay by 40 ms. */
	(void)setsockopt(*fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)setsockopt(*fd, SOL_SOCKET, SO_SNDTIMEO, &in_time, sizeof(in_time));
	pthread_mutex_unlock(&engine->lock);
	if (connect(*fd, (struct sockaddr *)&engine->remote_address, engine->remote_address_bytes) < 0)
		ret = cl_error_set(error, errno == EINPROGRESS ? -ETIMEDOUT : -errno, "%s",
				   strerror(errno == EINPROGRESS ? ETIMEDOUT : errno));
	(void)setsockopt(*fd, SOL_SOCKET, SO_SNDTIMEO, &ever, sizeof(ever));
	if (ret == 0 && engine->tls)
		ret = cl_tls_start(engine->tls, *fd, tls, error);
	pthread_mutex_lock(&engine->lock);
	return ret;
}

/* One try. Lock held; dropped while waiting. 0 or error->code. */
static int call_again(struct cl_engine *engine, struct cl_error *error)
{
	int version = engine->remote.version, ret;
	struct cl_tls *tls = NULL;

	cl_tls_free(engine->remote.tls);
	engine->remote.tls = NULL;
	if (engine->remote.fd >= 0)
		close(engine->remote.fd);
	ret = cl_engine_call(engine, &engine->remote.fd, &tls, error);
	if (ret < 0)
		return ret;
	cl_remote_init(&engine->remote, engine->remote.fd, tls, version);
	return engine->source->begin_again(engine, error);
}

static unsigned int pause_before_call(unsigned int calls)
{
	if (calls == 0)
		return 0;
	if (calls < QUICK_CALLS)
		return PAUSE_FIRST_MS << (calls - 1);
	return calls < CALM_CALLS ? PAUSE_MAX_MS : PAUSE_CALM_MS;
}

/* It is too late to try again, or there is no use in it: then the engine fails. last: the last try's error. Lock held. */
static void give_up_in_time(struct cl_engine *engine, uint64_t paused_us, const struct cl_error *last)
{
	int64_t limit = limit_us(engine);

	if (!engine->restored && (limit < 0 || limit > BEFORE_RUN_US))
		limit = BEFORE_RUN_US;
	if (last->code != -ESHUTDOWN && (limit < 0 || paused_us <= (uint64_t)limit))
		return;
	engine->source_is_gone = true;
	if (last->code == -ESHUTDOWN)
		cl_engine_fail(engine, -EIO, "page server: %s; %llu pages are missing", last->text,
			       (unsigned long long)cl_engine_remaining_pages(engine));
	else
		cl_engine_fail(engine, -EIO,
			       "page server: lost with %llu pages missing, and it did not come back in %llu s: %s",
			       (unsigned long long)cl_engine_remaining_pages(engine), (unsigned long long)limit / 1000000,
			       last->code ? last->text : "it hangs up");
}

/* Until there is a connection again, or the engine is stopping. Lock held. How long it took, in us. */
static uint64_t try_until_connected(struct cl_engine *engine)
{
	struct cl_error error = { 0 };
	int ret, told = 0;
	uint64_t paused_us;

	do {
		pause_ms(engine, pause_before_call(engine->calls++));
		paused_us = cl_now_us() - engine->lost_us;
		give_up_in_time(engine, paused_us, &error);
		if (engine->stopping)
			break;
		ret = call_again(engine, &error);
		if (ret < 0) /* each new reason is news */
			cl_log(&engine->log, ret == told ? CL_LOG_DEBUG : CL_LOG_WARN,
			       "page server: connecting to it again, try %u: %s", engine->calls, error.text);
		told = ret;
	} while (ret < 0);
	return paused_us;
}

void cl_engine_reconnect(struct cl_engine *engine)
{
	uint64_t max_in_flight = engine->flow.max_window, tcp_rtt_us = engine->flow.tcp_rtt_us, paused_us;
	int ret;

	engine->receiving = true;
	ret = put_back(engine);
	if (ret < 0)
		cl_engine_fail(engine, ret, "page server: connecting to it again: %s", strerror(-ret));
	paused_us = try_until_connected(engine);
	engine->receiving = false;
	if (engine->stopping)
		return;
	engine->lost = false;
	engine->stats.reconnects++;
	cl_log(&engine->log, CL_LOG_INFO, "page server: connected again after %llu ms",
	       (unsigned long long)paused_us / 1000);
	/* What was known of the link's rate may not hold any more. */
	cl_flow_init(&engine->flow, max_in_flight, cl_now_us());
	cl_flow_round_trip(&engine->flow, tcp_rtt_us);
	cl_flow_fault(&engine->flow, cl_now_us());
	cl_engine_ask(engine);
	pthread_cond_broadcast(&engine->gate);
}
