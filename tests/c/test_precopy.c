/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pre-copy of a real process, TASK (precopy_task.c), to a store, and the session after it: what comes as SAME is what
 * the store has, byte by byte, and never without STORE, with another token, or for what was written after its round.
 *
 *   test_precopy TASK [tracked]   tracked: this kernel has to track what is written; others may
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "source/precopy_sender.h"
#include "precopy_task.h"
#include "push_images.h"
#include "receiving_store.h"
#include "source/push_server.h"
#include "task/proc_pagemap.h"
#include "tcp.h"

enum { LAZY = PAGES / 8 * 7 };

static pid_t task;
static bool tracked;
static _Atomic uint64_t bytes_read; /* of files: /proc/PID/pagemap in the main */
static int task_fd;
static uint8_t *frozen; /* the task's pages as they are */

/* ---- the task ---- */

static void start_task(const char *program)
{
	int pair[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	task = fork();
	CHECK(task >= 0);
	if (task == 0) {
		dup2(pair[1], 0);
		dup2(pair[1], 1);
		execl(program, program, NULL);
		_exit(1);
	}
	close(pair[1]);
	task_fd = pair[0];
}

static void command(char what)
{
	char answer;

	CHECK(write(task_fd, &what, 1) == 1 && read(task_fd, &answer, 1) == 1 && answer == what);
}

static void look_at_task(void)
{
	struct iovec local = { frozen, PAGES * CL_PAGE_SIZE }, remote = { (void *)BASE, PAGES * CL_PAGE_SIZE };

	CHECK(process_vm_readv(task, &local, 1, &remote, 1, 0) == PAGES * CL_PAGE_SIZE);
}

ssize_t __real_pread(int fd, void *buffer, size_t bytes, off_t at);

ssize_t __wrap_pread(int fd, void *buffer, size_t bytes, off_t at)
{
	bytes_read += bytes;
	return __real_pread(fd, buffer, bytes, at);
}

static int one_round(struct cl_precopy *precopy, struct cl_precopy_round *info)
{
	const int32_t id = ID, pid = task;
	struct cl_error error = { 0 };
	int ret = cl_precopy_round(precopy, &id, &pid, 1, info, &error);

	CHECK(ret == error.code && (ret == 0) == !*error.text);
	return ret;
}

static struct cl_precopy *start(uint64_t rate)
{
	const struct cl_precopy_config config = { .log_fd = -1, .nr_threads = 2, .rate = rate };
	struct cl_error error;
	struct cl_precopy *precopy = cl_precopy_new(&config, &error);

	CHECK(precopy);
	return precopy;
}

/* ---- rounds ---- */

static bool can_scan(void)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t next;
	int ret = cl_proc_pagemap_next(fd, 0, CL_PAGE_SIZE, &next);

	close(fd);
	CHECK(ret == 0 || ret == -ENOTTY);
	return ret == 0;
}

