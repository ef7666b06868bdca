/* SPDX-License-Identifier: Apache-2.0 */
#include "source/listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "wire/conn.h"
#include "base/io.h"
#include "base/log.h"
#include "base/thread.h"
#include "source/push_server.h"
#include "source/tls_pump.h"
#include "wire/page_protocol.h"

enum {
	KEEPALIVE_SECONDS = 2,
	KEEPALIVE_PROBES = 127,
	REST_OF_HELLO_S = 10,
	OVER_HEARD_US = 3000000, /* how long a client is waited for that is to hear that all is over */
	NAME_BYTES = INET6_ADDRSTRLEN + 16,
};

struct connection {
	struct cl_listener *listener;
	struct connection *next; /* older ones */
	struct cl_conn conn;
	int proxy_fd;  /* our end of a socket pair to the proxy, or -1 */
	bool admitted; /* it has shown the key; without one: it has said what it wants */
	bool told_off; /* shut down, to make room */
	char name[NAME_BYTES];
	size_t host_bytes; /* of the name: its address without the port */
};

struct cl_listener {
	struct cl_dump_proxy *proxy;
	struct cl_push_server *push; /* NULL: there are no push clients */
	struct cl_precopy *precopy;  /* NULL: no store is served */
	struct cl_tls_credentials *tls;
	struct cl_log log;
	int socket, wake;
	pthread_t acceptor;
	pthread_mutex_t lock;
	pthread_cond_t gone; /* a connection */
	struct connection *connections;
	unsigned int nr_connections;
	unsigned int nr_strangers; /* of these: not admitted yet */
	bool stopping;
	uint64_t rate;
};

/* ---- what the client is ---- */

/* The first bytes that it sends are there, CL_WIRE_V1_BYTES of them or more. With TLS: they are read into `first`. */
static int await_first(struct connection *connection, uint8_t first[CL_WIRE_MAX_BYTES])
{
	int enough = CL_WIRE_V1_BYTES, one = 1;
	struct cl_error error;
	int64_t got;

	if (connection->conn.tls)
		return cl_conn_receive_exactly(connection->conn, first, CL_WIRE_V1_BYTES, 0, &error);
	if (setsockopt(connection->conn.fd, SOL_SOCKET, SO_RCVLOWAT, &enough, sizeof(enough)) < 0)
		return -errno;
	got = cl_receive(connection->conn.fd, first, CL_WIRE_V1_BYTES, MSG_PEEK | MSG_WAITALL);
	if (got < 0)
		return (int)got;
	if (setsockopt(connection->conn.fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof(one)) < 0)
		return -errno;
	return got == CL_WIRE_V1_BYTES ? 0 : -ECONNRESET;
}

/*
 * Whether this is a hello of the push protocol, of which `first` holds CL_WIRE_V1_BYTES; it is read to its end then. Its
 * version, 0 if it is something else, or -errno.
 */
static int read_hello(struct connection *connection, uint8_t *first, struct cl_push_hello *hello)
{
	size_t there = connection->conn.tls ? CL_WIRE_V1_BYTES : 0, bytes;
	int version = cl_push_tell_hello(first), ret;
	struct cl_wire_header header;
	struct cl_error error;

	if (!version)
		return 0;
	bytes = cl_wire_header_bytes(version);
	ret = cl_conn_receive_exactly(connection->conn, first + there, bytes - there, REST_OF_HELLO_S, &error);
	if (ret < 0)
		return ret;
	(void)cl_wire_unpack(version, first, &header);
	if (!cl_push_is_hello(&header, hello))
		return -EPROTO;
	if (hello->stream)
		ret = cl_conn_receive_exactly(connection->conn, hello->token, sizeof(hello->token), REST_OF_HELLO_S, &error);
	return ret < 0 ? ret : version;
}

/* ---- a client of CRIU's protocol ---- */

/* By a socket pair, whose other end the proxy has. */
static void pump(struct connection *connection, const uint8_t *first, size_t first_bytes)
{
	struct cl_tls_pump pump = { .client = connection->conn, .proxy = connection->listener->proxy };
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return;
	pthread_mutex_lock(&connection->listener->lock);
	connection->proxy_fd = pump.proxy_fd = pair[0];
	pthread_mutex_unlock(&connection->listener->lock);
	if (cl_dump_proxy_offer(connection->listener->proxy, pair[1], connection->name) == 0)
		cl_tls_pump_run(&pump, first, first_bytes);
}

