/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A task in a cgroup that is full, without an OOM killer: the engine waits, says so once, and goes on once there is room.
 * Argument: the cgroup's directory (version 1's memory controller, its limit set).
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "criu_lazy.h"
#include "push_images.h"
#include "restored_task.h"

enum { PID = 4711, PAGES = 8192, SHOWN = 1 << 16 };

static uint8_t *memory;

static void put(const char *directory, const char *name, const char *text)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

static void be_task(const char *cgroup, int restore)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	put(cgroup, "cgroup.procs", "0");
	hand_over(restore, PID, memory, PAGES);
	for (;;)
		pause();
}

static void *serve(void *argument)
{
	int socket = *(int *)argument;
	struct cl_wire_header header;
	uint8_t raw[CL_WIRE_MAX_BYTES];
	int32_t status = 0;

	while (recv(socket, raw, CL_WIRE_V2_BYTES, MSG_WAITALL) == CL_WIRE_V2_BYTES) {
		CHECK(cl_wire_unpack(2, raw, &header) == 0);
		if (header.cmd == CL_WIRE_CLOSE) {
			CHECK(send(socket, &status, sizeof(status), MSG_NOSIGNAL) == sizeof(status));
			break;
		}
		if (!answer(socket, &header))
			break;
	}
	close(socket);
	return NULL;
}

struct room {
	struct cl_engine *engine;
	const char *cgroup;
};

/* Once the engine has waited for a second, there is room. */
static void *make_room(void *argument)
{
	const struct room *room = argument;
	struct cl_stats stats;

	do {
		usleep(20000);
		cl_engine_stats(room->engine, &stats);
	} while (stats.no_memory_us < 1000000);
	CHECK(stats.remaining_pages && stats.copied_pages);
	put(room->cgroup, "memory.limit_in_bytes", "-1");
	return NULL;
}

static unsigned int times(const char *text, const char *what)
{
	unsigned int nr = 0;

	for (; (text = strstr(text, what)); text++)
		nr++;
	return nr;
}

int main(int argc, char **argv)
{
	struct cl_config config = { .precopied_fd = -1, .log_level = 2, .nr_workers = 2 };
	struct cl_vma vma = { 0 };
	char directory[] = "/tmp/criu-lazy-memory.XXXXXX";
	static char log[SHOWN];
	pthread_t server, helper;
	struct cl_error error = { 0 };
	struct cl_stats stats;
	struct room room;
	int restore[2], remote[2];
	pid_t task;

	CHECK(argc == 2);
	memory = find_room(PAGES);
	vma.start = (uintptr_t)memory;
	vma.end = vma.start + PAGES * CL_PAGE_SIZE;
	config.log_fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	CHECK(config.log_fd >= 0);
	config.images_fd = make_images(directory, PID, (uintptr_t)memory, PAGES);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, restore) == 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, remote) == 0);
	task = fork();
	CHECK(task >= 0);
	if (task == 0)
		be_task(argv[1], restore[1]);
	close(restore[1]);
	room.cgroup = argv[1];
	room.engine = cl_engine_new(&config, &error);
	CHECK(room.engine && cl_engine_add_task(room.engine, PID, &vma, 1, &error) == 0);
	CHECK(cl_engine_set_remote(room.engine, remote[0], &error) == 0);
	CHECK(pthread_create(&server, NULL, serve, &remote[1]) == 0);
	CHECK(pthread_create(&helper, NULL, make_room, &room) == 0);
	CHECK(cl_engine_run(room.engine, restore[0], &error) == 0);
	cl_engine_stats(room.engine, &stats);
	CHECK(stats.copied_pages == PAGES / 8 * 7 && !stats.no_memory_us && !stats.lost_pages);
	CHECK(pread(config.log_fd, log, sizeof(log) - 1, 0) > 0);
	fputs(log, stderr);
	CHECK(times(log, "there is no memory for its pages") == 1 && times(log, "there is memory for its pages again") == 1);
	CHECK(times(log, "\n") == 2);
	cl_engine_free(room.engine);
	pthread_join(server, NULL);
	pthread_join(helper, NULL);
	CHECK(kill(task, SIGKILL) == 0 && waitpid(task, NULL, 0) == task);
	remove_images(directory, PID, config.images_fd);
	return 0;
}
