/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pushing_server: a page server that pushes what a stress_task had at its dump, and goes wrong as a test wants it: it cuts
 * connections, refuses, hangs up, says what isn't so, sends damaged messages.
 */
#ifndef PUSHING_SERVER_H
#define PUSHING_SERVER_H

#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "criu_lazy.h"
#include "push_images.h"
#include "stress.h"
#include "wire/page_protocol.h"
#include "wire/push_protocol.h"

enum {
	STREAMS = 2,
	PUSH_PAGES = 8,
	PAGE_US = 300,
	CUT_PAGES = 500,
	TOKEN_START = 0x5a,
	STORE_TOKEN = 0x77,
	LIE_AFTER = 300
};

struct server {
	int listener;
	uint64_t base; /* of the task's memory */
	uint64_t random;
	bool cuts, hostile, hasty;
	const struct cl_push_header *wrong; /* all that it says */
	bool wrong_on_demand;
	unsigned int also_before; /* that many ALSO of two pages, which are right, come before */
	struct cl_error error;    /* the client's last word */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* The session: connections that came in it. All of them end with it. */
	unsigned int session, nr_threads;
	int fds[1 + STREAMS];
	bool wanted[PAGES]; /* missing there, and not pushed yet */
	bool told, done;
	uint64_t next;      /* page to push */
	uint64_t until_cut; /* pages */
	bool stores, lies;  /* the client has a store; the server will say once what isn't so of it */
	bool tells_more;    /* it pushes nothing; before the first page that is asked for, it tells of all that is stored */
	bool told_store;    /* in this session */
	bool ahead;         /* before the client has said what it misses, it sends all, each stream its part */
	uint64_t missing;   /* pages that the client said it misses */
	bool lied;
	bool drops_a_stream; /* of the first session */
	uint64_t sessions, pushed, asked;
	uint64_t client; /* whose sessions these are */
	/* Hellos that open a session: */
	unsigned int hellos, pushes_until;     /* so many, 0: always; then it only answers requests */
	enum cl_push_reason refuses;           /* for this reason, */
	unsigned int refused_from, refused_to; /* from this hello on to that one, or each that is no multiple of 3 */
	uint64_t answered;                     /* pages, by requests */
};

static bool read_fully(int fd, void *data, size_t size)
{
	return recv(fd, data, size, MSG_WAITALL) == (ssize_t)size;
}

static bool send_fully(int fd, const void *data, size_t size)
{
	return send(fd, data, size, MSG_NOSIGNAL) == (ssize_t)size;
}

static bool is_stored(uint64_t page)
{
	return is_lazy(page) && page % 3;
}

static bool send_same(const struct server *server, int fd, uint64_t page)
{
	struct cl_push_header header = {
		.type = CL_PUSH_SAME, .nr_pages = 1, .vaddr = server->base + page * CL_PAGE_SIZE, .dst_id = PID
	};
	uint8_t out[CL_PUSH_HEADER_BYTES];

	cl_push_pack(&header, out);
	return send_fully(fd, out, sizeof(out));
}

static bool send_pages(const struct server *server, int fd, uint64_t page, unsigned int nr_pages)
{
	struct cl_push_header header = { .type = CL_PUSH_PAGES,
					 .bytes = nr_pages * CL_PAGE_SIZE,
					 .nr_pages = nr_pages,
					 .vaddr = server->base + page * CL_PAGE_SIZE,
					 .dst_id = PID };
	uint8_t out[CL_PUSH_HEADER_BYTES];
	uint64_t words[WORDS];
	unsigned int word;

	cl_push_pack(&header, out);
	if (!send_fully(fd, out, sizeof(out)))
		return false;
	for (; nr_pages; nr_pages--, page++) {
		for (word = 0; word < WORDS; word++)
			words[word] = word_at_dump(page, word);
		if (!send_fully(fd, words, sizeof(words)))
			return false;
	}
	return true;
}

