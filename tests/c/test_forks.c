/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What forked children find in memory that is missing.
 *
 *   test_forks races | guards | killed | failed
 *   test_forks SOCKET PIPE SEED 0                 the task of `races` at its last round, as test_push starts one
 *
 * races: a task forks, and another thread of it moves, unmaps or guards a missing page right after that, before the kernel tells
 * of the fork: the event of what came later is read first. The child has the page where it was at the fork, and must find
 * in it what was there at the dump. The order is brought about by a userfaultfd of the task's own: the kernel tells of a
 * fork to one after the other, and waits for each. At last all of the task's memory is unmapped so: that nothing is missing any
 * more is not the end yet, and to the child all of it comes.
 *
 * guards: memory reads as zeroes where a task, or its only child, put guard regions on and took them off. Where it can't be
 * told which child did, it reads neither as zeroes nor as it was; but guards on other memory that a child has at the same
 * place do nothing to its siblings'. And those that a task puts on as soon as it has forked do nothing to its child's.
 *
 * killed: nor does it for the successor of the daemon that found that it can't be told, and was killed.
 *
 * failed: munmap(2) fails halfway, at memory that is sealed, and the kernel tells of it as of any other. All is there still,
 * in the task as in a child, whether it is touched at once or only when the daemon has ended; but what is dropped after that
 * reads as zeroes.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "criu_lazy.h"
#include "base/fd_passing.h"
#include "destination/uffd_guardian.h"
#include "stress_source.h"

#ifndef SYS_mseal /* headers older than Linux 6.10 */
#define SYS_mseal 462
#endif

enum {
	GUARD_INSTALL = 102, /* MADV_GUARD_..., of Linux 6.13 */
	GUARD_REMOVE = 103,
	GUARDING = 16,
	GUARD_ROUNDS = 8,
	GROWN = 40,
	ROUNDS = 40,
	LAST_ROUND,
	NOT_WATCHED = 77,
	TRIES = 500,
	TRY_US = 10000,
	TOO_EARLY_US = 300000
};

/* ---- the task ---- */

/* From the top, as the background comes from the bottom; those that were dumped. */
static uint8_t *page_of(int round)
{
	if (round == LAST_ROUND) /* not where read-ahead has been */
		return BASE + PAGES / 2 * CL_PAGE_SIZE + CL_PAGE_SIZE;
	return BASE + (PAGES - 8 - 8 * (size_t)round) * CL_PAGE_SIZE;
}

static uint8_t *place_of(int round)
{
	return BASE + (2 * PAGES + 8 * (size_t)round) * CL_PAGE_SIZE;
}

static int first_round;

/* The changing thread. own: a userfaultfd that hears of forks before the engine's does. */
static void *change(void *own)
{
	struct pollfd forked = { .fd = *(int *)own, .events = POLLIN };
	struct uffd_msg event;
	int round;

	for (round = first_round; round <= LAST_ROUND; round++) {
		CHECK(poll(&forked, 1, -1) == 1);
		if (round == LAST_ROUND) {
			CHECK(munmap(BASE, (size_t)PAGES * CL_PAGE_SIZE) == 0);
			usleep(TOO_EARLY_US); /* for an engine to end in */
		} else if (round % 3 == 1)
			CHECK(munmap(page_of(round), CL_PAGE_SIZE) == 0);
		else if (round % 3 == 2)
			(void)madvise(page_of(round), CL_PAGE_SIZE, GUARD_INSTALL);
		else
			CHECK(mremap(page_of(round), CL_PAGE_SIZE, CL_PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED,
				     place_of(round)) == place_of(round));
		CHECK(read(forked.fd, &event, sizeof(event)) == sizeof(event) && event.event == UFFD_EVENT_FORK);
		close((int)event.arg.fork.ufd);
	}
	return NULL;
}

/* 1: the page is there, and right; 0: it isn't there. */
static int look(const uint8_t *page, uint64_t number)
{
	uint64_t word;
	struct iovec local = { &word, sizeof(word) }, remote = { (void *)(uintptr_t)(page + 80), sizeof(word) };

	if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) < 0)
		return 0;
	if (word != word_at_dump(number, 10)) {
		fprintf(stderr, "page %llu is wrong in a child: 0x%llx\n", (unsigned long long)number,
			(unsigned long long)word);
		_exit(1);
	}
	return 1;
}

