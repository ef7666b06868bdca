/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine as client of a page server that pushes (one of its own, below), over TCP.
 *   steady TASK SEED   under stress_task, which never holds still: every word that it reads is right
 *   cut TASK SEED      the same, and all connections are cut again and again
 *   same TASK SEED     the same without cuts; two pages of three came before, and lie in a store
 *   lying TASK SEED    the same, and once the server takes a page for stored that isn't
 *   gone TASK SEED     the same with cuts; at the third one the server can't push any more, and is asked instead
 *   busy TASK SEED     the same with cuts, after each of which the server refuses a few times
 *   turned-away        a server that refuses from the start, and one that does for good once the task runs
 *   early              before the restore is done the first session loses a stream: another one is opened
 *   hasty              the server hangs up as soon as it has confirmed the end, and nobody calls again
 *   refused            messages that are not right in one thing each: the client sees it, and ends
 *   hostile SEED       a server that sends damaged messages: nothing is installed where nothing was asked for
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "criu_lazy.h"
#include "push_images.h"
#include "wire/push_protocol.h"
#include "destination/precopy_store.h"
#include "stress.h"

enum {
	STREAMS = 2,
	PUSH_PAGES = 8,
	PAGE_US = 300,
	CUT_PAGES = 500,
	TOKEN_START = 0x5a,
	STORE_TOKEN = 0x77,
	LIE_AFTER = 300
};

/* ---- the page server ---- */

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
	bool told_store;    /* in this session */
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
	bool same;

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
			pthread_mutex_unlock(&server->lock);
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