/* True: the kernel moved pages without a trace, so that the store is stale; the page server will find that out. */
static bool rounds_send_what_changed(struct cl_precopy *precopy, struct store *store)
{
	struct cl_precopy_round info;
	uint64_t unread;
	struct cl_error error;
	bool stale;

	CHECK(one_round(precopy, &info) == -ENOTCONN); /* nobody is there */
	bytes_read = 0;
	CHECK(open_store(precopy, store, CL_PUSH_STORED, 0));
	CHECK(one_round(precopy, &info) == 0 && info.number == 1);
	CHECK(info.sent_pages == store->nr_pages && info.scanned_pages >= PAGES && info.zero_pages >= PAGES / 8);
	for (int page = 0; page < PAGES; page++)
		CHECK(store->have[page]);
	store->nr_pages = 0;
	CHECK(one_round(precopy, &info) == 0 && info.number == 2);
	CHECK(info.sent_pages == store->nr_pages && info.scanned_pages + info.unread_pages >= PAGES);
	CHECK(!tracked || info.unread_pages >= HALF);
	tracked = info.unread_pages > 0; /* other kernels may track, too */
	command('f');
	store->nr_pages = 0;
	CHECK(one_round(precopy, &info) == 0 && info.number == 3);
	look_at_task();
	CHECK(memcmp(store->pages, frozen, PAGES * CL_PAGE_SIZE) == 0); /* nothing was written since */
	store->nr_pages = 0;
	CHECK(one_round(precopy, &info) == 0 && info.number == 4 && info.sent_pages < 32); /* some pages of its stack */
	CHECK(store->nr_sparse == NR_SPARSE);
	CHECK(!can_scan() || bytes_read < 32 << 20); /* not 8 bytes for each page of SPARSE */

	/* Another program in its place is read whole. */
	unread = info.unread_pages;
	command('x');
	CHECK(one_round(precopy, &info) == 0 && !info.unread_pages && info.scanned_pages >= PAGES);
	CHECK(one_round(precopy, &info) == 0 && (tracked ? info.unread_pages >= unread / 2 : !info.unread_pages));
	look_at_task();
	CHECK(memcmp(store->pages, frozen, PAGES * CL_PAGE_SIZE) == 0);

	command('m');
	CHECK(one_round(precopy, &info) == 0);
	stale = info.sent_pages < HALF / 2;
	CHECK(tracked || !stale);
	CHECK(cl_precopy_finish(precopy, &error) == 0 && cl_precopy_state(precopy) == CL_PRECOPY_COMPLETE);
	CHECK(one_round(precopy, &info) == -ENOTCONN);
	end_store(store);
	CHECK(cl_precopy_state(precopy) == CL_PRECOPY_COMPLETE);
	return stale;
}

static void *stop_soon(void *argument)
{
	usleep(50000);
	cl_precopy_stop(argument);
	return NULL;
}

static void a_round_that_a_rate_holds_back_can_be_stopped(void)
{
	struct cl_precopy *precopy = start(1); /* a byte per second: it stops after the first batch */
	struct cl_precopy_round info;
	struct store store;
	pthread_t thread;

	CHECK(open_store(precopy, &store, CL_PUSH_STORED, 0));
	CHECK(pthread_create(&thread, NULL, stop_soon, precopy) == 0);
	CHECK(one_round(precopy, &info) == -ECANCELED);
	CHECK(info.scanned_pages < 8);
	pthread_join(thread, NULL);
	end_store(&store);
	free(store.pages);
	cl_precopy_free(precopy);
}

/* However a store goes wrong, all that it was sent is forgotten, and the next one gets everything. */
static void a_lost_store_is_forgotten(void)
{
	static const struct {
		uint16_t type;
		uint64_t off;
	} wrong[] = {
		{ 0, 0 }, { CL_PUSH_STORED, 1 }, { CL_PUSH_GO, 0 }, { CL_PUSH_STORE, 0 }, { 999, 0 }, { CL_PUSH_STORED, 0 },
	};
	const size_t nr_wrong = sizeof(wrong) / sizeof(wrong[0]) - 1; /* the last one is right */
	struct cl_precopy *precopy = start(0);
	uint8_t token[CL_PUSH_TOKEN_BYTES];
	struct cl_precopy_round info;
	struct store store, second;
	struct cl_error error;

	for (size_t i = 0; i <= nr_wrong; i++) {
		CHECK(open_store(precopy, &store, wrong[i].type, wrong[i].off));
		CHECK(!open_store(precopy, &second, CL_PUSH_STORED, 0));
		CHECK(one_round(precopy, &info) == (i < nr_wrong ? -ENOTCONN : 0));
		CHECK(info.sent_pages >= PAGES);
		CHECK(!cl_precopy_hashes(precopy, token));
		if (i == nr_wrong) {
			store.number_off = 5; /* to END */
			CHECK(cl_precopy_finish(precopy, &error) == -ENOTCONN);
		}
		end_store(&store);
		CHECK(cl_precopy_state(precopy) == CL_PRECOPY_LOST && !cl_precopy_hashes(precopy, token));
		free(store.pages);
	}
	cl_precopy_free(precopy);
}