/* Half of the memory comes though nobody touches it. */
static void wait_for_half(void)
{
	static unsigned char is_there[PAGES / 2];
	uint64_t page = 0;
	int try;

	for (try = 0; page < PAGES / 2; try++) {
		CHECK(try < TRIES && mincore(BASE, PAGES / 2 * CL_PAGE_SIZE, is_there) == 0);
		while (page < PAGES / 2 && (is_there[page] & 1 || !is_lazy(page)))
			page++;
		usleep(TRY_US);
	}
}

static void fork_in(int round)
{
	uint64_t number = (uint64_t)(page_of(round) - BASE) / CL_PAGE_SIZE;
	pid_t child;
	int status;

	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		status = look(page_of(round), number) + look(place_of(round), number);
		if (round == LAST_ROUND)
			wait_for_half();
		_exit(status == 1 ? 0 : 2);
	}
	CHECK(waitpid(child, &status, 0) == child);
	if (status)
		fprintf(stderr, "round %d: the child ended with status 0x%x\n", round, status);
	CHECK(status == 0);
}

/* Missing memory at `base`, and its userfaultfd. */
static int register_memory(uint8_t *base, size_t bytes, uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	struct uffdio_register range = { .range = { (uintptr_t)base, bytes }, .mode = UFFDIO_REGISTER_MODE_MISSING };
	int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	CHECK(uffd >= 0 && ioctl(uffd, UFFDIO_API, &api) == 0);
	CHECK(mmap(base, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == base);
	CHECK(ioctl(uffd, UFFDIO_REGISTER, &range) == 0);
	return uffd;
}

enum { UNREADABLE = 3 };

/* What a page is: 0 zeroes, 1 as it was, UNREADABLE. */
static int what_is(const uint8_t *page)
{
	uint64_t word = 1;
	struct iovec local = { &word, sizeof(word) }, remote = { (void *)(uintptr_t)page, sizeof(word) };

	if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) < 0)
		return UNREADABLE;
	return word != 0;
}

/* Guards on and off; a kernel that doesn't know them is no matter: -1. Else 0, or 2. */
static int guard_and_not(uint8_t *page)
{
	if (madvise(page, CL_PAGE_SIZE, GUARD_INSTALL) < 0)
		return errno == EINVAL ? -1 : 2;
	CHECK(madvise(page, CL_PAGE_SIZE, GUARD_REMOVE) == 0);
	return 0;
}

/* Guards on and off; what the page is then. */
static int guard(int which)
{
	int ret = guard_and_not(page_of(which));

	return ret ? ret : what_is(page_of(which));
}

/* A child that does that, and ends; or one that waits, to be killed (which < 0). */
static pid_t fork_to_guard(int which)
{
	pid_t child = fork();

	CHECK(child >= 0);
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (which < 0)
			pause();
		_exit(guard(which));
	}
	return child;
}

