/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/session.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "destination/ended.h"
#include "destination/engine.h"
#include "destination/page_source.h"
#include "destination/precopy_store.h"
#include "destination/reconnect.h"
#include "destination/requests.h"
#include "destination/source_push.h"

enum { LAST_ANSWERS_US = 1000000 };

int cl_engine_set_tls(struct cl_engine *engine, const struct cl_tls_config *tls, struct cl_error *error)
{
	if (engine->has_remote || engine->tls)
		return cl_error_set(error, -EEXIST, "TLS: it is set up already, or too late");
	return cl_tls_load(tls, &engine->tls, error);
}

static int check_remote(struct cl_engine *engine, uint64_t wait_us, struct cl_error *error)
{
	if (!engine->remote.tls || cl_tls_check(engine->remote.tls, wait_us, error) == 0)
		return 0;
	return cl_error_prefix(error, "page server: ");
}

int cl_engine_set_remote(struct cl_engine *engine, int remote_fd, struct cl_error *error)
{
	uint64_t began_us = cl_now_us();
	struct cl_tls *tls = NULL;

	if (engine->has_remote) {
		close(remote_fd);
		return cl_error_set(error, -EEXIST, "page server: there is a connection to it already");
	}
	cl_remote_init(&engine->remote, remote_fd, NULL, 1);
	engine->has_remote = true;
	engine->remote_address_bytes = sizeof(engine->remote_address);
	if (getpeername(remote_fd, (struct sockaddr *)&engine->remote_address, &engine->remote_address_bytes) < 0 ||
	    (engine->remote_address.ss_family != AF_INET && engine->remote_address.ss_family != AF_INET6))
		engine->remote_address_bytes = 0;
	if (!engine->tls)
		return 0;
	if (cl_tls_start(engine->tls, remote_fd, &tls, error) < 0)
		return error->code;
	engine->remote.tls = tls;
	/* One that pushes keeps its tasks, whoever leaves it: there is time to be refused. Else the handshake's, again. */
	return engine->config.push_streams ? 0 : check_remote(engine, cl_now_us() - began_us, error);
}

int cl_engine_check_remote(struct cl_engine *engine, struct cl_error *error)
{
	return check_remote(engine, 0, error);
}

void cl_session_know_version(struct cl_engine *engine)
{
	int version = engine->config.wire_version ? engine->config.wire_version : engine->wire_version;

	/* Without any entry nothing is asked, and CLOSE is understood in either version's first word. */
	engine->remote.version = version ? version : 1;
}

/* Without it all pages come from the server. */
static void take_store(struct cl_engine *engine)
{
	struct cl_error error;

	if (engine->config.precopied_fd >= 0 &&
	    cl_precopy_store_take(engine->config.precopied_fd, &engine->store, &error) < 0)
		cl_log(&engine->log, CL_LOG_WARN, "the pages that came before the dump can't be used: %s", error.text);
}

int cl_session_agree(struct cl_engine *engine, struct cl_error *error)
{
	int ret;

	if (engine->was_asked || !engine->has_remote || !engine->config.push_streams || !engine->remote_address_bytes ||
	    !cl_requests_first_image(engine))
		return 0;
	engine->was_asked = true;
	take_store(engine);
	pthread_mutex_lock(&engine->lock);
	ret = cl_push_agree(engine, error);
	engine->is_refused = ret == -EBUSY || ret == -ESHUTDOWN;
	pthread_mutex_unlock(&engine->lock);
	if (ret < 0)
		return cl_error_prefix(error, "page server: ");
	cl_log(&engine->log, CL_LOG_INFO, "page server: %s", ret ? "it pushes" : "it answers requests only");
	return 0;
}

int cl_engine_greet(struct cl_engine *engine, struct cl_error *error)
{
	cl_session_know_version(engine);
	return cl_session_agree(engine, error);
}

/*
 * Every page arrived: tell the page server. Answers on their way are for pages dropped meanwhile; the server must get
 * rid of them before it hears CLOSE.
 */
static void say_close(struct cl_engine *engine)
{
	struct cl_error error;
	int ret = -ENOTCONN;

	pthread_mutex_lock(&engine->lock);
	while (ret < 0 && engine->has_remote && !engine->stopping) {
		cl_requests_wait_until_idle(engine, 0);
		if (engine->remote.byte_ahead && !engine->stopping) {
			cl_requests_complete_byte_ahead(engine);
			cl_requests_wait_until_idle(engine, 0);
		}
		if (engine->stopping)
			break;
		ret = engine->source->close(engine, &error);
		if (ret < 0 && (ret == -EPROTO || !cl_engine_lose(engine, &error)))
			cl_engine_fail(engine, -EIO, "page server: every page arrived, but it did not confirm the end: %s",
				       error.text);
	}
	pthread_mutex_unlock(&engine->lock);
}

/*
 * All is served, but a restored task was killed, and nobody has its pages but the source: it must not hear that all went
 * well. A page server of ours keeps them when we leave. A stock one gives up what it has either way: it is told that the
 * restore failed, and its tasks run on; unless that would make two of one that lives here.
 */
static void end_with_losses(struct cl_engine *engine)
{
	char what[CL_ERROR_TEXT_BYTES - 100] = "";
	bool is_stock, must_close;

	pthread_mutex_lock(&engine->lock);
	if (engine->source->keeps_tasks) {
		cl_requests_wait_until_idle(engine, cl_now_us() + LAST_ANSWERS_US);
		cl_ended_tell_source(engine);
	}
	is_stock = engine->has_remote && !cl_engine_is_held(engine);
	must_close = is_stock && cl_ended_any_lives(engine);
	cl_ended_describe(engine, what, sizeof(what));
	if (!is_stock) {
		cl_engine_fail(engine, -ESRCH, "%s; the %s", what,
			       engine->has_remote ? "source still has them" : "images still have them");
	} else {
		cl_engine_note_failure(engine, -ESRCH, "%s; %s", what,
				       must_close ? "another restored task lives, so the source is told to end" :
						    "the source is told to let its tasks run on");
		/* What is on its way is for nobody. But what is sent must be sent whole. */
		cl_requests_wait_until_idle(engine, must_close ? 0 : cl_now_us() + LAST_ANSWERS_US);
	}
	pthread_mutex_unlock(&engine->lock);
	if (must_close) {
		say_close(engine);
	} else if (is_stock) {
		(void)cl_remote_roll_back(&engine->remote); /* where it is gone, there is nobody to tell */
		(void)shutdown(engine->remote.fd, SHUT_RD); /* whoever still waits for an answer */
	}
}

void cl_session_end(struct cl_engine *engine)
{
	bool well;

	pthread_mutex_lock(&engine->lock);
	well = engine->stopping || !engine->stats.lost_pages;
	pthread_mutex_unlock(&engine->lock);
	if (well)
		say_close(engine);
	else
		end_with_losses(engine);
}