static void push_pages(struct server *server, struct connection *connection)
{
	unsigned int nr_pages;
	uint64_t page;

	pthread_mutex_lock(&server->lock);
	while (is_current(server, connection)) {
		if (!server->told || !next_run(server, &page, &nr_pages)) {
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
		(void)send_pages(server, connection->fd, page, nr_pages);
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
		CHECK(hello.stream <= STREAMS);
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

static int listen_on_loopback(struct sockaddr_in *address)
{
	socklen_t length = sizeof(*address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*address = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	CHECK(fd >= 0 && bind(fd, (struct sockaddr *)address, sizeof(*address)) == 0 && listen(fd, 16) == 0);
	CHECK(getsockname(fd, (struct sockaddr *)address, &length) == 0);
	return fd;
}

/* ---- the client's side ---- */

/* A directory with the store, in which two of three lazy pages are as at the dump. */
static int make_store(char *directory, uint64_t base)
{
	uint8_t token[CL_PUSH_TOKEN_BYTES];
	uint64_t words[WORDS], page;
	struct cl_precopy_store *store;
	unsigned int word;
	int fd;

	CHECK(mkdtemp(directory));
	fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(fd >= 0 && cl_precopy_store_create(fd, &store) == 0);
	for (page = 0; page < PAGES; page++) {
		for (word = 0; word < WORDS; word++)
			words[word] = word_at_dump(page, word);
		if (is_stored(page))
			CHECK(cl_precopy_store_write(store, PID, base + page * CL_PAGE_SIZE, 1, (uint8_t *)words) == 0);
	}
	memset(token, STORE_TOKEN, sizeof(token));
	CHECK(cl_precopy_store_finish(store, fd, token) == 0);
	cl_precopy_store_free(store);
	return fd;
}

/* Run an engine that is connected to the server until its end. */
static int run_engine(struct server *server, int restore, struct cl_stats *stats)
{
	char directory[] = "/tmp/criu-lazy-push.XXXXXX", store[] = "/tmp/criu-lazy-store.XXXXXX";
	struct cl_vma vma = { server->base, server->base + (uint64_t)PAGES * CL_PAGE_SIZE, 0 };
	struct cl_config config = { .precopied_fd = -1,
				    .log_fd = server->hostile ? -1 : 2,
				    .log_level = 1,
				    .nr_workers = 2,
				    .push_streams = STREAMS,
				    .reconnect_us = server->hostile || server->hasty ? 0 : 20000000 };
	struct sockaddr_in address;
	struct cl_engine *engine;
	pthread_t server_thread;
	int remote, status;

	pthread_cond_init(&server->changed, NULL);
	memset(server->fds, -1, sizeof(server->fds));
	server->until_cut = CUT_PAGES;
	server->listener = listen_on_loopback(&address);
	CHECK(pthread_create(&server_thread, NULL, serve, server) == 0);
	remote = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(remote >= 0 && connect(remote, (struct sockaddr *)&address, sizeof(address)) == 0);

	config.images_fd = make_images(directory, PID, server->base, PAGES);
	if (server->stores)
		config.precopied_fd = make_store(store, server->base);
	engine = cl_engine_new(&config, &server->error);
	CHECK(engine && cl_engine_add_task(engine, PID, &vma, 1, &server->error) == 0);
	CHECK(cl_engine_set_remote(engine, remote, &server->error) == 0);
	status = cl_engine_run(engine, restore, &server->error);
	if (status < 0 && !server->hostile)
		fprintf(stderr, "engine: %s\n", server->error.text);
	cl_engine_stats(engine, stats);
	cl_engine_free(engine);
	remove_images(directory, PID, config.images_fd);
	if (server->stores) {
		close(config.precopied_fd);
		CHECK(rmdir(store) == 0); /* it is empty */
	}
	shutdown(server->listener, SHUT_RDWR);
	pthread_join(server_thread, NULL);
	close(server->listener);
	return status;
}

static void under_a_task(const char *program, const char *seed, struct server server)
{
	char restore_arg[12], done_arg[12];
	int restore[2], done[2], status;
	struct cl_stats stats;
	pid_t child;

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, restore) == 0 && pipe(done) == 0);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		snprintf(restore_arg, sizeof(restore_arg), "%d", restore[1]);
		snprintf(done_arg, sizeof(done_arg), "%d", done[0]);
		close(restore[0]);
		close(done[1]);
		execl(program, program, restore_arg, done_arg, seed, "0", NULL);
		_exit(127);
	}
	close(restore[1]);
	close(done[0]);
	fcntl(done[1], F_SETFD, FD_CLOEXEC);
	CHECK(run_engine(&server, restore[0], &stats) == 0);
	CHECK(server.done && stats.remaining_pages == 0);
	CHECK(server.pushed > PAGES / 4 && server.asked > 0 && stats.demand_faults > 0);
	CHECK(stats.push_streams == (server.pushes_until ? 0 : STREAMS) &&
	      (server.answered != 0) == (server.pushes_until != 0));
	if (server.cuts)
		CHECK(stats.reconnects >= 2 && server.sessions == stats.reconnects + 1);
	else
		CHECK(stats.reconnects == server.lies);
	CHECK(server.lied == server.lies && (stats.same_pages > LIE_AFTER / 3) == server.stores);
	fprintf(stderr, "pushed %llu asked %llu sessions %llu copied %llu dropped %llu\n", (unsigned long long)server.pushed,
		(unsigned long long)server.asked, (unsigned long long)server.sessions,
		(unsigned long long)stats.copied_pages, (unsigned long long)stats.dropped_pages);
	close(done[1]); /* the task verifies all of its memory and ends */
	CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void send_uffd(int socket, int fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec part = { &(char){ 0 }, 1 };
	struct msghdr message = {
		.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	CHECK(sendmsg(socket, &message, 0) == 1);
}

/* Memory of this process's own, empty, and its userfaultfd on its way to an engine: *restore, of which the end is ours. */
static uint8_t *restore_own_memory(struct server *server, int restore[2])
{
	size_t size = (size_t)PAGES * CL_PAGE_SIZE;
	struct uffdio_api api = { .api = UFFD_API };
	uint8_t *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct uffdio_register range = { .range = { (uintptr_t)memory, size }, .mode = UFFDIO_REGISTER_MODE_MISSING };
	int32_t pid = PID;
	int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, restore) == 0);
	CHECK(uffd >= 0 && ioctl(uffd, UFFDIO_API, &api) == 0);
	CHECK(memory != MAP_FAILED && ioctl(uffd, UFFDIO_REGISTER, &range) == 0);
	server->base = (uintptr_t)memory;
	CHECK(send(restore[1], &pid, sizeof(pid), 0) == sizeof(pid));
	send_uffd(restore[1], uffd);
	close(uffd);
	return memory;
}

static void finish_restore(int restore)
{
	int32_t finished = 0x52535446;

	CHECK(send(restore, &finished, sizeof(finished), 0) == sizeof(finished));
}

static void unmap(uint8_t *memory)
{
	CHECK(munmap(memory, (size_t)PAGES * CL_PAGE_SIZE) == 0);
}

/* What the server may not write to stays zero. Returns how many pages came. */
static uint64_t hostile_server(struct server *server)
{
	struct cl_stats stats;
	int restore[2];
	uint8_t *memory = restore_own_memory(server, restore);
	uint64_t page;

	finish_restore(restore[1]);
	CHECK(run_engine(server, restore[0], &stats) == -EIO);
	close(restore[1]);
	for (page = 0; page < PAGES; page++)
		if (!is_lazy(page))
			CHECK(*(volatile uint64_t *)(void *)(memory + page * CL_PAGE_SIZE) == 0);
	unmap(memory);
	return stats.copied_pages;
}

struct late_restore {
	struct server *server;
	int fd;
};

/* The restore is done when the second session has begun. */
static void *finish_late(void *argument)
{
	struct late_restore *late = argument;
	uint64_t sessions;

	do {
		usleep(1000);
		pthread_mutex_lock(&late->server->lock);
		sessions = late->server->sessions;
		pthread_mutex_unlock(&late->server->lock);
	} while (sessions < 2);
	finish_restore(late->fd);
	return NULL;
}

static void early(void)
{
	struct server server = { .lock = PTHREAD_MUTEX_INITIALIZER, .drops_a_stream = true };
	int restore[2];
	uint8_t *memory = restore_own_memory(&server, restore);
	struct late_restore late = { &server, restore[1] };
	struct cl_stats stats;
	pthread_t thread;
	uint64_t page;

	alarm(30);
	CHECK(pthread_create(&thread, NULL, finish_late, &late) == 0);
	CHECK(run_engine(&server, restore[0], &stats) == 0);
	pthread_join(thread, NULL);
	CHECK(server.done && stats.reconnects >= 1 && stats.remaining_pages == 0);
	for (page = 0; page < PAGES; page++)
		if (is_lazy(page))
			CHECK(((uint64_t *)(void *)(memory + page * CL_PAGE_SIZE))[1] == word_at_dump(page, 1));
	close(restore[1]);
	unmap(memory);
}

static void hasty(void)
{
	unsigned int round;

	for (round = 0; round < 5; round++) {
		struct server server = { .lock = PTHREAD_MUTEX_INITIALIZER, .hasty = true };
		int restore[2];
		uint8_t *memory = restore_own_memory(&server, restore);
		struct cl_stats stats;

		alarm(30);
		finish_restore(restore[1]);
		CHECK(run_engine(&server, restore[0], &stats) == 0);
		CHECK(server.done && stats.remaining_pages == 0 && stats.reconnects == 0);
		close(restore[1]);
		unmap(memory);
	}
}

/* Before the task runs: an error at once. Once it runs: the end, where it is for good. */
static void turned_away(void)
{
	static const struct {
		enum cl_push_reason reason;
		unsigned int from, sessions;
		int result;
		const char *error;
	} cases[] = {
		{ CL_PUSH_BUSY, 1, 0, -EBUSY, "page server: it refuses: it serves another lazy-pages daemon" },
		{ CL_PUSH_OVER, 1, 0, -ESHUTDOWN, "committed or rolled back" },
		{ CL_PUSH_OVER, 2, 1, -EIO, "committed or rolled back" },
	};
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct server server = { .lock = PTHREAD_MUTEX_INITIALIZER,
					 .cuts = true,
					 .refuses = cases[i].reason,
					 .refused_from = cases[i].from,
					 .refused_to = UINT32_MAX };
		int restore[2];
		uint8_t *memory = restore_own_memory(&server, restore);
		struct cl_stats stats;

		alarm(30);
		finish_restore(restore[1]);
		CHECK(run_engine(&server, restore[0], &stats) == cases[i].result);
		CHECK(strstr(server.error.text, cases[i].error) && server.sessions == cases[i].sessions);
		CHECK(!server.done);
		close(restore[1]);
		unmap(memory);
	}
}