/* One child looks at a page, after another has had guards on what it had put there instead. */
static void guard_new_memory(int which)
{
	int put[2], looked[2], status;
	uint8_t *page = page_of(which);
	pid_t looks, guards;
	char byte;

	CHECK(pipe(put) == 0 && pipe(looked) == 0);
	looks = fork();
	CHECK(looks >= 0);
	if (looks == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		CHECK(read(put[0], &byte, 1) == 1);
		_exit(look(page, (uint64_t)(page - BASE) / CL_PAGE_SIZE) ? 0 : UNREADABLE);
	}
	guards = fork();
	CHECK(guards >= 0);
	if (guards == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		CHECK(munmap(page, CL_PAGE_SIZE) == 0);
		CHECK(mmap(page, CL_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
		      page);
		CHECK(guard(which) == 0);
		CHECK(write(put[1], "", 1) == 1);
		close(looked[1]);
		_exit(read(looked[0], &byte, 1) != 0);
	}
	CHECK(waitpid(looks, &status, 0) == looks && status == 0);
	close(looked[1]);
	CHECK(waitpid(guards, &status, 0) == guards && status == 0);
	close(looked[0]);
	close(put[0]);
	close(put[1]);
}

/*
 * Several threads fork at once, and put guards on a page of their own as soon as they have: the forks' events have just been
 * read then, and may not have been followed yet.
 */
static void *guard_after_forks(void *number)
{
	size_t thread = *(size_t *)number, round, page;
	pid_t child;
	int status;

	for (round = 0; round < GUARD_ROUNDS; round++) {
		/* Each another one, in no order that read-ahead would see. */
		page = thread * GUARD_ROUNDS + round;
		page = PAGES / 4 + page * (page + 1) / 2 * 37 % (PAGES / 16) * 8;
		child = fork();
		CHECK(child >= 0);
		if (child == 0)
			_exit(look(BASE + page * CL_PAGE_SIZE, page) ? 0 : UNREADABLE);
		(void)guard_and_not(BASE + page * CL_PAGE_SIZE);
		CHECK(waitpid(child, &status, 0) == child && status == 0);
	}
	return NULL;
}

static void fork_and_guard(void)
{
	pthread_t threads[GUARDING];
	size_t numbers[GUARDING], i;

	for (i = 0; i < GUARDING; i++) {
		numbers[i] = i;
		CHECK(pthread_create(&threads[i], NULL, guard_after_forks, &numbers[i]) == 0);
	}
	for (i = 0; i < GUARDING; i++)
		pthread_join(threads[i], NULL);
}

/* Guards on, a fork at once, guards off, before the fork or by the child: it finds zeroes. */
static void guard_and_fork(void)
{
	uint8_t *page = BASE + PAGES / 8 * CL_PAGE_SIZE;
	pid_t child;
	int status, i;

	for (i = 0; i < 4 * GUARD_ROUNDS; i++) {
		page += 8 * (1 + i % 3) * CL_PAGE_SIZE;
		if (i % 2)
			(void)guard_and_not(page);
		else
			CHECK(madvise(page, CL_PAGE_SIZE, GUARD_INSTALL) == 0);
		child = fork();
		CHECK(child >= 0);
		if (child == 0) {
			CHECK(i % 2 || madvise(page, CL_PAGE_SIZE, GUARD_REMOVE) == 0);
			_exit(what_is(page));
		}
		CHECK(waitpid(child, &status, 0) == child && status == 0);
	}
}

static void put_guards(void)
{
	pid_t waiting;
	int status;

	CHECK(look(page_of(ROUNDS), (uint64_t)(page_of(ROUNDS) - BASE) / CL_PAGE_SIZE)); /* the daemon is there */
	status = guard(0);
	if (status == -1)
		return;
	CHECK(status == 0);
	CHECK(waitpid(fork_to_guard(1), &status, 0) > 0 && status == 0);
	guard_new_memory(4);
	waiting = fork_to_guard(-1);
	CHECK(waitpid(fork_to_guard(2), &status, 0) > 0);
	/* Or zeroes: read-ahead, which sees the steps from page to page, was quicker, and its guards dropped what had come. */
	CHECK(status == UNREADABLE << 8 || status == 0);
	kill(waiting, SIGKILL);
	CHECK(waitpid(waiting, &status, 0) == waiting);
	CHECK(guard(3) == 0);
	guard_and_fork();
	fork_and_guard();
}

/* One of two children has guards on a page; both look at it when `go` ends, after the daemon's death. */
static void put_guards_under_two_daemons(int go)
{
	pid_t children[2];
	int status, i;
	char byte;

	CHECK(look(page_of(ROUNDS), (uint64_t)(page_of(ROUNDS) - BASE) / CL_PAGE_SIZE));
	for (i = 0; i < 2; i++) {
		children[i] = fork();
		CHECK(children[i] >= 0);
		if (children[i])
			continue;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (i && guard_and_not(page_of(1)) < 0)
			_exit(NOT_WATCHED);
		CHECK(read(go, &byte, 1) == 0);
		_exit(what_is(page_of(1)));
	}
	for (i = 0; i < 2; i++) {
		CHECK(waitpid(children[i], &status, 0) == children[i]);
		if (status == NOT_WATCHED << 8)
			_exit(NOT_WATCHED);
		if (status != UNREADABLE << 8)
			fprintf(stderr, "child %d found the page: 0x%x\n", i, status);
		CHECK(status == UNREADABLE << 8);
	}
}

static void look_at_all(const uint8_t *from, const uint8_t *to)
{
	for (; from < to; from += 8 * CL_PAGE_SIZE)
		CHECK(look(from, (uint64_t)(from - BASE) / CL_PAGE_SIZE));
}

/* Unmap the upper half of the memory and a sealed page behind it, which fails. From where on nobody has looked at it yet. */
static const uint8_t *fail_to_unmap(void)
{
	uint8_t *half = BASE + PAGES / 2 * CL_PAGE_SIZE, *quarter = half + PAGES / 4 * CL_PAGE_SIZE;
	uint8_t *sealed = BASE + PAGES * CL_PAGE_SIZE;
	pid_t child;
	int status, i;

	CHECK(mmap(sealed, CL_PAGE_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == sealed);
	if (syscall(SYS_mseal, sealed, CL_PAGE_SIZE, 0) < 0)
		return sealed;
	CHECK(munmap(half, PAGES / 2 * CL_PAGE_SIZE + CL_PAGE_SIZE) < 0 && errno == EPERM);
	CHECK(madvise(half, 8 * CL_PAGE_SIZE, MADV_DONTNEED) == 0);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		look_at_all(half + 8 * CL_PAGE_SIZE, quarter);
		_exit(what_is(half));
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	CHECK(what_is(half) == 0);
	look_at_all(half + 8 * CL_PAGE_SIZE, quarter);
	/* What succeeds is gone, though the memory below it grows to there. */
	for (i = 1; i <= GROWN; i++) {
		uint8_t *page = half - 8 * (size_t)i * CL_PAGE_SIZE;

		CHECK(munmap(page, CL_PAGE_SIZE) == 0);
		CHECK(mremap(page - CL_PAGE_SIZE, CL_PAGE_SIZE, 2 * CL_PAGE_SIZE, 0) == page - CL_PAGE_SIZE);
		CHECK(what_is(page) == 0);
	}
	return quarter;
}

static void be_task(int socket, int done, int go, const char *what)
{
	const uint64_t events = UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_EVENT_REMOVE;
	/* The order is that of addresses. */
	int own = register_memory(BASE - (1 << 20), CL_PAGE_SIZE, UFFD_FEATURE_EVENT_FORK);
	int uffd = register_memory(BASE, (size_t)PAGES * CL_PAGE_SIZE, UFFD_FEATURE_EVENT_FORK | events), round;
	int32_t pid = PID, finished = 0x52535446;
	const uint8_t *untouched = BASE + PAGES * CL_PAGE_SIZE;
	pthread_t thread;
	char byte;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	CHECK(send(socket, &pid, sizeof(pid), 0) == sizeof(pid));
	CHECK(cl_fds_send(socket, "", 1, &uffd, 1) == 0);
	close(uffd);
	CHECK(send(socket, &finished, sizeof(finished), 0) == sizeof(finished));
	if (strcmp(what, "races") == 0) {
		CHECK(pthread_create(&thread, NULL, change, &own) == 0);
		for (round = first_round; round <= LAST_ROUND; round++)
			fork_in(round);
		pthread_join(thread, NULL);
		close(own);
	} else {
		close(own);
		if (strcmp(what, "failed") == 0)
			untouched = fail_to_unmap();
		else if (go >= 0)
			put_guards_under_two_daemons(go);
		else
			put_guards();
	}
	CHECK(read(done, &byte, 1) == 0);
	look_at_all(untouched, BASE + PAGES * CL_PAGE_SIZE);
	_exit(0);
}

/* ---- the daemons ---- */

struct daemon {
	struct server server;
	pthread_t server_thread;
	struct cl_engine *engine;
};

/* In the images' directory. */
static void be_daemon(struct daemon *daemon, int log_fd)
{
	struct cl_vma vma = { (uintptr_t)BASE, (uintptr_t)BASE + (uint64_t)PAGES * CL_PAGE_SIZE, 0 };
	struct cl_config config = { .precopied_fd = -1, .log_level = 2, .nr_workers = 2 };
	int remote[2];
	struct cl_error error;

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, remote) == 0);
	config.log_fd = log_fd;
	config.images_fd = open(".", O_RDONLY | O_DIRECTORY);
	daemon->engine = cl_engine_new(&config, &error);
	CHECK(daemon->engine && cl_engine_add_task(daemon->engine, PID, &vma, 1, &error) == 0);
	daemon->server.socket = remote[1];
	CHECK(pthread_create(&daemon->server_thread, NULL, serve, &daemon->server) == 0);
	CHECK(cl_engine_set_remote(daemon->engine, remote[0], &error) == 0);
}

