/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A daemon that is killed at any moment, again and again, each time succeeded by another, under the task of
 * stress_task.c, which checks every word that it reads. The engines are processes of their own: this program again.
 * Arguments: the task's program, seconds, seed, 1 for a task that churns.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "criu_lazy.h"
#include "destination/uffd_guardian.h"
#include "stress_source.h"

enum {
	NOTHING_TO_RESUME = 3,
	CALLS = 200,
	CALL_PAUSE_US = 10000,
	/*
	 * Of an engine. Under a task that churns, the kernel is rarely quiet: what is doubtful takes an engine tens of
	 * milliseconds, and there is more of it after each death.
	 */
	MAX_LIFE_US = 60000,
	MAX_CHURNING_LIFE_US = 400000,
	START_US = 10000, /* about what an engine takes to start */
	LOG_BYTES = 4 << 20,
};

static const char *const log_path = "log";

static int connect_guardian(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = CL_GUARDIAN_SOCKET };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), call;

	for (call = 0; call < CALLS; call++) {
		if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
			return fd;
		usleep(CALL_PAUSE_US);
	}
	exit(NOTHING_TO_RESUME);
}

/*
 * Linked in the place of cl_uffd_guardian_add(): a child's userfaultfd was read and nobody knows of it yet. Here some
 * engines die; not the one that is just told of the task.
 */
void __real_cl_uffd_guardian_add(struct cl_uffd_guardian *guardian, uint64_t key, int uffd);
void __wrap_cl_uffd_guardian_add(struct cl_uffd_guardian *guardian, uint64_t key, int uffd);

void __wrap_cl_uffd_guardian_add(struct cl_uffd_guardian *guardian, uint64_t key, int uffd)
{
	static unsigned int calls;

	if (++calls > 1 && (getpid() + calls) % 3 == 0)
		raise(SIGKILL);
	__real_cl_uffd_guardian_add(guardian, key, uffd);
}

/* In the work directory. restore: -1 for a successor. */
static int be_engine(int restore, int remote)
{
	struct cl_vma vma = { (uintptr_t)BASE, (uintptr_t)BASE + (uint64_t)PAGES * CL_PAGE_SIZE, 0 };
	struct cl_config config = { .precopied_fd = -1, .log_level = 3, .nr_workers = 3 };
	struct cl_engine *engine;
	struct cl_error error = { 0 };
	int status;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	config.log_fd = open(log_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	config.images_fd = open(".", O_RDONLY | O_DIRECTORY);
	engine = cl_engine_new(&config, &error);
	CHECK(engine && config.log_fd >= 0 && cl_engine_add_task(engine, PID, &vma, 1, &error) == 0);
	if (restore < 0 && cl_engine_take_over(engine, connect_guardian(), &error) < 0) {
		fprintf(stderr, "%s\n", error.text);
		return 1;
	}
	CHECK(cl_engine_set_remote(engine, remote, &error) == 0);
	status = cl_engine_run(engine, restore, &error);
	if (status != 0)
		fprintf(stderr, "engine: %s\n", error.text);
	cl_engine_free(engine);
	return status != 0;
}

static unsigned int times_in_log(const char *text)
{
	static char log[LOG_BYTES];
	int fd = open(log_path, O_RDONLY);
	ssize_t got = fd < 0 ? 0 : pread(fd, log, sizeof(log) - 1, 0);
	unsigned int times = 0;
	const char *at;

	log[got < 0 ? 0 : got] = 0;
	if (fd >= 0)
		close(fd);
	for (at = log; (at = strstr(at, text)); at++)
		times++;
	return times;
}

/* Wait until the engine is at work, or has ended: true. */
static bool has_ended(pid_t engine, unsigned int engines_before, int *status)
{
	while (times_in_log("background transfer starts") == engines_before) {
		if (waitpid(engine, status, WNOHANG) == engine)
			return true;
		usleep(1000);
	}
	return false;
}

static pid_t start_engine(int restore, struct server *server, pthread_t *thread)
{
	char restore_arg[12], remote_arg[12];
	int remote[2];
	pid_t engine;

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, remote) == 0);
	fcntl(remote[1], F_SETFD, FD_CLOEXEC);
	server->socket = remote[1];
	CHECK(pthread_create(thread, NULL, serve, server) == 0);
	engine = fork();
	CHECK(engine >= 0);
	if (engine == 0) {
		snprintf(restore_arg, sizeof(restore_arg), "%d", restore);
		snprintf(remote_arg, sizeof(remote_arg), "%d", remote[0]);
		execl("/proc/self/exe", "stress_takeover", "engine", restore_arg, remote_arg, NULL);
		_exit(127);
	}
	close(remote[0]);
	return engine;
}