static void hand_over(struct connection *connection, const uint8_t *first, size_t first_bytes)
{
	int fd = connection->conn.fd, ret;

	if (connection->conn.tls) {
		pump(connection, first, first_bytes);
		return;
	}
	pthread_mutex_lock(&connection->listener->lock);
	connection->conn.fd = -1;
	pthread_mutex_unlock(&connection->listener->lock);
	ret = cl_dump_proxy_offer(connection->listener->proxy, fd, connection->name);
	if (ret < 0)
		cl_log(&connection->listener->log, CL_LOG_WARN, "client %s: %s", connection->name,
		       ret == -EPIPE ? "there is no dump to ask any more" : "too many wait");
}

static void admit(struct connection *connection)
{
	struct cl_listener *listener = connection->listener;

	pthread_mutex_lock(&listener->lock);
	if (!connection->admitted)
		listener->nr_strangers--;
	connection->admitted = true;
	pthread_mutex_unlock(&listener->lock);
}

/* ---- what it wants ---- */

/* hello: NULL: it said none. */
static void serve_store(struct connection *connection, const struct cl_push_hello *hello)
{
	struct cl_listener *listener = connection->listener;
	struct cl_error error;
	uint8_t byte_ahead;

	if (!listener->precopy || !hello || !hello->stores)
		cl_log(&listener->log, CL_LOG_WARN, "client %s: %s the dump", connection->name,
		       listener->precopy ? "before" : "a store comes after");
	else if (cl_conn_receive_exactly(connection->conn, &byte_ahead, 1, REST_OF_HELLO_S, &error) == 0)
		cl_precopy_serve(listener->precopy, connection->conn, hello, connection->name);
}

static void join_push(struct connection *connection, const struct cl_push_hello *hello)
{
	if (connection->listener->push)
		cl_push_server_serve(connection->listener->push, connection->conn, hello, connection->name);
}

/* In words, if it said a hello. */
static void refuse(struct connection *connection, const struct cl_push_hello *hello, enum cl_push_reason reason)
{
	uint8_t out[CL_PUSH_ANSWER_BYTES], byte_ahead;
	struct cl_error error;

	cl_log(&connection->listener->log, CL_LOG_WARN, "client %s is refused: %s", connection->name,
	       reason == CL_PUSH_BUSY ? "another one's tasks are served" : "nobody gets pages of this dump any more");
	cl_push_pack_refusal(reason, out);
	/* What is left unread makes the end a reset, which may overtake the words. */
	if (hello && cl_conn_receive_exactly(connection->conn, &byte_ahead, 1, REST_OF_HELLO_S, &error) == 0 &&
	    cl_conn_send(connection->conn, out, sizeof(out)) == 0 && reason == CL_PUSH_OVER)
		cl_push_server_told_over(connection->listener->push, hello->client);
}

/* Who restores: by pushing, or by the proxy. first: what it said; hello: NULL: it was none. */
static void serve_pages(struct connection *connection, const uint8_t *first, const struct cl_push_hello *hello)
{
	struct cl_listener *listener = connection->listener;
	uint8_t plain[4] = { 0 }, byte_ahead; /* a stock server's answer to a hello: an i32 */
	struct cl_error error;

	switch (listener->push ? cl_push_server_admits(listener->push, hello ? hello->client : 0) : CL_PUSH_PLAIN) {
	case CL_PUSH_REFUSED_BUSY:
		refuse(connection, hello, CL_PUSH_BUSY);
		return;
	case CL_PUSH_REFUSED_OVER:
		refuse(connection, hello, CL_PUSH_OVER);
		return;
	case CL_PUSH_NOT_NOW:
		return;
	case CL_PUSH_ADMITTED:
		if (hello) {
			if (cl_conn_receive_exactly(connection->conn, &byte_ahead, 1, REST_OF_HELLO_S, &error) == 0)
				cl_push_server_serve(listener->push, connection->conn, hello, connection->name);
			return;
		}
		break;
	case CL_PUSH_PLAIN:
		plain[0] = listener->push ? CL_PUSH_PLAIN_GONE : 0;
		break;
	}
	if (!hello)
		hand_over(connection, first, connection->conn.tls ? CL_WIRE_V1_BYTES : 0);
	else if (cl_conn_send(connection->conn, plain, sizeof(plain)) == 0)
		hand_over(connection, first, 0); /* the byte ahead begins its first request */
}