/* A task for which no descriptors are left is not taken for one that has gone. */
static void descriptors_run_out(void)
{
	struct cl_precopy *precopy = start(0);
	struct rlimit before, few;
	struct cl_precopy_round info;
	struct store store;
	int next;

	CHECK(open_store(precopy, &store, CL_PUSH_STORED, 0));
	CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
	next = dup(0);
	CHECK(next >= 0);
	close(next);
	few = (struct rlimit){ .rlim_cur = (rlim_t)next, .rlim_max = before.rlim_max };
	CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
	CHECK(one_round(precopy, &info) == -EMFILE && info.sent_pages == 0);
	CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
	end_store(&store);
	free(store.pages);
	cl_precopy_free(precopy);
}

/* ---- the session after it ---- */

static struct cl_push_server *server;

struct call {
	int fd, their_fd;
	bool tcp;
	struct cl_push_hello hello;
	pthread_t thread;
};

static void *serve(void *argument)
{
	struct call *call = argument;

	cl_push_server_serve(server, (struct cl_conn){ .fd = call->their_fd }, &call->hello, "test");
	close(call->their_fd);
	return NULL;
}

static void call_server(struct call *call, uint8_t token[CL_PUSH_TOKEN_BYTES])
{
	uint8_t raw[CL_PUSH_ANSWER_BYTES];
	struct cl_push_answer answer;
	int pair[2];

	if (call->tcp)
		connect_tcp(pair);
	else
		CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	call->fd = pair[0];
	call->their_fd = pair[1];
	CHECK(pthread_create(&call->thread, NULL, serve, call) == 0);
	CHECK(receive(call->fd, raw, sizeof(raw)) && cl_push_unpack_answer(raw, &answer) == 0);
	memcpy(token, answer.token, CL_PUSH_TOKEN_BYTES);
}

static void say(int fd, struct cl_push_header header, const uint8_t *token)
{
	uint8_t raw[CL_PUSH_HEADER_BYTES + CL_PUSH_TOKEN_BYTES];
	size_t bytes = CL_PUSH_HEADER_BYTES + header.bytes;

	cl_push_pack(&header, raw);
	if (header.bytes)
		memcpy(raw + CL_PUSH_HEADER_BYTES, token, header.bytes);
	for (size_t i = 0; i < bytes; i++) /* in the smallest pieces */
		CHECK(send(fd, raw + i, 1, MSG_NOSIGNAL) == 1);
}

/* One message of pages, each of which is what the task has. What it came as, per page. */
static uint64_t take(int fd, const struct store *store, uint8_t *as)
{
	uint8_t raw[CL_PUSH_HEADER_BYTES], data[CL_PUSH_MAX_PAGES * CL_PAGE_SIZE];
	struct cl_push_header header;
	uint64_t page;

	CHECK(receive(fd, raw, sizeof(raw)) && cl_push_unpack(raw, &header) == 0 && header.dst_id == ID);
	CHECK(receive(fd, data, header.bytes));
	page = (header.vaddr - BASE) / CL_PAGE_SIZE;
	CHECK(page + header.nr_pages <= PAGES);
	for (uint64_t i = 0; i < header.nr_pages; i++) {
		const uint8_t *right = frozen + (page + i) * CL_PAGE_SIZE;

		if (header.type == CL_PUSH_SAME)
			CHECK(memcmp(store->pages + (page + i) * CL_PAGE_SIZE, right, CL_PAGE_SIZE) == 0);
		else if (header.type == CL_PUSH_ZERO)
			CHECK(cl_page_is_zero(right));
		else
			CHECK(header.type == CL_PUSH_PAGES && memcmp(data + i * CL_PAGE_SIZE, right, CL_PAGE_SIZE) == 0);
		as[page + i] = (uint8_t)header.type;
	}
	return header.nr_pages;
}