/* The same, so packed. */
static bool send_packed(const struct server *server, int fd, uint64_t page, unsigned int nr_pages, enum cl_packing_way way)
{
	struct cl_push_header header = { .type = way == CL_LZ4 ? CL_PUSH_PACKED : CL_PUSH_PACKED_ZSTD,
					 .nr_pages = nr_pages,
					 .vaddr = server->base + page * CL_PAGE_SIZE,
					 .dst_id = PID };
	uint64_t words[PUSH_PAGES * WORDS];
	uint8_t out[CL_PUSH_HEADER_BYTES + sizeof(words)];
	struct cl_packer packer = { 0 };
	unsigned int i;

	for (i = 0; i < nr_pages * WORDS; i++)
		words[i] = word_at_dump(page + i / WORDS, i % WORDS);
	header.bytes = (uint32_t)cl_compression_pack(&packer, way, (uint8_t *)words, nr_pages * CL_PAGE_SIZE,
						     out + CL_PUSH_HEADER_BYTES);
	cl_packer_free(&packer);
	CHECK(header.bytes);
	cl_push_pack(&header, out);
	return send_fully(fd, out, CL_PUSH_HEADER_BYTES + header.bytes);
}

/* Lock held. */
static void cut(struct server *server)
{
	unsigned int i;

	server->session++;
	for (i = 0; i < 1 + STREAMS; i++) {
		if (server->fds[i] >= 0)
			shutdown(server->fds[i], SHUT_RDWR);
		server->fds[i] = -1;
	}
	pthread_cond_broadcast(&server->changed);
}

/* ---- one connection ---- */

struct connection {
	struct server *server;
	int fd;
	unsigned int session, number;
};

static bool is_current(const struct server *server, const struct connection *connection)
{
	return server->session == connection->session && !server->done;
}

/* What the client says on the demand connection, until the session's end. */
static void listen_to_client(struct server *server, struct connection *connection)
{
	uint8_t raw[CL_PUSH_HEADER_BYTES];
	struct cl_push_header header;
	uint64_t page;
	bool same, more;

	while (read_fully(connection->fd, raw, sizeof(raw))) {
		cl_push_unpack(raw, &header);
		page = (header.vaddr - server->base) / CL_PAGE_SIZE;
		pthread_mutex_lock(&server->lock);
		switch (header.type) {
		case CL_PUSH_GET:
			CHECK(header.dst_id == PID && header.nr_pages == 1 && page < PAGES && is_lazy(page));
			server->wanted[page] = false;
			server->asked++;
			same = server->told_store && is_stored(page);
			more = server->tells_more && server->asked == 1;
			pthread_mutex_unlock(&server->lock);
			for (uint64_t other = 0; more && other < PAGES; other++)
				if (is_stored(other) && other != page)
					(void)send_same(server, connection->fd, other);
			if (same)
				(void)send_same(server, connection->fd, page);
			else
				(void)send_pages(server, connection->fd, page, 1);
			pthread_mutex_lock(&server->lock);
			break;
		case CL_PUSH_STORE:
			CHECK(server->stores && !server->lied);
			CHECK(read_fully(connection->fd, raw, CL_PUSH_TOKEN_BYTES) && raw[0] == STORE_TOKEN);
			server->told_store = true;
			break;
		case CL_PUSH_MISSING:
			CHECK(header.dst_id == PID && page < PAGES && header.nr_pages <= PAGES - page);
			server->missing += header.nr_pages;
			for (; header.nr_pages; header.nr_pages--)
				server->wanted[page++] = true;
			break;
		case CL_PUSH_GO:
			server->told = true;
			pthread_cond_broadcast(&server->changed);
			break;
		case CL_PUSH_DONE:
			if (is_current(server, connection)) {
				header = (struct cl_push_header){ .type = CL_PUSH_CLOSED };
				cl_push_pack(&header, raw);
				server->done = send_fully(connection->fd, raw, sizeof(raw));
				if (server->hasty)
					cut(server);
				pthread_cond_broadcast(&server->changed);
			}
			break;
		default:
			CHECK(!"a message that no client sends");
		}
		pthread_mutex_unlock(&server->lock);
	}
}