/* ---- connections ---- */

static void serve_client(struct connection *connection)
{
	struct cl_listener *listener = connection->listener;
	uint8_t first[CL_WIRE_MAX_BYTES];
	struct cl_push_hello hello;
	struct cl_error error;
	int ret, version;

	if (listener->tls && cl_tls_start(listener->tls, connection->conn.fd, &connection->conn.tls, &error) < 0) {
		cl_log(&listener->log, CL_LOG_WARN, "client %s: %s", connection->name, error.text);
		return;
	}
	if (listener->tls)
		admit(connection);
	ret = await_first(connection, first);
	admit(connection);
	version = ret < 0 ? ret : read_hello(connection, first, &hello);
	if (version < 0) {
		if (!listener->stopping)
			cl_log(&listener->log, CL_LOG_INFO, "client %s left before it said what it wants", connection->name);
		return;
	}
	if (listener->precopy || (version && hello.stores))
		serve_store(connection, version ? &hello : NULL);
	else if (version && hello.stream)
		join_push(connection, &hello);
	else
		serve_pages(connection, first, version ? &hello : NULL);
}

static void *connection_thread(void *argument)
{
	struct connection *connection = argument, **link;
	struct cl_listener *listener = connection->listener;

	serve_client(connection);
	pthread_mutex_lock(&listener->lock);
	for (link = &listener->connections; *link != connection; link = &(*link)->next)
		;
	*link = connection->next;
	listener->nr_connections--;
	listener->nr_strangers -= connection->admitted ? 0 : 1;
	pthread_cond_broadcast(&listener->gone);
	/* With the lock held, so that nobody shuts down a descriptor that isn't ours any more. */
	cl_conn_close(&connection->conn);
	if (connection->proxy_fd >= 0)
		close(connection->proxy_fd);
	pthread_mutex_unlock(&listener->lock);
	free(connection);
	return NULL;
}

static void shut_down(struct connection *connection)
{
	if (connection->conn.fd >= 0)
		(void)shutdown(connection->conn.fd, SHUT_RDWR);
	if (connection->proxy_fd >= 0)
		(void)shutdown(connection->proxy_fd, SHUT_RDWR);
}

/* The oldest stranger of the address that most strangers come from. Lock held. */
static struct connection *stranger_to_leave(const struct cl_listener *listener)
{
	struct connection *connection, *other, *chosen = NULL;
	unsigned int crowd, biggest = 0;

	for (connection = listener->connections; connection; connection = connection->next) {
		if (connection->admitted || connection->told_off)
			continue;
		for (crowd = 0, other = listener->connections; other; other = other->next)
			if (!other->admitted && !other->told_off && other->host_bytes == connection->host_bytes &&
			    memcmp(other->name, connection->name, connection->host_bytes) == 0)
				crowd++;
		if (crowd >= biggest) { /* the last of those that are equal is the oldest */
			biggest = crowd;
			chosen = connection;
		}
	}
	return chosen;
}

/*
 * Make room for one more stranger. Lock held; dropped while waiting. False if all places are taken by clients that were
 * admitted: they never give way.
 */
static bool make_room(struct cl_listener *listener)
{
	struct connection *leaves;

	while (!listener->stopping &&
	       (listener->nr_strangers >= CL_LISTENER_STRANGERS || listener->nr_connections >= CL_LISTENER_CONNECTIONS)) {
		if (!listener->nr_strangers)
			return false;
		leaves = stranger_to_leave(listener);
		if (leaves) {
			leaves->told_off = true;
			shut_down(leaves);
		}
		pthread_cond_wait(&listener->gone, &listener->lock);
	}
	return !listener->stopping;
}

static void name_client(const struct sockaddr_storage *address, char *name)
{
	const struct sockaddr_in *in4 = (const struct sockaddr_in *)address;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
	char host[INET6_ADDRSTRLEN] = "?";

	if (address->ss_family == AF_INET) {
		inet_ntop(AF_INET, &in4->sin_addr, host, sizeof(host));
		snprintf(name, NAME_BYTES, "%s:%d", host, ntohs(in4->sin_port));
	} else {
		inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
		snprintf(name, NAME_BYTES, "[%s]:%d", host, ntohs(in6->sin6_port));
	}
}