/* It finds that it can't be told which child had guards, and is killed. False: this host can't watch madvise(2). */
static bool kill_a_daemon(int restored)
{
	struct daemon daemon = { .server = { .client_may_die = true, .bytes_a_second = 1 << 20 } };
	int log_fd = open("log", O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600), try, status;
	struct cl_error error;
	char log[4096] = "";
	pid_t child = fork();

	CHECK(log_fd >= 0 && child >= 0);
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		be_daemon(&daemon, log_fd);
		_exit(cl_engine_run(daemon.engine, restored, &error) != 0);
	}
	close(restored);
	for (try = 0; try < TRIES && !strstr(log, "can't be told which") && !strstr(log, "can't be watched"); try++) {
		usleep(TRY_US);
		CHECK(pread(log_fd, log, sizeof(log) - 1, 0) >= 0);
	}
	CHECK(kill(child, SIGKILL) == 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status));
	close(log_fd);
	unlink("log");
	fputs(log, stderr);
	CHECK(try < TRIES);
	return !strstr(log, "can't be watched");
}

static void take_over(struct cl_engine *engine)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = CL_GUARDIAN_SOCKET };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), try;
	struct cl_error error;

	for (try = 0; connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0; try++) {
		CHECK(try < TRIES);
		usleep(TRY_US);
	}
	CHECK(cl_engine_take_over(engine, fd, &error) == 0);
}

