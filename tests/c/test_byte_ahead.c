/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stock source takes the end of its connection between two headers for success, and kills its task. Whatever ends
 * an engine before a task runs here, the source must see an end within a header, or a command it doesn't know; and
 * an engine that came to its end must leave the stream in step: whole requests, then CLOSE.
 * Argument: a directory to write an image to.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "criu_lazy.h"
#include "wire/page_protocol.h"

enum { PID = 7 };

/* One lazy page at 0x400000, in criu 4.2's form. */
/* clang-format off */
static const uint8_t pagemap[] = { 0x19, 0x43, 0x56, 0x54, 0x25, 0x40, 0x08, 0x56, 2, 0, 0, 0, 8, 1,
				   9, 0, 0, 0, 8, 0x80, 0x80, 0x80, 2, 5 << 3, 1, 4 << 3, 2 };
/* clang-format on */

/* The engine's process: returns its status. */
static int run_engine(const char *directory, int restore, int remote)
{
	static const struct cl_vma vma = { 0x400000, 0x401000, 0 };
	struct cl_config config = { .precopied_fd = -1, .log_fd = -1, .nr_workers = 2 };
	struct cl_error error = { 0 };
	struct cl_engine *engine;
	int status;

	config.images_fd = open(directory, O_RDONLY | O_DIRECTORY);
	engine = cl_engine_new(&config, &error);
	CHECK(engine && cl_engine_add_task(engine, PID, &vma, 1, &error) == 0);
	CHECK(cl_engine_set_remote(engine, remote, &error) == 0);
	status = cl_engine_run(engine, restore, &error);
	cl_engine_free(engine);
	close(config.images_fd);
	return status;
}

static pid_t start(const char *directory, int *restore, int *source)
{
	int restores[2], remotes[2];
	pid_t child;

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, restores) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, remotes) == 0);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(restores[1]);
		close(remotes[1]);
		_exit(run_engine(directory, restores[0], remotes[0]) ? 1 : 0);
	}
	close(restores[0]);
	close(remotes[0]);
	*restore = restores[1];
	*source = remotes[1];
	return child;
}

static int wait_for(pid_t child)
{
	int status;

	CHECK(waitpid(child, &status, 0) == child);
	return status;
}

/* All that the source hears until the end. */
static size_t read_to_end(int source, uint8_t *data, size_t size)
{
	size_t total = 0;
	ssize_t got;

	while ((got = read(source, data + total, size - total)) > 0)
		total += (size_t)got;
	CHECK(got == 0);
	return total;
}

/* What a stock source makes of it: whole known commands only, and it kills the task. */
static bool taken_for_success(const uint8_t *data, size_t size)
{
	struct cl_wire_header header;

	for (; size >= CL_WIRE_V2_BYTES; size -= CL_WIRE_V2_BYTES, data += CL_WIRE_V2_BYTES)
		if (cl_wire_unpack(2, data, &header) < 0 || header.cmd == CL_WIRE_ROLLBACK)
			return false;
	return size == 0;
}

static void restore_fails(const char *directory)
{
	uint8_t data[256];
	int restore, source;
	pid_t child = start(directory, &restore, &source);

	close(restore);
	CHECK(!taken_for_success(data, read_to_end(source, data, sizeof(data))));
	CHECK(wait_for(child) != 0);
	close(source);
}

static void daemon_is_killed(const char *directory)
{
	uint8_t data[256];
	int restore, source;
	pid_t child = start(directory, &restore, &source);

	CHECK(read(source, data, 1) == 1); /* it is at work */
	CHECK(kill(child, SIGKILL) == 0);
	CHECK(wait_for(child) == SIGKILL);
	CHECK(!taken_for_success(data, 1 + read_to_end(source, data + 1, sizeof(data) - 1)));
	close(restore);
	close(source);
}

static void nothing_was_needed(const char *directory)
{
	static uint8_t page[CL_PAGE_SIZE];
	uint8_t data[CL_WIRE_V2_BYTES];
	struct cl_wire_header header;
	int32_t finished = 0x52535446, status = 0;
	int restore, source;
	pid_t child = start(directory, &restore, &source);

	CHECK(send(restore, &finished, sizeof(finished), 0) == sizeof(finished));
	CHECK(recv(source, data, sizeof(data), MSG_WAITALL) == sizeof(data));
	CHECK(cl_wire_unpack(2, data, &header) == 0 && header.cmd == CL_WIRE_GET);
	CHECK(header.vaddr == 0x400000 && header.nr_pages == 1 && header.dst_id == PID);
	header.cmd = CL_WIRE_ADD_F;
	header.flags = CL_WIRE_FLAG_PRESENT;
	cl_wire_pack(2, &header, data);
	CHECK(send(source, data, sizeof(data), 0) == sizeof(data));
	CHECK(send(source, page, sizeof(page), 0) == sizeof(page));
	CHECK(recv(source, data, sizeof(data), MSG_WAITALL) == sizeof(data));
	CHECK(cl_wire_unpack(2, data, &header) == 0 && header.cmd == CL_WIRE_CLOSE);
	CHECK(send(source, &status, sizeof(status), 0) == sizeof(status));
	CHECK(wait_for(child) == 0);
	close(restore);
	close(source);
}

int main(int argc, char **argv)
{
	char path[300];
	FILE *file;

	CHECK(argc == 2);
	snprintf(path, sizeof(path), "%s/pagemap-%d.img", argv[1], PID);
	file = fopen(path, "wb");
	CHECK(file && fwrite(pagemap, sizeof(pagemap), 1, file) == 1 && fclose(file) == 0);
	restore_fails(argv[1]);
	daemon_is_killed(argv[1]);
	nothing_was_needed(argv[1]);
	return 0;
}
