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
#include "stress.h"

/* ---- the page server ---- */

struct server {
	int socket;
	uint64_t bytes_a_second;
};

static void read_fully(int fd, void *data, size_t size)
{
	CHECK(recv(fd, data, size, MSG_WAITALL) == (ssize_t)size);
}

static void *serve(void *argument)
{
	static uint64_t page[WORDS];
	struct server *server = argument;
	uint8_t raw[CL_WIRE_MAX_BYTES];
	struct cl_wire_header header;
	uint64_t base = 0;
	unsigned int word;
	int32_t status = 0;

	for (;;) {
		read_fully(server->socket, raw, cl_wire_header_bytes(2));
		CHECK(cl_wire_unpack(2, raw, &header) == 0);
		if (header.cmd == CL_WIRE_CLOSE)
			break;
		CHECK(header.cmd == CL_WIRE_GET && header.dst_id == PID && header.nr_pages > 0);
		header.cmd = CL_WIRE_ADD_F;
		header.flags = CL_WIRE_FLAG_PRESENT;
		if (header.nr_pages > 3 && header.vaddr % 5 == 0)
			header.nr_pages /= 2; /* short answers */
		cl_wire_pack(2, &header, raw);
		CHECK(send(server->socket, raw, cl_wire_header_bytes(2), MSG_NOSIGNAL) > 0);
		for (base = header.vaddr / CL_PAGE_SIZE; header.nr_pages; header.nr_pages--, base++) {
			for (word = 0; word < WORDS; word++)
				page[word] = word_at_dump(base % (1 << 20), word);
			CHECK(send(server->socket, page, CL_PAGE_SIZE, MSG_NOSIGNAL) == CL_PAGE_SIZE);
			usleep((useconds_t)(CL_PAGE_SIZE * 1000000ull / server->bytes_a_second));
		}
	}
	CHECK(send(server->socket, &status, sizeof(status), MSG_NOSIGNAL) == sizeof(status));
	return NULL;
}

/* ---- images ---- */

static size_t put_varint(uint8_t *out, uint64_t value)
{
	size_t at = 0;

	for (; value > 127; value >>= 7)
		out[at++] = (uint8_t)(value | 0x80);
	out[at++] = (uint8_t)value;
	return at;
}

static void put_record(FILE *file, const uint8_t *body, size_t size)
{
	uint32_t length = (uint32_t)size;

	CHECK(fwrite(&length, 4, 1, file) == 1 && fwrite(body, size, 1, file) == 1);
}

static void write_images(const char *directory, bool local)
{
	static const uint32_t magics[] = { 0x54564319, 0x56084025 };
	char path[256];
	uint8_t body[64];
	uint64_t page;
	FILE *file;

	snprintf(path, sizeof(path), "%s/pagemap-%d.img", directory, PID);
	file = fopen(path, "wb");
	CHECK(file && fwrite(magics, sizeof(magics), 1, file) == 1);
	body[0] = 1 << 3;
	body[1] = 3;
	put_record(file, body, 2);
	for (page = 0; page < PAGES; page += 8) {
		size_t at = 0;

		body[at++] = 1 << 3;
		at += put_varint(body + at, (uintptr_t)BASE + page * CL_PAGE_SIZE);
		body[at++] = 5 << 3;
		body[at++] = 7;
		body[at++] = 4 << 3;
		body[at++] = local ? 6 : 2;
		put_record(file, body, at);
	}
	CHECK(fclose(file) == 0);
	if (!local)
		return;
	snprintf(path, sizeof(path), "%s/pages-3.img", directory);
	file = fopen(path, "wb");
	CHECK(file);
	for (page = 0; page < PAGES; page++) {
		unsigned int word;

		for (word = 0; word < WORDS && is_lazy(page); word++) {
			uint64_t value = word_at_dump(page, word);

			CHECK(fwrite(&value, 8, 1, file) == 1);
		}
	}
	CHECK(fclose(file) == 0);
}

int main(int argc, char **argv)
{
	char directory[] = "/tmp/criu-lazy-stress.XXXXXX", path[300], restore_arg[12], done_arg[12];
	struct cl_vma vma = { (uintptr_t)BASE, (uintptr_t)BASE + (uint64_t)PAGES * CL_PAGE_SIZE };
	struct cl_config config = { .remote_fd = -1, .log_fd = 2, .log_level = 2, .nr_workers = 3 };
	int restore[2], remote[2], done[2], status;
	struct server server = { 0 };
	struct cl_engine *engine;
	pthread_t server_thread;
	struct cl_stats stats;
	const char *problem;
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
	engine = cl_engine_new(&config, &problem);
	CHECK(engine);
	CHECK(cl_engine_add_task(engine, PID, &vma, 1) == 0);
	CHECK(cl_engine_wire_version(engine) == 2);
	if (!local) {
		CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, remote) == 0);
		server.socket = remote[1];
		server.bytes_a_second = (uint64_t)PAGES * CL_PAGE_SIZE / strtoull(argv[2], NULL, 10);
		CHECK(pthread_create(&server_thread, NULL, serve, &server) == 0);
		CHECK(cl_engine_set_remote(engine, remote[0]) == 0);
	}
	status = cl_engine_run(engine, restore[0]);
	if (status != 0)
		fprintf(stderr, "engine: %s\n", cl_engine_error(engine));
	CHECK(status == 0);
	cl_engine_stats(engine, &stats);
	CHECK(stats.remaining_pages == 0 && stats.copied_pages > 0);
	if (!local) {
		pthread_join(server_thread, NULL);
		CHECK(stats.events_fork && stats.events_remap && stats.events_remove && stats.demand_faults);
	}
	fprintf(stderr, "copied %llu zero %llu dropped %llu demand %llu merged %llu zero faults %llu fork %llu remap %llu unmap %llu remove %llu again %llu\n",
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