static void set_option(int fd, int level, int option, int value)
{
	/* Each of these only makes things quicker. */
	(void)setsockopt(fd, level, option, &value, sizeof(value));
}

static void accept_client(struct cl_listener *listener)
{
	struct connection *connection;
	struct sockaddr_storage address = { 0 };
	socklen_t length = sizeof(address);
	pthread_t thread;
	int fd = accept4(listener->socket, (struct sockaddr *)&address, &length, SOCK_CLOEXEC);

	if (fd < 0)
		return; /* it went away meanwhile */
	connection = calloc(1, sizeof(*connection));
	if (!connection) {
		close(fd);
		return;
	}
	set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_SECONDS);
	set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_SECONDS);
	set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
	connection->listener = listener;
	connection->conn.fd = fd;
	connection->proxy_fd = -1;
	name_client(&address, connection->name);
	connection->host_bytes = (size_t)(strrchr(connection->name, ':') - connection->name);
	pthread_mutex_lock(&listener->lock);
	if (make_room(listener)) {
		connection->next = listener->connections;
		listener->connections = connection;
		listener->nr_connections++;
		listener->nr_strangers++;
		if (cl_thread_start(&thread, "cl-client", connection_thread, connection) == 0) {
			pthread_detach(thread);
			connection = NULL;
		} else {
			listener->connections = connection->next;
			listener->nr_connections--;
			listener->nr_strangers--;
		}
	}
	pthread_mutex_unlock(&listener->lock);
	if (connection) {
		close(fd);
		free(connection);
	}
}

static void *accept_clients(void *argument)
{
	struct cl_listener *listener = argument;
	struct pollfd p[2] = { { .fd = listener->socket, .events = POLLIN }, { .fd = listener->wake, .events = POLLIN } };

	while (!p[1].revents) {
		if (poll(p, 2, -1) < 0 && errno != EINTR) {
			cl_log(&listener->log, CL_LOG_ERROR, "poll: %s", strerror(errno));
			break;
		}
		if (p[0].revents && !p[1].revents)
			accept_client(listener);
	}
	return NULL;
}

/* ---- life ---- */

static bool frozen(void *context)
{
	return cl_dump_proxy_holds_source(context);
}

static void told(void *context, enum cl_push_told what, const char *name, uint64_t client)
{
	struct cl_dump_proxy *proxy = context;

	switch (what) {
	case CL_PUSH_TOLD_BEGUN:
		cl_dump_proxy_push_begins(proxy, name);
		break;
	case CL_PUSH_TOLD_MISSING:
		cl_dump_proxy_push_misses(proxy, client);
		break;
	case CL_PUSH_TOLD_DONE:
		cl_dump_proxy_push_is_done(proxy);
		break;
	case CL_PUSH_TOLD_ENDED:
		cl_dump_proxy_push_ends(proxy);
		break;
	case CL_PUSH_TOLD_LOST:
		cl_dump_proxy_source_lost(proxy, NULL);
		break;
	}
}

struct cl_listener *cl_listener_new(struct cl_dump_proxy *proxy, const struct cl_listener_config *config,
				    struct cl_error *error)
{
	struct cl_listener *listener = calloc(1, sizeof(*listener));
	int ret = 0;

