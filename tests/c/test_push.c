/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine as client of a page server that pushes (pushing_server.h), over TCP.
 *   steady TASK SEED   under stress_task, which never holds still: every word that it reads is right
 *   cut TASK SEED      the same, and all connections are cut again and again
 *   same TASK SEED     the same without cuts; two pages of three came before, and lie in a store
 *   lying TASK SEED    the same, and once the server takes a page for stored that isn't
 *   gone TASK SEED     the same with cuts; at the third one the server can't push any more, and is asked instead
 *   busy TASK SEED     the same with cuts, after each of which the server refuses a few times
 *   turned-away        a server that refuses from the start, and one that does for good once the task runs
 *   early              before the restore is done the first session loses a stream: another one is opened
 *   ahead              before the restore is done all pages come, as what is stored and what isn't
 *   around             a page is touched: with it those around it come from the store
 *   hasty              the server hangs up as soon as it has confirmed the end, and nobody connects again
 *   refused            messages that are not right in one thing each: the client sees it, and ends
 *   hostile SEED       a server that sends damaged messages: nothing is installed where nothing was asked for
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "criu_lazy.h"
#include "destination/precopied.h"
#include "destination/precopy_store.h"
#include "destination/source_push_state.h"
#include "push_images.h"
#include "pushing_server.h"
#include "stress.h"
#include "tcp.h"
#include "wire/push_hello.h"
#include "wire/push_protocol.h"

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
	remote = connect_to(&address);

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

int __real_cl_push_say_hello(struct cl_conn conn, int version, const struct cl_push_hello *hello,
			     struct cl_push_answer *answer, struct cl_error *error);
int __wrap_cl_push_say_hello(struct cl_conn conn, int version, const struct cl_push_hello *hello,
			     struct cl_push_answer *answer, struct cl_error *error);

/* After a TLS handshake it would wait for the acknowledgement of that, which a server may delay. */
int __wrap_cl_push_say_hello(struct cl_conn conn, int version, const struct cl_push_hello *hello,
			     struct cl_push_answer *answer, struct cl_error *error)
{
	socklen_t length = sizeof(int);
	int on = 0;

	CHECK(getsockopt(conn.fd, IPPROTO_TCP, TCP_NODELAY, &on, &length) == 0 && on);
	return __real_cl_push_say_hello(conn, version, hello, answer, error);
}

static _Atomic uint64_t came_ahead;

int __real_cl_precopied_note(struct cl_engine *engine, struct cl_push_run *run, struct cl_error *error);
int __wrap_cl_precopied_note(struct cl_engine *engine, struct cl_push_run *run, struct cl_error *error);
void __real_cl_precopied_store(struct cl_engine *engine, struct cl_image *image, uint64_t index, uint64_t nr_pages,
			       const uint8_t *data);
void __wrap_cl_precopied_store(struct cl_engine *engine, struct cl_image *image, uint64_t index, uint64_t nr_pages,
			       const uint8_t *data);

int __wrap_cl_precopied_note(struct cl_engine *engine, struct cl_push_run *run, struct cl_error *error)
{
	uint64_t nr_pages = run->nr_pages;
	int ret = __real_cl_precopied_note(engine, run, error);

	came_ahead += nr_pages;
	return ret;
}

void __wrap_cl_precopied_store(struct cl_engine *engine, struct cl_image *image, uint64_t index, uint64_t nr_pages,
			       const uint8_t *data)
{
	__real_cl_precopied_store(engine, image, index, nr_pages, data);
	came_ahead += nr_pages;
}

/* The restore is done when all has come. */
static void *finish_behind(void *argument)
{
	while (came_ahead < PAGES / 8 * 7)
		usleep(1000);
	finish_restore(*(int *)argument);
	return NULL;
}