static pid_t start_task(char **argv, int restore, int done)
{
	char restore_arg[12], done_arg[12];
	pid_t task = fork();

	CHECK(task >= 0);
	if (task == 0) {
		snprintf(restore_arg, sizeof(restore_arg), "%d", restore);
		snprintf(done_arg, sizeof(done_arg), "%d", done);
		execl(argv[1], argv[1], restore_arg, done_arg, argv[3], argv[4], NULL);
		_exit(127);
	}
	close(restore);
	close(done);
	return task;
}

int main(int argc, char **argv)
{
	char directory[] = "/tmp/criu-lazy-takeover.XXXXXX", path[300];
	int restore[2], done[2], status = 0;
	unsigned int kills = 0, at_work = 0;
	struct server server = { .client_may_die = true };
	uint64_t seed, max_life_us;
	pid_t task, engine;
	pthread_t thread;

	if (argc == 4 && strcmp(argv[1], "engine") == 0)
		return be_engine(atoi(argv[2]), atoi(argv[3]));
	CHECK(argc == 5);
	server.bytes_a_second = (uint64_t)PAGES * CL_PAGE_SIZE / strtoull(argv[2], NULL, 10);
	seed = strtoull(argv[3], NULL, 10);
	max_life_us = argv[4][0] == '1' ? MAX_CHURNING_LIFE_US : MAX_LIFE_US;
	snprintf(path, sizeof(path), "%s", argv[1]);
	CHECK(mkdtemp(directory));
	write_images(directory, false);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, restore) == 0 && pipe(done) == 0);
	fcntl(done[1], F_SETFD, FD_CLOEXEC);
	fcntl(restore[0], F_SETFD, FD_CLOEXEC);
	task = start_task(argv, restore[1], done[0]);
	fcntl(restore[0], F_SETFD, 0);
	CHECK(chdir(directory) == 0);
	engine = start_engine(restore[0], &server, &thread);
	close(restore[0]);
	for (;;) {
		/* Some die before they are at work; not the first: then the restore fails. */
		if (kills && next_random(&seed) % 4 == 0)
			usleep((useconds_t)(next_random(&seed) % START_US));
		else if (!has_ended(engine, at_work, &status))
			usleep((useconds_t)(next_random(&seed) % max_life_us));
		/* It may have ended, or died by itself; what has been waited for can't be killed again. */
		if (waitpid(engine, &status, WNOHANG) == 0)
			CHECK(kill(engine, SIGKILL) == 0 && waitpid(engine, &status, 0) == engine);
		if (WIFEXITED(status))
			break;
		pthread_join(thread, NULL);
		close(server.socket);
		kills++;
		at_work = times_in_log("background transfer starts");
		engine = start_engine(-1, &server, &thread);
	}
	/* The one before may have died when all was done; the task's memory shows whether it was. */
	CHECK(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == NOTHING_TO_RESUME));
	shutdown(server.socket, SHUT_RDWR);
	pthread_join(thread, NULL);
	fprintf(stderr, "%u kills\n", kills);
	CHECK(kills > 1);
	close(done[1]); /* the task verifies all of its memory and ends */
	CHECK(waitpid(task, &status, 0) == task);
	if (status != 0)
		fprintf(stderr, "the task ended with status 0x%x\n", status);
	CHECK(status == 0);
	snprintf(path, sizeof(path), "pagemap-%d.img", PID);
	unlink(path);
	unlink(log_path);
	CHECK(rmdir(directory) == 0); /* nothing else was left behind */
	return 0;
}