	if (!listener) {
		close(config->listen_fd);
		cl_error_set(error, -ENOMEM, "no memory");
		return NULL;
	}
	listener->proxy = proxy;
	listener->precopy = proxy ? NULL : config->precopy;
	listener->log = (struct cl_log){
		.fd = config->log_fd, .level = config->log_level, .start_us = cl_now_us(), .from = "page-server"
	};
	listener->socket = config->listen_fd;
	listener->wake = eventfd(0, EFD_CLOEXEC);
	pthread_mutex_init(&listener->lock, NULL);
	pthread_cond_init(&listener->gone, NULL);
	if (listener->wake < 0)
		ret = cl_error_set(error, -errno, "eventfd: %s", strerror(errno));
	if (ret == 0 && config->tls)
		ret = cl_tls_load(config->tls, &listener->tls, error);
	if (ret == 0 && config->images_fd >= 0) {
		struct cl_push_server_config push = { .images_fd = config->images_fd,
						      .ids = config->ids,
						      .pids = config->pids,
						      .nr_tasks = config->nr_tasks,
						      .log = listener->log,
						      .told = told,
						      .frozen = frozen,
						      .context = proxy,
						      .client = cl_dump_proxy_restored_client(proxy),
						      .gone = config->gone };

		if (config->precopy)
			push.stored = cl_precopy_hashes(config->precopy, push.store_token);
		ret = cl_push_server_new(&push, &listener->push, error);
	}
	if (ret == 0) {
		cl_listener_set_rate(listener, config->rate);
		ret = cl_thread_start(&listener->acceptor, "cl-accept", accept_clients, listener);
		if (ret == 0)
			return listener;
		cl_error_set(error, ret, "no thread: %s", strerror(-ret));
	}
	listener->stopping = true;
	cl_listener_free(listener);
	return NULL;
}

/* A client that hears "over" gives up its missing pages, so it must be so. */
static bool is_over(struct cl_listener *listener)
{
	struct cl_dump_proxy_info info;

	cl_dump_proxy_info(listener->proxy, &info);
	return info.state == CL_DUMP_PROXY_COMMITTED || info.state == CL_DUMP_PROXY_ABORTED;
}

void cl_listener_free(struct cl_listener *listener)
{
	const uint64_t one = 1;
	struct connection *connection;

	if (!listener)
		return;
	if (!listener->stopping) {
		if (listener->push && is_over(listener))
			cl_push_server_tell_over(listener->push, OVER_HEARD_US);
		pthread_mutex_lock(&listener->lock);
		listener->stopping = true;
		pthread_cond_broadcast(&listener->gone);
		pthread_mutex_unlock(&listener->lock);
		while (write(listener->wake, &one, sizeof(one)) < 0 && errno == EINTR)
			;
		pthread_join(listener->acceptor, NULL);
		if (listener->push)
			cl_push_server_end(listener->push, CL_PUSH_END_LOST);
		pthread_mutex_lock(&listener->lock);
		for (connection = listener->connections; connection; connection = connection->next)
			shut_down(connection);
		while (listener->nr_connections)
			pthread_cond_wait(&listener->gone, &listener->lock);
		pthread_mutex_unlock(&listener->lock);
	}
	cl_push_server_free(listener->push);
	cl_tls_credentials_free(listener->tls);
	close(listener->socket);
	if (listener->wake >= 0)
		close(listener->wake);
	pthread_cond_destroy(&listener->gone);
	pthread_mutex_destroy(&listener->lock);
	free(listener);
}

int cl_listener_stand_alone(struct cl_listener *listener)
{
	return listener->push ? cl_push_server_stand_alone(listener->push) : -ENOENT;
}

void cl_listener_set_rate(struct cl_listener *listener, uint64_t bytes_per_s)
{
	pthread_mutex_lock(&listener->lock);
	listener->rate = bytes_per_s;
	pthread_mutex_unlock(&listener->lock);
	if (listener->push)
		cl_push_server_set_rate(listener->push, bytes_per_s);
}

void cl_listener_drop_client(struct cl_listener *listener)
{
	if (listener->push)
		cl_push_server_end(listener->push, CL_PUSH_END_SESSION);
}

void cl_listener_info(struct cl_listener *listener, struct cl_listener_info *out)
{
	struct cl_push_server_info push = { 0 };

	if (listener->push)
		cl_push_server_info(listener->push, &push);
	*out = (struct cl_listener_info){ .sessions = push.sessions,
					  .streams = push.nr_streams,
					  .asked_pages = push.asked_pages,
					  .left_pages = push.left_pages,
					  .pushed_pages = push.pushed_pages,
					  .zero_pages = push.zero_pages,
					  .packed_pages = push.packed_pages,
					  .same_pages = push.same_pages,
					  .also_pages = push.also_pages,
					  .sent_bytes = push.sent_bytes,
					  .lost_tasks = push.lost_tasks,
					  .lost_pages = push.lost_pages,
					  .lost_task = push.lost_task,
					  .lost_signal = push.lost_signal };
	pthread_mutex_lock(&listener->lock);
	out->rate = listener->rate;
	pthread_mutex_unlock(&listener->lock);
}
