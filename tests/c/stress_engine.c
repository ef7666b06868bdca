/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole engine under a task that never holds still, with a real userfaultfd: a child process registers memory
 * and hands its userfaultfd over as criu restore does; its threads read, write, remap, unmap, drop and fork while
 * pages arrive from a page server on a socket (a thread here). Every word that the task reads is checked against
 * what it must be: the page as of the dump, what the task wrote since, or zero.
 * Built with sanitizers: the engine runs in this process; the task is a program of its own (stress_task.c), built
 * without. Arguments: the task's program, seconds, seed, 1 for local images, 1 for a task that churns.
 */
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "criu_lazy.h"
#include "stress_source.h"

int main(int argc, char **argv)
{
	char directory[] = "/tmp/criu-lazy-stress.XXXXXX", path[300], restore_arg[12], done_arg[12];
	struct cl_vma vma = { (uintptr_t)BASE, (uintptr_t)BASE + (uint64_t)PAGES * CL_PAGE_SIZE, 0 };
	struct cl_config config = { .precopied_fd = -1, .log_fd = 2, .log_level = 2, .nr_workers = 3 };
	int restore[2], remote[2], done[2], status;
	struct server server = { 0 };
	struct cl_engine *engine;
	pthread_t server_thread;
	struct cl_stats stats;
	struct cl_error error = { 0 };
	bool local;
	pid_t child;

	CHECK(argc == 6);
	local = argv[4][0] == '1';
	CHECK(mkdtemp(directory));
	write_images(directory, local);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, restore) == 0 && pipe(done) == 0);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		snprintf(restore_arg, sizeof(restore_arg), "%d", restore[1]);
		snprintf(done_arg, sizeof(done_arg), "%d", done[0]);
		close(restore[0]);
		close(done[1]);
		execl(argv[1], argv[1], restore_arg, done_arg, argv[3], argv[5], NULL);
		_exit(127);
	}
	close(restore[1]);
	close(done[0]);
	fcntl(done[1], F_SETFD, FD_CLOEXEC);
	config.images_fd = open(directory, O_RDONLY | O_DIRECTORY);
	CHECK(config.images_fd >= 0);
	engine = cl_engine_new(&config, &error);
	CHECK(engine);
	CHECK(cl_engine_add_task(engine, PID, &vma, 1, &error) == 0);
	CHECK(cl_engine_wire_version(engine) == 2);
	if (!local) {
		CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, remote) == 0);
		server.socket = remote[1];
		server.bytes_a_second = (uint64_t)PAGES * CL_PAGE_SIZE / strtoull(argv[2], NULL, 10);
		CHECK(pthread_create(&server_thread, NULL, serve, &server) == 0);
		CHECK(cl_engine_set_remote(engine, remote[0], &error) == 0);
	}
	status = cl_engine_run(engine, restore[0], &error);
	if (status != 0)
		fprintf(stderr, "engine: %s\n", error.text);
	CHECK(status == 0);
	cl_engine_stats(engine, &stats);
	CHECK(stats.remaining_pages == 0 && stats.copied_pages > 0);
	if (!local) {
		pthread_join(server_thread, NULL);
		CHECK(stats.events_fork && stats.events_remap && stats.events_remove && stats.demand_faults);
	}
	fprintf(stderr,
		"copied %llu zero %llu dropped %llu demand %llu merged %llu zero faults %llu "
		"fork %llu remap %llu unmap %llu remove %llu again %llu\n",
		(unsigned long long)stats.copied_pages, (unsigned long long)stats.zero_pages,
		(unsigned long long)stats.dropped_pages, (unsigned long long)stats.demand_faults,
		(unsigned long long)stats.merged_faults, (unsigned long long)stats.zero_faults,
		(unsigned long long)stats.events_fork, (unsigned long long)stats.events_remap,
		(unsigned long long)stats.events_unmap, (unsigned long long)stats.events_remove,
		(unsigned long long)stats.again);
	cl_engine_free(engine);
	close(done[1]); /* the task verifies all of its memory and ends */
	CHECK(waitpid(child, &status, 0) == child);
	if (status != 0)
		fprintf(stderr, "the task ended with status 0x%x\n", status);
	CHECK(status == 0);
	snprintf(path, sizeof(path), "%s/pagemap-%d.img", directory, PID);
	unlink(path);
	snprintf(path, sizeof(path), "%s/pages-3.img", directory);
	unlink(path);
	rmdir(directory);
	return 0;
}