static void refused(void)
{
	/* vaddr: from the start of the memory, of which pages 0..6 are lazy and 7 is not. */
	enum { PAGE = CL_PAGE_SIZE, P = CL_PUSH_PAGES, Z = CL_PUSH_ZERO, A = CL_PUSH_ALSO };
	static const struct {
		struct cl_push_header header;
		const char *error;
		bool on_demand;
		unsigned int also_before;
	} cases[] = {
		{ { P, PAGE, 1, 7 * PAGE, PID }, "not asked for", false, 0 },
		{ { P, 8 * PAGE, 8, 0, PID }, "not asked for", false, 0 },
		{ { P, PAGE, 1, (uint64_t)PAGES * PAGE, PID }, "not asked for", false, 0 },
		{ { P, PAGE, 1, -(uint64_t)PAGE, PID }, "not asked for", true, 0 },
		{ { P, PAGE, 1, 0, PID + 1 }, "not asked for", false, 0 },
		{ { Z, 0, PAGES, 0, PID }, "not asked for", false, 0 },
		{ { P, PAGE, 1, 1, PID }, "damaged", false, 0 },
		{ { P, PAGE, 2, 0, PID }, "damaged", false, 0 },
		{ { P, 0, 0, 0, PID }, "damaged", true, 0 },
		{ { Z, PAGE, 1, 0, PID }, "damaged", false, 0 },
		{ { 99, 0, 1, 0, PID }, "damaged", false, 0 },
		{ { CL_PUSH_GET, 0, 1, 0, PID }, "no place", true, 0 },
		{ { .type = CL_PUSH_CLOSED }, "no place", true, 0 },
		{ { A, 0, 1, 0, PID }, "no place", true, 0 },
		{ { A, 0, 1, 7 * PAGE, PID }, "not asked for", false, 0 },
		{ { A, 0, 1, 0, PID + 1 }, "not asked for", false, 0 },
		{ { A, PAGE, 1, 0, PID }, "damaged", false, 0 },
		{ { A, 0, CL_PUSH_MAX_PAGES + 1, 0, PID }, "damaged", false, 0 },
		{ { A, 0, 1, 0, PID }, "no place", false, 1 },
		{ { A, 0, 2, 0, PID }, "no place", false, CL_PUSH_MAX_ALSO },
		{ { P, PAGE, 1, 0, PID }, "no place", false, 1 },
		{ { Z, 0, 2, 0, PID }, "no place", false, 1 },
	};
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct cl_push_header wrong = cases[i].header;
		struct server server = { .lock = PTHREAD_MUTEX_INITIALIZER,
					 .hostile = true,
					 .wrong = &wrong,
					 .wrong_on_demand = cases[i].on_demand,
					 .also_before = cases[i].also_before };

		alarm(20); /* a client that takes it waits for more */
		(void)hostile_server(&server);
		if (!strstr(server.error.text, cases[i].error))
			fprintf(stderr, "case %zu: %s\n", i, server.error.text);
		CHECK(strstr(server.error.text, cases[i].error));
	}
}