/* So nothing is missing any more when the task runs; what came is told apart from what was there. */
static void ahead(void)
{
	struct server server = { .lock = PTHREAD_MUTEX_INITIALIZER, .stores = true, .ahead = true };
	uint64_t page, stored = 0;
	int restore[2];
	uint8_t *memory = restore_own_memory(&server, restore);
	struct cl_stats stats;
	pthread_t thread;

	alarm(30);
	CHECK(pthread_create(&thread, NULL, finish_behind, &restore[1]) == 0);
	CHECK(run_engine(&server, restore[0], &stats) == 0);
	pthread_join(thread, NULL);
	for (page = 0; page < PAGES; page++) {
		stored += is_stored(page);
		if (is_lazy(page))
			CHECK(((uint64_t *)(void *)(memory + page * CL_PAGE_SIZE))[1] == word_at_dump(page, 1));
	}
	CHECK(server.done && server.missing == 0 && server.pushed == 0 && server.asked == 0);
	CHECK(stats.remaining_pages == 0 && stats.copied_pages == PAGES / 8 * 7 && stats.same_pages == stored);
	close(restore[1]);
	unmap(memory);
}

static bool is_there(const uint8_t *memory, uint64_t page)
{
	unsigned char there;

	CHECK(mincore((void *)(uintptr_t)(memory + page * CL_PAGE_SIZE), CL_PAGE_SIZE, &there) == 0);
	return there & 1;
}

static _Atomic bool no_background;

bool __real_cl_precopied_background(struct cl_engine *engine, uint8_t *buffer);
bool __wrap_cl_precopied_background(struct cl_engine *engine, uint8_t *buffer);

bool __wrap_cl_precopied_background(struct cl_engine *engine, uint8_t *buffer)
{
	return !no_background && __real_cl_precopied_background(engine, buffer);
}

/* What comes from the store with a page that is touched: of the aligned 16 pages, up to the next one that isn't lazy. */
static bool comes_with(const uint8_t *memory, uint64_t touched, uint64_t page)
{
	uint64_t first = (uintptr_t)memory / CL_PAGE_SIZE;

	return is_stored(page) && page / 8 == touched / 8 && (first + page) / 16 == (first + touched) / 16;
}

static void *touch_one(void *argument)
{
	enum { TOUCHED = 34 };
	struct server *server = argument;
	const uint8_t *memory = (const uint8_t *)(uintptr_t)server->base;
	uint64_t page;

	CHECK(((const volatile uint64_t *)(const void *)(memory + TOUCHED * CL_PAGE_SIZE))[1] == word_at_dump(TOUCHED, 1));
	for (page = 0; page < PAGES; page++)
		while (comes_with(memory, TOUCHED, page) && !is_there(memory, page))
			usleep(1000);
	for (page = 0; page < PAGES; page++)
		CHECK(is_there(memory, page) == comes_with(memory, TOUCHED, page));
	no_background = false;
	pthread_mutex_lock(&server->lock);
	server->tells_more = false;
	pthread_cond_broadcast(&server->changed);
	pthread_mutex_unlock(&server->lock);
	return NULL;
}

static void around(void)
{
	struct server server = { .lock = PTHREAD_MUTEX_INITIALIZER, .stores = true, .tells_more = true };
	int restore[2];
	uint8_t *memory = restore_own_memory(&server, restore);
	struct cl_stats stats;
	pthread_t thread;
	uint64_t page;

	alarm(30);
	no_background = true;
	finish_restore(restore[1]);
	CHECK(pthread_create(&thread, NULL, touch_one, &server) == 0);
	CHECK(run_engine(&server, restore[0], &stats) == 0);
	pthread_join(thread, NULL);
	CHECK(stats.remaining_pages == 0 && stats.demand_faults == 1);
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
		{ { CL_PUSH_PACKED, 9, 1, 0, PID }, "unpacked", false, 0 },
		{ { CL_PUSH_PACKED_ZSTD, 9, 1, 0, PID }, "unpacked", false, 0 },
		{ { CL_PUSH_PACKED_ZSTD, PAGE, 1, 0, PID }, "damaged", false, 0 },
		{ { CL_PUSH_PACKED_ZSTD, 0, 1, 0, PID }, "damaged", false, 0 },
		{ { CL_PUSH_PACKED_ZSTD, 9, 1, 7 * PAGE, PID }, "not asked for", false, 0 },
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
	if (strcmp(argv[1], "ahead") == 0) {
		ahead();
		return 0;
	}
	if (strcmp(argv[1], "around") == 0) {
		around();
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