/* All pages by pushing, then some by demand. `token`: of STORE, or NULL. as: how each page came. */
static void one_session(const struct store *store, const uint8_t *token, uint8_t *as, uint8_t *demanded)
{
	struct call demand = { .hello = { .nr_streams = 1 } }, stream = { .hello = { .stream = 1 } };
	struct cl_push_header header = { .type = CL_PUSH_MISSING, .nr_pages = 7, .dst_id = ID };
	uint8_t session[CL_PUSH_TOKEN_BYTES];

	call_server(&demand, session);
	memcpy(stream.hello.token, session, sizeof(session));
	call_server(&stream, session);
	if (token)
		say(demand.fd, (struct cl_push_header){ .type = CL_PUSH_STORE, .bytes = CL_PUSH_TOKEN_BYTES }, token);
	for (uint64_t page = 0; page < PAGES; page += 8) {
		header.vaddr = BASE + page * CL_PAGE_SIZE;
		say(demand.fd, header, NULL);
	}
	say(demand.fd, (struct cl_push_header){ .type = CL_PUSH_GO }, NULL);
	for (uint64_t got = 0; got < LAZY;)
		got += take(stream.fd, store, as);
	header.type = CL_PUSH_GET;
	for (uint64_t page = 0; page < PAGES; page += 8) {
		header.nr_pages = page % 16 ? 7 : 1;
		header.vaddr = BASE + page * CL_PAGE_SIZE;
		say(demand.fd, header, NULL);
		CHECK(take(demand.fd, store, demanded) == header.nr_pages);
	}
	close(demand.fd);
	close(stream.fd);
	pthread_join(demand.thread, NULL);
	pthread_join(stream.thread, NULL);
}

/* A page is answered for, though it has left on a stream: with a store, the client may be long in coming to that. */
static void a_page_overtakes_a_stream(const struct store *store, uint64_t page, uint8_t type)
{
	struct call demand = { .hello = { .nr_streams = 1 } }, stream = { .tcp = true, .hello = { .stream = 1 } };
	struct cl_push_header header = { .type = CL_PUSH_MISSING, .nr_pages = 1, .dst_id = ID };
	uint8_t session[CL_PUSH_TOKEN_BYTES], as[PAGES] = { 0 }, demanded[PAGES] = { 0 };

	header.vaddr = BASE + page * CL_PAGE_SIZE;
	call_server(&demand, session);
	memcpy(stream.hello.token, session, sizeof(session));
	call_server(&stream, session);
	say(demand.fd, (struct cl_push_header){ .type = CL_PUSH_STORE, .bytes = CL_PUSH_TOKEN_BYTES }, store->token);
	say(demand.fd, header, NULL);
	say(demand.fd, (struct cl_push_header){ .type = CL_PUSH_GO }, NULL);
	CHECK(take(stream.fd, store, as) == 1 && as[page] == type);
	header.type = CL_PUSH_GET;
	say(demand.fd, header, NULL);
	CHECK(take(demand.fd, store, demanded) == 1 && demanded[page] == type);
	close(demand.fd);
	close(stream.fd);
	pthread_join(demand.thread, NULL);
	pthread_join(stream.thread, NULL);
}

/*
 * Before the client has said what it misses, all that isn't zero comes to a stream that says that it stores it, and nothing to
 * another.
 */