/* The next run to push, at most PUSH_PAGES. False if there is none. Lock held. */
static bool next_run(struct server *server, uint64_t *page, unsigned int *nr_pages)
{
	unsigned int i;

	for (i = 0; i < PAGES && !server->wanted[server->next]; i++)
		server->next = (server->next + 1) % PAGES;
	*page = server->next;
	for (*nr_pages = 0; *nr_pages < PUSH_PAGES && *page + *nr_pages < PAGES && server->wanted[*page + *nr_pages];)
		server->wanted[*page + (*nr_pages)++] = false;
	return *nr_pages;
}

/* Page by page: what is stored, and what isn't; the one lie, when its time has come. */
static void push_same(struct server *server, struct connection *connection, uint64_t page, unsigned int nr_pages)
{
	for (; nr_pages; nr_pages--, page++) {
		bool lie = server->lies && !server->lied && server->pushed > LIE_AFTER && !is_stored(page);

		server->lied |= lie;
		if (is_stored(page) || lie)
			(void)send_same(server, connection->fd, page);
		else
			(void)send_pages(server, connection->fd, page, 1);
	}
}

/* As what isn't stored comes: each way in turn. */
static bool send_some(const struct server *server, int fd, uint64_t page, unsigned int nr_pages, enum cl_packing_way *way)
{
	enum cl_packing_way now = *way;

	*way = (now + 1) % CL_PACKING_WAYS;
	return now == CL_AS_IT_IS ? send_pages(server, fd, page, nr_pages) : send_packed(server, fd, page, nr_pages, now);
}

/* What the stream's part is of all pages. */
static void send_ahead(const struct server *server, const struct connection *connection, enum cl_packing_way *way)
{
	uint64_t page;

	for (page = connection->number - 1; page < PAGES; page += STREAMS)
		if (is_stored(page))
			(void)send_same(server, connection->fd, page);
		else if (is_lazy(page))
			(void)send_some(server, connection->fd, page, 1, way);
}

static void push_pages(struct server *server, struct connection *connection)
{
	enum cl_packing_way way = CL_AS_IT_IS;
	unsigned int nr_pages;
	uint64_t page;

	if (server->ahead)
		send_ahead(server, connection, &way);
	pthread_mutex_lock(&server->lock);
	while (is_current(server, connection)) {
		if (!server->told || server->tells_more || !next_run(server, &page, &nr_pages)) {
			pthread_cond_wait(&server->changed, &server->lock);
			continue;
		}
		if (server->told_store) {
			push_same(server, connection, page, nr_pages);
			server->pushed += nr_pages;
			continue;
		}
		pthread_mutex_unlock(&server->lock);
		usleep(PAGE_US * nr_pages);
		(void)send_some(server, connection->fd, page, nr_pages, &way);
		pthread_mutex_lock(&server->lock);
		server->pushed += nr_pages;
		if (server->cuts && server->until_cut < nr_pages && is_current(server, connection)) {
			server->until_cut = CUT_PAGES / 2 + next_random(&server->random) % CUT_PAGES;
			cut(server);
		} else {
			server->until_cut -= nr_pages;
		}
	}
	pthread_mutex_unlock(&server->lock);
}