int main(int argc, char **argv)
{
	char directory[] = "/tmp/criu-lazy-race.XXXXXX", path[300];
	struct daemon daemon = { .server = { .bytes_a_second = (uint64_t)PAGES * CL_PAGE_SIZE / 2 } };
	bool is_killed = argc == 2 && strcmp(argv[1], "killed") == 0;
	int restored[2], done[2], go[2] = { -1, -1 }, status;
	struct cl_error error;
	pid_t child;

	if (argc == 5) {
		first_round = LAST_ROUND;
		be_task(atoi(argv[1]), atoi(argv[2]), -1, "races");
	}
	CHECK(argc == 2);
	CHECK(mkdtemp(directory));
	write_images(directory, false);
	CHECK(chdir(directory) == 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, restored) == 0 && pipe2(done, O_CLOEXEC) == 0);
	CHECK(!is_killed || pipe2(go, O_CLOEXEC) == 0);
	/* Before anything is sent: who sent it is to be told. */
	CHECK(setsockopt(restored[0], SOL_SOCKET, SO_PASSCRED, &(int){ 1 }, sizeof(int)) == 0);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		close(restored[0]);
		close(done[1]);
		close(go[1]);
		be_task(restored[1], done[0], go[0], argv[1]);
	}
	close(restored[1]);
	if (is_killed && !kill_a_daemon(restored[0]))
		return NOT_WATCHED;
	be_daemon(&daemon, 2);
	if (is_killed) {
		take_over(daemon.engine);
		close(go[1]);
	}
	status = cl_engine_run(daemon.engine, is_killed ? -1 : restored[0], &error);
	if (status)
		fprintf(stderr, "engine: %s\n", error.text);
	CHECK(status == 0);
	pthread_join(daemon.server_thread, NULL);
	cl_engine_free(daemon.engine);
	close(done[1]);
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	snprintf(path, sizeof(path), "pagemap-%d.img", PID);
	unlink(path);
	CHECK(rmdir(directory) == 0);
	return 0;
}