static void all_comes_early(const struct store *store, bool stale)
{
	struct call demand = { .hello = { .nr_streams = 2 } }, early = { .hello = { .stream = 1, .early = true } },
		    other = { .hello = { .stream = 2 } };
	uint8_t session[CL_PUSH_TOKEN_BYTES], as[PAGES] = { 0 };
	uint64_t got = 0, wanted = 0;

	for (int page = 0; page < PAGES; page++)
		wanted += page % 8 != 7 && !cl_page_is_zero(frozen + page * CL_PAGE_SIZE);
	CHECK(wanted > LAZY / 2);
	call_server(&demand, session);
	memcpy(early.hello.token, session, sizeof(session));
	memcpy(other.hello.token, session, sizeof(session));
	call_server(&early, session);
	call_server(&other, session);
	say(demand.fd, (struct cl_push_header){ .type = CL_PUSH_STORE, .bytes = CL_PUSH_TOKEN_BYTES }, store->token);
	while (got < wanted)
		got += take(early.fd, store, as);
	CHECK(got == wanted);
	for (int page = 0; page < PAGES; page++) {
		bool changed = page < 8 || (stale && page < HALF), zero = cl_page_is_zero(frozen + page * CL_PAGE_SIZE);

		CHECK(page % 8 == 7 || as[page] == (zero ? 0 : changed ? CL_PUSH_PAGES : CL_PUSH_SAME));
	}
	CHECK(recv(other.fd, session, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
	close(demand.fd);
	close(early.fd);
	close(other.fd);
	pthread_join(demand.thread, NULL);
	pthread_join(early.thread, NULL);
	pthread_join(other.thread, NULL);
}

static void ignore(void *context, enum cl_push_told what, const char *name, uint64_t client)
{
	(void)context;
	(void)what;
	(void)name;
	(void)client;
}

static bool always(void *context)
{
	(void)context;
	return true;
}

/* stale: the store, in the lower half. */
static void pages_are_the_same_only_if_they_are(struct cl_precopy *precopy, const struct store *store, bool stale)
{
	char directory[] = "/tmp/criu-lazy-precopy.XXXXXX";
	struct cl_error error;
	const int32_t id = ID, pid = task;
	struct cl_push_server_config config = {
		.ids = &id, .pids = &pid, .nr_tasks = 1, .log.fd = -1, .told = ignore, .frozen = always
	};
	uint8_t as[PAGES], demanded[PAGES] = { 0 }, other[CL_PUSH_TOKEN_BYTES];
	struct cl_push_server_info info = { 0 };
	uint64_t same = 0;

	command('w');
	command('z');
	look_at_task();
	config.images_fd = make_images(directory, ID, BASE, PAGES);
	config.stored = cl_precopy_hashes(precopy, config.store_token);
	CHECK(config.stored && memcmp(config.store_token, store->token, sizeof(store->token)) == 0);
	CHECK(cl_push_server_new(&config, &server, &error) == 0);
	all_comes_early(store, stale);
	cl_push_server_free(server);
	/* Until its own threads have got to compare before the client came. */
	for (int tries = 0; tries < 200 && !info.known_pages; tries++) {
		if (tries)
			cl_push_server_free(server);
		CHECK(cl_push_server_new(&config, &server, &error) == 0);
		usleep(tries * 1000);
		memset(demanded, 0, sizeof(demanded));
		same = 0;
		one_session(store, store->token, as, demanded);
		for (int page = 0; page < PAGES; page++) {
			bool changed = page < 8 || (stale && page < HALF),
			     zero = cl_page_is_zero(frozen + page * CL_PAGE_SIZE);

			if (page % 8 == 7)
				continue; /* not lazy */
			CHECK(as[page] == (zero ? CL_PUSH_ZERO : changed ? CL_PUSH_PAGES : CL_PUSH_SAME));
			same += as[page] == CL_PUSH_SAME;
		}
		CHECK(demanded[0] == CL_PUSH_PAGES && demanded[1] == 0);
		CHECK(demanded[8] == CL_PUSH_PAGES); /* for page 9, which is zero now, and was not before */
		CHECK(demanded[24] == (stale ? CL_PUSH_PAGES : CL_PUSH_SAME) && demanded[30] == demanded[24]);
		CHECK(demanded[HALF + 24] == CL_PUSH_SAME && demanded[HALF + 30] == CL_PUSH_SAME);
		cl_push_server_info(server, &info);
	}
	CHECK(info.known_pages > 0);
	CHECK(info.same_pages > same && info.pushed_pages == LAZY);
	CHECK(info.sent_bytes < (stale ? PAGES : HALF) * CL_PAGE_SIZE);
	a_page_overtakes_a_stream(store, 0, CL_PUSH_PAGES);
	a_page_overtakes_a_stream(store, PAGES - 2, CL_PUSH_SAME);
	memcpy(other, store->token, sizeof(other));
	other[15] ^= 1;
	for (int i = 0; i < 2; i++) { /* and nothing is left of the session before */
		one_session(store, i ? other : NULL, as, demanded);
		for (int page = 0; page < PAGES; page++)
			CHECK(page % 8 == 7 || (as[page] != CL_PUSH_SAME && demanded[page] != CL_PUSH_SAME));
	}
	cl_push_server_end(server, CL_PUSH_END_OVER);
	cl_push_server_free(server);
	remove_images(directory, ID, config.images_fd);
}

static void where_pages_were_sent_lately_is_known(void)
{
	enum { BLOCK = CL_HASHES_BLOCK_BYTES };
	struct cl_hashes *hashes = cl_hashes_new();

	CHECK(hashes && cl_hashes_at(hashes, ID, BASE));
	cl_hashes_note_sent(hashes, ID, BASE, CL_HASHES_PAGES, 1);
	CHECK(cl_hashes_changes(hashes, ID, BASE) && cl_hashes_changes(hashes, ID, BASE + CL_HASHES_BYTES - 1));
	cl_hashes_note_sent(hashes, ID, BASE + 2 * BLOCK - CL_PAGE_SIZE, 2, 2);
	for (uint64_t block = 0; block < CL_HASHES_BYTES / BLOCK; block++)
		CHECK(cl_hashes_changes(hashes, ID, BASE + block * BLOCK) == (block == 1 || block == 2));
	CHECK(!cl_hashes_changes(hashes, ID, BASE + CL_HASHES_BYTES) && !cl_hashes_changes(hashes, ID + 1, BASE));
	cl_hashes_note_sent(hashes, ID + 1, BASE, 1, 3); /* no hash of it is there */
	CHECK(!cl_hashes_changes(hashes, ID, BASE + BLOCK));
	cl_hashes_free(hashes);
}

static void frames_of(pid_t pid, const void *address, uint64_t *frames)
{
	int fd = cl_proc_pagemap_open(pid);

	CHECK(fd >= 0 && cl_proc_pagemap_frames(fd, (uintptr_t)address, frames, PAGES, NULL) == 0);
	close(fd);
}

/* What forked tasks have in common they still share after it was read. */
static void forked_tasks_share_on(void)
{
	uint64_t *frames[2] = { calloc(PAGES, 8), calloc(PAGES, 8) };
	/*
	 * In whole huge pages' places: where less than half of one is shared, the kernel may give each task its own of it.
	 */
	uint8_t *memory = aligned_alloc(CL_HASHES_BYTES, PAGES * CL_PAGE_SIZE);
	struct cl_precopy *precopy = start(0);
	struct cl_precopy_round info;
	pid_t other = task;
	struct store store;

	CHECK(frames[0] && frames[1] && memory);
	memset(memory, 0x77, PAGES * CL_PAGE_SIZE);
	task = fork();
	CHECK(task >= 0);
	if (task == 0)
		for (;;)
			pause();
	CHECK(open_store(precopy, &store, CL_PUSH_STORED, 0));
	CHECK(one_round(precopy, &info) == 0 && info.scanned_pages >= PAGES);
	frames_of(getpid(), memory, frames[0]);
	frames_of(task, memory, frames[1]);
	CHECK(frames[0][1] && memcmp(frames[0], frames[1], PAGES * 8) == 0);
	CHECK(kill(task, SIGKILL) == 0 && waitpid(task, NULL, 0) == task);
	task = other;
	cl_precopy_stop(precopy);
	end_store(&store);
	free(store.pages);
	cl_precopy_free(precopy);
	free(memory);
	free(frames[0]);
	free(frames[1]);
}

int main(int argc, char **argv)
{
	struct cl_precopy *precopy;
	struct cl_precopy_round info;
	struct store store;
	int status;
	bool stale;

	CHECK(argc == 2 || (argc == 3 && !strcmp(argv[2], "tracked")));
	tracked = argc == 3;
	alarm(120);
	frozen = malloc(PAGES * CL_PAGE_SIZE);
	start_task(argv[1]);
	command('r');
	where_pages_were_sent_lately_is_known();
	a_lost_store_is_forgotten();
	a_round_that_a_rate_holds_back_can_be_stopped();
	descriptors_run_out();
	precopy = start(0);
	stale = rounds_send_what_changed(precopy, &store);
	pages_are_the_same_only_if_they_are(precopy, &store, stale);
	free(store.pages);
	cl_precopy_free(precopy);

	forked_tasks_share_on();

	/* A task that ends is left out. */
	precopy = start(0);
	CHECK(open_store(precopy, &store, CL_PUSH_STORED, 0));
	CHECK(kill(task, SIGKILL) == 0 && waitpid(task, &status, 0) == task);
	CHECK(one_round(precopy, &info) == 0 && info.scanned_pages == 0);
	cl_precopy_stop(precopy);
	CHECK(one_round(precopy, &info) == -ECANCELED);
	end_store(&store);
	free(store.pages);
	cl_precopy_free(precopy);
	close(task_fd);
	free(frozen);
	return 0;
}