/* Messages of which nearly all bytes are right, as long as the client takes them. */
static void send_damaged(struct server *server, struct connection *connection)
{
	uint8_t raw[CL_PUSH_HEADER_BYTES], data[4 * CL_PAGE_SIZE];
	struct cl_push_header header;
	uint64_t random;
	int sent = 0;

	memset(data, 0xee, sizeof(data));
	do {
		header = (struct cl_push_header){
			.type = CL_PUSH_PAGES, .bytes = CL_PAGE_SIZE, .nr_pages = 1, .dst_id = PID
		};
		pthread_mutex_lock(&server->lock);
		random = next_random(&server->random);
		pthread_mutex_unlock(&server->lock);
		header.vaddr = server->base + random % PAGES / 8 * 8 * CL_PAGE_SIZE;
		switch (random >> 32 & 63) {
		case 0:
			header.vaddr += 7 * CL_PAGE_SIZE; /* not lazy */
			break;
		case 1:
			header.nr_pages = random >> 40;
			break;
		case 2:
			header.type = (uint16_t)(random >> 40);
			break;
		case 3:
			header.vaddr = next_random(&random);
			break;
		case 4:
			header.vaddr += random >> 40 & 4095;
			break;
		case 5:
			header.nr_pages = 8; /* the last one is not lazy */
			break;
		case 6:
			header.dst_id = random >> 40;
			break;
		case 7:
			header.type = CL_PUSH_ZERO;
			header.bytes = 0;
			header.nr_pages = random >> 40;
			break;
		case 8:
			header.type = CL_PUSH_ZERO; /* all right */
			header.bytes = 0;
			header.nr_pages = 7;
			break;
		case 9:
			header.type = CL_PUSH_ALSO; /* right, but where it has no place */
			header.bytes = 0;
			break;
		}
		cl_push_pack(&header, raw);
		if ((random >> 38 & 127) == 0)
			raw[random >> 45 & 31] ^= (uint8_t)(1 << (random >> 50 & 7));
	} while (send_fully(connection->fd, raw, sizeof(raw)) &&
		 send_fully(connection->fd, data,
			    !header.bytes ? 0 :
			    random >> 60  ? CL_PAGE_SIZE :
					    random >> 50 & (sizeof(data) - 1)) &&
		 ++sent < 2000);
	shutdown(connection->fd, SHUT_RDWR);
}

/* One message and its bytes, and nothing more. */
static void send_wrong(struct server *server, struct connection *connection)
{
	uint8_t raw[CL_PUSH_HEADER_BYTES], data[8 * CL_PAGE_SIZE] = { 0 };

	if (server->wrong_on_demand == (connection->number == 0)) {
		struct cl_push_header header = *server->wrong;
		struct cl_push_header also = { CL_PUSH_ALSO, 0, 2, server->base, PID };

		cl_push_pack(&also, raw);
		for (unsigned int i = 0; i < server->also_before; i++)
			(void)send_fully(connection->fd, raw, sizeof(raw));
		if (header.dst_id)
			header.vaddr += server->base;
		cl_push_pack(&header, raw);
		(void)send_fully(connection->fd, raw, sizeof(raw));
		(void)send_fully(connection->fd, data, server->wrong->bytes);
	}
	while (recv(connection->fd, raw, sizeof(raw), 0) > 0)
		;
}

/* ---- sessions ---- */

/* As a stock server answers requests, of which the first byte was read; until CLOSE. */
static void answer_requests(struct server *server, struct connection *connection)
{
	uint8_t raw[CL_WIRE_V2_BYTES] = { CL_WIRE_GET }, first = 1;
	struct cl_wire_header header;
	uint64_t words[WORDS], page;
	unsigned int word;

	for (; read_fully(connection->fd, raw + first, sizeof(raw) - first); first = 0) {
		CHECK(cl_wire_unpack(2, raw, &header) == 0);
		if (header.cmd == CL_WIRE_CLOSE) {
			pthread_mutex_lock(&server->lock);
			server->done = send_fully(connection->fd, (uint8_t[4]){ 0 }, 4);
			pthread_mutex_unlock(&server->lock);
			return;
		}
		CHECK(header.cmd == CL_WIRE_GET && header.dst_id == PID);
		page = (header.vaddr - server->base) / CL_PAGE_SIZE;
		server->answered += header.nr_pages;
		header.cmd = CL_WIRE_ADD_F;
		header.flags = CL_WIRE_FLAG_PRESENT;
		cl_wire_pack(2, &header, raw);
		(void)send_fully(connection->fd, raw, sizeof(raw));
		for (; header.nr_pages; header.nr_pages--, page++) {
			for (word = 0; word < WORDS; word++)
				words[word] = word_at_dump(page, word);
			(void)send_fully(connection->fd, words, sizeof(words));
		}
	}
}

static bool is_refused(const struct server *server)
{
	if (!server->refuses || server->hellos < server->refused_from)
		return false;
	return server->refused_to ? server->hellos <= server->refused_to : server->hellos % 3;
}