int main(int argc, char **argv)
{
	uint64_t copied = 0, seed;

	CHECK(argc >= 2);
	if (strcmp(argv[1], "early") == 0) {
		early();
		return 0;
	}
	if (strcmp(argv[1], "hasty") == 0) {
		hasty();
		return 0;
	}
	if (strcmp(argv[1], "refused") == 0) {
		refused();
		return 0;
	}
	if (strcmp(argv[1], "turned-away") == 0) {
		turned_away();
		return 0;
	}
	CHECK(argc >= 3);
	if (strcmp(argv[1], "hostile") == 0) {
		for (seed = strtoull(argv[2], NULL, 10) * 1000; seed % 1000 < 50; seed++) {
			struct server server = { .lock = PTHREAD_MUTEX_INITIALIZER, .random = seed, .hostile = true };

			copied += hostile_server(&server);
		}
		CHECK(copied > 0); /* it got so far as to have its messages read */
		return 0;
	}
	CHECK(argc == 4);
	under_a_task(argv[2], argv[3],
		     (struct server){ .lock = PTHREAD_MUTEX_INITIALIZER,
				      .base = (uintptr_t)BASE,
				      .random = strtoull(argv[3], NULL, 10),
				      .cuts = strchr("cgb", argv[1][0]),
				      .pushes_until = strcmp(argv[1], "gone") == 0 ? 2 : 0,
				      .refuses = strcmp(argv[1], "busy") == 0 ? CL_PUSH_BUSY : 0,
				      .refused_from = 2,
				      .stores = strcmp(argv[1], "same") == 0 || strcmp(argv[1], "lying") == 0,
				      .lies = strcmp(argv[1], "lying") == 0 });
	return 0;
}
