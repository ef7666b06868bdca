/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "base/deadline.h"
#include "base/thread.h"
#include "source/push_server_state.h"
#include "wire/compression.h"

/* ---- life ---- */

int cl_push_server_new(const struct cl_push_server_config *config, struct cl_push_server **out, struct cl_error *error)
{
	struct cl_push_server *server = calloc(1, sizeof(*server));
	int ret;

	*out = server;
	if (!server)
		return cl_error_set(error, -ENOMEM, "no memory");
	server->config = *config;
	server->client = config->client;
	server->gone = config->gone;
	server->restored = config->client != 0;
	memset(server->session.fds, -1, sizeof(server->session.fds));
	pthread_mutex_init(&server->lock, NULL);
	cl_cond_init(&server->work);
	ret = cl_push_tasks_open(&server->tasks, config->images_fd, config->ids, config->pids, config->nr_tasks, error);
	if (ret == 0 && config->stored)
		cl_push_compare_start(server);
	if (ret < 0) {
		cl_push_server_free(server);
		*out = NULL;
	}
	return ret;
}

void cl_push_server_free(struct cl_push_server *server)
{
	if (!server)
		return;
	cl_push_compare_stop(server);
	free(server->compare.compared);
	cl_push_tasks_close(&server->tasks);
	pthread_cond_destroy(&server->work);
	pthread_mutex_destroy(&server->lock);
	free(server);
}

/* ---- the session ---- */

void cl_push_session_end(struct cl_push_server *server)
{
	unsigned int i;

	for (i = 0; i < sizeof(server->session.fds) / sizeof(server->session.fds[0]); i++) {
		if (server->session.fds[i] >= 0)
			(void)shutdown(server->session.fds[i], SHUT_RDWR);
		server->session.fds[i] = -1;
	}
	server->session.going = false;
	server->session.number++;
	server->info.nr_streams = 0;
	pthread_cond_broadcast(&server->work);
}

/* Lock held. */
static enum cl_push_admission admission(const struct cl_push_server *server, uint64_t client)
{
	bool taken = server->session.fds[0] >= 0 || server->restored;

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
	cl_push_session_end(server);
	server->client = hello->client;
	for (i = 0; i < server->tasks.nr; i++) {
		cl_image_set_todo(server->tasks.at[i].image, CL_REMOTE, 0, server->tasks.at[i].image->nr_pages, false);
		server->tasks.at[i].image->background[CL_REMOTE] = 0;
		server->tasks.at[i].same_at = 0;
		memset(server->tasks.at[i].siblings, 0, sizeof(server->tasks.at[i].siblings));
	}
	memcpy(server->session.token, answer->token, sizeof(server->session.token));
	server->session.unpacks = hello->unpacks;
	server->session.shares = hello->shares;
	server->session.stores = false;
	memset(server->session.sent, 0, sizeof(server->session.sent));
	server->session.fds[0] = fd;
	server->info.sessions++;
	server->info.lost_tasks = 0; /* it tells anew */
	server->info.lost_pages = 0;
	server->info.nr_streams = hello->nr_streams;
	*session = server->session.number;
	server->config.told(server->config.context, CL_PUSH_TOLD_BEGUN, name, server->client);
	pthread_mutex_unlock(&server->lock);
	return 0;
}

bool cl_push_same_token(const uint8_t *a, const uint8_t *b)
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
	known = server->session.fds[0] >= 0 && hello->stream <= server->info.nr_streams &&
		server->session.fds[hello->stream] < 0 && cl_push_same_token(hello->token, server->session.token);
	if (known)
		server->session.fds[hello->stream] = fd;
	*session = server->session.number;
	pthread_mutex_unlock(&server->lock);
	return known ? 0 : -EPERM;
}

/* This connection is over, and with it the session, if that isn't over yet. */
static void leave_session(struct cl_push_server *server, uint64_t session)
{
	pthread_mutex_lock(&server->lock);
	if (server->session.number == session) {
		cl_push_session_end(server);
		server->config.told(server->config.context, CL_PUSH_TOLD_ENDED, NULL, server->client);
	}
	pthread_mutex_unlock(&server->lock);
}

/* ---- connections ---- */

void cl_push_server_serve(struct cl_push_server *server, struct cl_conn conn, const struct cl_push_hello *hello,
			  const char *name)
{
	struct cl_push_answer answer = { .nr_streams = hello->stream };
	uint8_t out[CL_PUSH_ANSWER_BYTES], *buffer = hello->stream ? NULL : cl_pages_alloc(1 + CL_PUSH_MAX_PAGES);
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
		ret = hello->stream ? cl_push_serve_stream(server, conn, session, hello) :
				      cl_push_serve_demand(server, conn, session, buffer + CL_PAGE_SIZE);
	if (ret < 0 && ret != -ECANCELED)
		cl_log(&server->config.log, CL_LOG_WARN, "push: connection %u of session %llu: %s", hello->stream,
		       (unsigned long long)session,
		       ret == -EPROTO || ret == -EBADMSG ? "the client broke the protocol" : strerror(-ret));
	leave_session(server, session);
	free(buffer);
}

void cl_push_server_end(struct cl_push_server *server, enum cl_push_end end)
{
	pthread_mutex_lock(&server->lock);
	server->closed = server->closed || end != CL_PUSH_END_SESSION;
	server->over = server->over || end == CL_PUSH_END_OVER;
	if (server->closed)
		cl_push_compare_end(server);
	if (server->session.fds[0] >= 0) {
		cl_push_session_end(server);
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
	pthread_mutex_unlock(&server->lock);
	if (!served)
		return -ENOENT;
	for (size_t i = 0; ret == 0 && i < server->tasks.nr; i++)
		ret = cl_task_memory_note_stop(&server->tasks.at[i].memory);
	pthread_mutex_lock(&server->lock);
	if (server->gone) /* perhaps just now: see lose_task() */
		ret = -ESRCH;
	server->alone = ret == 0;
	pthread_mutex_unlock(&server->lock);
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