/* The number of a new connection in its session: 0 demand. -1: it is one of a session that is over. */
static int greet(struct server *server, int fd)
{
	uint8_t raw[CL_WIRE_V2_BYTES], byte_ahead, out[CL_PUSH_ANSWER_BYTES];
	struct cl_push_answer answer = { .nr_streams = STREAMS };
	struct cl_wire_header header;
	struct cl_push_hello hello;

	if (!read_fully(fd, raw, sizeof(raw)))
		return -1;
	(void)cl_wire_unpack(2, raw, &header);
	CHECK(cl_push_is_hello(&header, &hello));
	if (hello.stream) {
		if (!read_fully(fd, hello.token, sizeof(hello.token)))
			return -1;
		CHECK(hello.stream <= STREAMS && (server->stores || !hello.early));
		answer.nr_streams = hello.stream;
		cl_push_pack_answer(&answer, out);
		if (server->drops_a_stream && server->sessions == 1)
			return -1;
		if (hello.token[0] != (uint8_t)(TOKEN_START + server->session) || server->fds[0] < 0)
			return -1;
		CHECK(server->fds[hello.stream] < 0 && send_fully(fd, out, sizeof(out)));
		return (int)hello.stream;
	}
	CHECK(hello.nr_streams == STREAMS);
	if (!read_fully(fd, &byte_ahead, 1))
		return -1;
	CHECK(byte_ahead == CL_WIRE_GET);
	CHECK(hello.client > CL_PUSH_UNNAMED && (!server->client || hello.client == server->client));
	server->client = hello.client;
	server->hellos++;
	if (is_refused(server)) {
		cl_push_pack_refusal(server->refuses, out);
		(void)send_fully(fd, out, sizeof(out));
		return -1;
	}
	cut(server);
	if (server->pushes_until && server->hellos > server->pushes_until) {
		server->sessions++;
		return send_fully(fd, (uint8_t[4]){ CL_PUSH_PLAIN_GONE }, 4) ? 0 : -1;
	}
	memset(server->wanted, 0, sizeof(server->wanted));
	server->told = server->told_store = false;
	server->sessions++;
	memset(answer.token, TOKEN_START + (int)server->session, sizeof(answer.token));
	cl_push_pack_answer(&answer, out);
	return send_fully(fd, out, sizeof(out)) ? 0 : -1;
}

static void *serve_connection(void *argument)
{
	struct connection *connection = argument;
	struct server *server = connection->server;

	if (server->wrong)
		send_wrong(server, connection);
	else if (server->hostile)
		send_damaged(server, connection);
	else if (server->pushes_until && server->hellos > server->pushes_until)
		answer_requests(server, connection);
	else if (connection->number)
		push_pages(server, connection);
	else
		listen_to_client(server, connection);
	pthread_mutex_lock(&server->lock);
	if (server->session == connection->session)
		server->fds[connection->number] = -1;
	shutdown(connection->fd, SHUT_RDWR);
	close(connection->fd);
	server->nr_threads--;
	pthread_cond_broadcast(&server->changed);
	pthread_mutex_unlock(&server->lock);
	free(connection);
	return NULL;
}

/* Until the listener is shut down. */
static void *serve(void *argument)
{
	struct server *server = argument;
	pthread_t thread;
	int fd;

	while ((fd = accept(server->listener, NULL, NULL)) >= 0) {
		struct connection *connection = malloc(sizeof(*connection));
		int number;

		CHECK(connection);
		pthread_mutex_lock(&server->lock);
		number = greet(server, fd);
		if (number < 0) {
			close(fd);
			free(connection);
		} else {
			server->fds[number] = fd;
			*connection = (struct connection){ server, fd, server->session, (unsigned int)number };
			server->nr_threads++;
			CHECK(pthread_create(&thread, NULL, serve_connection, connection) == 0);
			pthread_detach(thread);
		}
		pthread_mutex_unlock(&server->lock);
	}
	pthread_mutex_lock(&server->lock);
	cut(server);
	while (server->nr_threads)
		pthread_cond_wait(&server->changed, &server->lock);
	pthread_mutex_unlock(&server->lock);
	return NULL;
}

#endif
