/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store, against a model of it, and what a hostile server or a damaged index can do.   test_precopy_store SEED
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "check.h"
#include "destination/precopy_receiver.h"
#include "wire/push_protocol.h"
#include "destination/precopy_store.h"
#include "wire/page_protocol.h"

enum { PAGES = 2000, TASKS = 2, STEPS = 600, PAGE = CL_PAGE_SIZE, MUTATIONS = 400 };

#define BASE 0x7f0000135000ull /* in the middle of a chunk */

static uint8_t buffer[PAGES * PAGE], expected[PAGES * PAGE];

static int open_directory(char *path)
{
	int fd;

	CHECK(mkdtemp(path));
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(fd >= 0);
	return fd;
}

/* What page `page` of `task` is in its `version`; 0: never written, 1: zero. */
static void fill(uint8_t *out, unsigned int task, uint64_t page, unsigned int version)
{
	memset(out, version > 1 ? (int)(1 + (task * 91 + page * 7 + version) % 255) : 0, PAGE);
}

struct model {
	unsigned int version[TASKS][PAGES];
};

static void range(uint64_t *random, uint64_t *page, uint64_t *nr_pages)
{
	*nr_pages = 1 + next_random(random) % (next_random(random) % 4 ? 20 : 700);
	*page = next_random(random) % (PAGES - *nr_pages + 1);
}

static void write_some(struct cl_precopy_store *store, struct model *model, uint64_t *random, unsigned int version)
{
	unsigned int task = next_random(random) % TASKS;
	bool zero = next_random(random) % 4 == 0;
	uint64_t page, nr_pages, i;

	range(random, &page, &nr_pages);
	for (i = 0; i < nr_pages; i++) {
		model->version[task][page + i] = zero ? 1 : version;
		fill(buffer + i * PAGE, task, page + i, version);
	}
	CHECK(cl_precopy_store_write(store, 10 + task, BASE + page * PAGE, nr_pages, zero ? NULL : buffer) == 0);
}

static void read_some(struct cl_precopy_store *store, struct model *model, uint64_t *random, bool drop)
{
	unsigned int task = next_random(random) % TASKS;
	uint64_t page, nr_pages, i;
	bool held = true;
	int ret;

	range(random, &page, &nr_pages);
	for (i = 0; i < nr_pages; i++) {
		held = held && model->version[task][page + i];
		fill(expected + i * PAGE, task, page + i, model->version[task][page + i]);
	}
	ret = cl_precopy_store_read(store, 10 + task, BASE + page * PAGE, nr_pages, buffer);
	CHECK(ret == (held ? 0 : -ENODATA));
	CHECK(!held || memcmp(buffer, expected, nr_pages * PAGE) == 0);
	if (!drop)
		return;
	cl_precopy_store_drop(store, 10 + task, BASE + page * PAGE, nr_pages);
	memset(&model->version[task][page], 0, nr_pages * sizeof(model->version[0][0]));
}

static uint64_t blocks(const char *path)
{
	struct stat status;
	char name[64];

	snprintf(name, sizeof(name), "%s/pages", path);
	CHECK(stat(name, &status) == 0);
	return (uint64_t)status.st_blocks;
}

/* `path` for mkdtemp(). */
static void against_the_model(uint64_t seed, char *path)
{
	struct cl_error error;
	char link_name[64];
	uint8_t token[CL_PUSH_TOKEN_BYTES] = { 7 };
	static struct model model;
	uint64_t random = seed;
	struct cl_precopy_store *store;
	struct statfs file_system;
	struct stat status;
	int fd = open_directory(path), pages_fd, i;

	memset(&model, 0, sizeof(model));
	CHECK(cl_precopy_store_create(fd, &store) == 0);
	for (i = 0; i < STEPS; i++)
		write_some(store, &model, &random, (unsigned int)i + 2);
	CHECK(cl_precopy_store_finish(store, fd, token) == 0);
	cl_precopy_store_free(store);
	CHECK(cl_precopy_store_create(fd, &store) == -EEXIST);

	/* The file goes with the store; we look at it by another name. */
	CHECK(blocks(path) > PAGES);
	snprintf(link_name, sizeof(link_name), "%s/pages", path);
	pages_fd = open(link_name, O_RDONLY | O_CLOEXEC);
	CHECK(pages_fd >= 0 && cl_precopy_store_take(fd, &store, &error) == 0);
	CHECK(cl_precopy_store_token(store)[0] == 7 && rmdir(path) == 0);
	for (i = 0; i < STEPS; i++)
		read_some(store, &model, &random, i > STEPS / 2);
	CHECK(cl_precopy_store_read(store, 99, BASE, 1, buffer) == -ENODATA);
	for (i = 0; i < TASKS; i++)
		cl_precopy_store_drop(store, 10 + (uint64_t)i, BASE, PAGES);
	CHECK(fstat(pages_fd, &status) == 0 && fstatfs(pages_fd, &file_system) == 0);
	/* Of memory all was given back, of a disk nothing. */
	CHECK((status.st_blocks == 0) == (file_system.f_type == TMPFS_MAGIC));
	cl_precopy_store_free(store);
	close(pages_fd);
	close(fd);
}

/* Bytes of the index changed, or cut off: it is refused, or what it says is harmless. */
static void damaged_index(uint64_t seed)
{
	struct cl_error error;
	char path[] = "/tmp/criu-lazy-store.XXXXXX";
	uint8_t token[CL_PUSH_TOKEN_BYTES] = { 0 }, index[4096];
	uint64_t random = seed, page;
	unsigned int i, refused = 0;
	struct cl_precopy_store *store;
	int fd = open_directory(path), file;
	size_t size, at;

	for (i = 0; i < MUTATIONS; i++) {
		CHECK(cl_precopy_store_create(fd, &store) == 0);
		for (page = 0; page < 20; page++)
			CHECK(cl_precopy_store_write(store, 10 + page % 3, BASE + page * 600 * PAGE, 1, NULL) == 0);
		CHECK(cl_precopy_store_finish(store, fd, token) == 0);
		cl_precopy_store_free(store);
		file = openat(fd, "index", O_RDWR | O_CLOEXEC);
		size = (size_t)read(file, index, sizeof(index));
		CHECK(file >= 0 && size > 1000 && size < sizeof(index));
		at = next_random(&random) % size;
		index[at] ^= (uint8_t)(1 << next_random(&random) % 8);
		CHECK(pwrite(file, index, size, 0) == (ssize_t)size);
		if (i % 5 == 0)
			CHECK(ftruncate(file, (off_t)(next_random(&random) % size)) == 0);
		close(file);
		if (cl_precopy_store_take(fd, &store, &error) < 0) {
			refused++;
			continue;
		}
		for (page = 0; page < 20; page++) {
			int ret = cl_precopy_store_read(store, 10 + page % 3, BASE + page * 600 * PAGE, 1, buffer);

			CHECK(ret == 0 || ret == -ENODATA);
			cl_precopy_store_drop(store, 10 + page % 3, BASE + page * 600 * PAGE, 1);
		}
		cl_precopy_store_free(store);
	}
	CHECK(refused > MUTATIONS / 5);
	CHECK(cl_precopy_store_take(fd, &store, &error) == -ENOENT);
	CHECK(rmdir(path) == 0);
	close(fd);
}

static void expect(struct cl_precopy_store *store, uint64_t page, uint64_t nr_pages, unsigned int version)
{
	uint64_t i;

	for (i = 0; i < nr_pages; i++)
		fill(expected + i * PAGE, 0, page + i, version);
	CHECK(cl_precopy_store_read(store, 10, BASE + page * PAGE, nr_pages, buffer) == 0);
	CHECK(memcmp(buffer, expected, nr_pages * PAGE) == 0);
}

static int write_late(struct cl_precopy_store *store, uint64_t page, uint64_t nr_pages, unsigned int version)
{
	uint64_t i;

	for (i = 0; i < nr_pages; i++)
		fill(buffer + i * PAGE, 0, page + i, version);
	return cl_precopy_store_write(store, 10, BASE + page * PAGE, nr_pages, version == 1 ? NULL : buffer);
}

/* `path` for mkdtemp(). What is written after it was taken is there instead of what was, but not in new chunks. */
static void written_late(char *path)
{
	uint8_t token[CL_PUSH_TOKEN_BYTES] = { 7 };
	struct cl_precopy_store *store;
	struct cl_error error;
	int fd = open_directory(path);

	CHECK(cl_precopy_store_create(fd, &store) == 0);
	CHECK(write_late(store, 0, 100, 2) == 0 && write_late(store, 1800, 1, 2) == 0);
	CHECK(cl_precopy_store_finish(store, fd, token) == 0);
	cl_precopy_store_free(store);
	CHECK(cl_precopy_store_take(fd, &store, &error) == 0 && rmdir(path) == 0);
	CHECK(write_late(store, 10, 20, 3) == 0 && write_late(store, 90, 50, 4) == 0);
	CHECK(write_late(store, 40, 5, 1) == 0 && write_late(store, 1801, 3, 1) == 0);
	CHECK(write_late(store, 1000, 1, 5) == -ESTALE);
	CHECK(cl_precopy_store_read(store, 10, BASE + 1000 * PAGE, 1, buffer) == -ENODATA);
	expect(store, 0, 10, 2);
	expect(store, 10, 20, 3);
	expect(store, 40, 5, 1);
	expect(store, 45, 45, 2);
	expect(store, 90, 50, 4);
	expect(store, 1800, 1, 2);
	expect(store, 1801, 3, 1);

	/* Of memory its blocks may be taken at any moment: nothing is to be written there. */
	CHECK(cl_precopy_store_drop(store, 10, BASE, 12) == 2);
	CHECK(cl_precopy_store_drop(store, 10, BASE, 12) == 0);
	CHECK(write_late(store, 11, 2, 5) == -ESTALE && write_late(store, 0, 1, 1) == -ESTALE);
	expect(store, 12, 18, 3);
	/* Nor where nothing was, but where nothing is known of it. */
	CHECK(cl_precopy_store_drop(store, 10, BASE + 1810 * PAGE, 1) == 0);
	CHECK(write_late(store, 1810, 1, 5) == -ESTALE);
	CHECK(write_late(store, 1811, 1, 5) == 0);
	CHECK(cl_precopy_store_drop(store, 10, BASE, PAGES) == 18 + 50 + 5 + 3 + 1);
	cl_precopy_store_free(store);
	close(fd);
}

static void limit(void)
{
	char path[] = "/tmp/criu-lazy-store.XXXXXX";
	struct cl_precopy_store *store;
	int fd = open_directory(path);

	CHECK(cl_precopy_store_create(fd, &store) == 0);
	CHECK(cl_precopy_store_write(store, 10, 0, 1ull << 34, NULL) == -ENOSPC);
	cl_precopy_store_free(store);
	CHECK(unlinkat(fd, "pages", 0) == 0 && rmdir(path) == 0);
	close(fd);
}

/* ---- page_store and a server ---- */

struct script {
	int fd;
	const struct cl_push_header *messages;
	size_t nr_messages;
	uint64_t random; /* not 0: so many right messages and then damaged ones */
};

static void *serve(void *argument)
{
	struct script *script = argument;
	struct cl_push_answer answer = { .nr_streams = 1, .token = { 3 } };
	uint8_t out[CL_PUSH_HEADER_BYTES], data[4 * PAGE];
	struct cl_push_header header;
	size_t i;

	CHECK(recv(script->fd, out, CL_WIRE_V1_BYTES + 1, MSG_WAITALL) == CL_WIRE_V1_BYTES + 1);
	cl_push_pack_answer(&answer, out);
	CHECK(send(script->fd, out, CL_PUSH_ANSWER_BYTES, MSG_NOSIGNAL) == CL_PUSH_ANSWER_BYTES);
	memset(data, 0xab, sizeof(data));
	for (i = 0; i < script->nr_messages; i++) {
		header = script->messages[i];
		cl_push_pack(&header, out);
		if (script->random && i + 1 == script->nr_messages)
			out[next_random(&script->random) % sizeof(out)] ^= (uint8_t)(1 << next_random(&script->random) % 8);
		if (send(script->fd, out, sizeof(out), MSG_NOSIGNAL) < 0 ||
		    (header.bytes && send(script->fd, data, header.bytes, MSG_NOSIGNAL) < 0))
			break;
		if ((header.type == CL_PUSH_ROUND || header.type == CL_PUSH_END) &&
		    recv(script->fd, out, sizeof(out), MSG_WAITALL) == (ssize_t)sizeof(out)) {
			CHECK(cl_push_unpack(out, &header) == 0 && header.type == CL_PUSH_STORED);
			CHECK(script->random || header.nr_pages == script->messages[i].nr_pages);
		}
	}
	shutdown(script->fd, SHUT_RDWR);
	return NULL;
}

/* What page_store makes of it: its result, and its last word in error. */
static int run_script(struct script *script, struct cl_error *error, bool *complete)
{
	char path[] = "/tmp/criu-lazy-store.XXXXXX";
	int fds[2], fd = open_directory(path), ret;
	struct cl_precopy_receiver_config config = { .directory_fd = fd, .log_fd = -1 };
	struct cl_precopy_receiver *store;
	pthread_t server;

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	script->fd = fds[1];
	config.remote_fd = fds[0];
	CHECK(pthread_create(&server, NULL, serve, script) == 0);
	store = cl_precopy_receiver_new(&config, error);
	CHECK(store);
	error->text[0] = 0;
	ret = cl_precopy_receiver_run(store, error);
	cl_precopy_receiver_free(store);
	pthread_join(server, NULL);
	close(fds[1]);
	*complete = unlinkat(fd, "index", 0) == 0;
	CHECK(unlinkat(fd, "pages", 0) == 0 && rmdir(path) == 0);
	close(fd);
	return ret;
}

static void servers(uint64_t seed)
{
	enum { P = CL_PUSH_PAGES, Z = CL_PUSH_ZERO };
	/* clang-format off */
	static const struct cl_push_header good[] = {
		{ P, 2 * PAGE, 2, BASE, 10 },
		{ Z, 0, 3000, BASE, 11 },
		{ CL_PUSH_ROUND, 0, 1, 0, 0 },
		{ P, PAGE, 1, BASE, 10 },
		{ CL_PUSH_ROUND, 0, 2, 0, 0 },
		{ CL_PUSH_END, 0, 0, 0, 0 },
	};
	/* clang-format on */
	static const struct {
		struct cl_push_header header;
		const char *error;
	} wrong[] = {
		{ { P, PAGE, 2, BASE, 10 }, "damaged" },
		{ { Z, 0, CL_PUSH_TOLD_PAGES + 1, BASE, 10 }, "damaged" },
		{ { P, PAGE, 1, BASE + 1, 10 }, "damaged" },
		{ { Z, 0, 0, BASE, 10 }, "damaged" },
		{ { 77, 0, 0, 0, 0 }, "damaged" },
		{ { CL_PUSH_PACKED, 9, 1, BASE, 10 }, "unpacked" },
		{ { CL_PUSH_PACKED_ZSTD, 9, 1, BASE, 10 }, "unpacked" },
		{ { CL_PUSH_PACKED_ZSTD, PAGE, 1, BASE, 10 }, "damaged" },
		{ { CL_PUSH_SAME, 0, 1, BASE, 10 }, "no place" },
		{ { CL_PUSH_GET, 0, 1, BASE, 10 }, "no place" },
		{ { CL_PUSH_CLOSED, 0, 0, 0, 0 }, "no place" },
		{ { CL_PUSH_ROUND, 0, 2, 0, 0 }, "miscounted" },
	};
	struct script script = { .messages = good, .nr_messages = 6 };
	struct cl_error error;
	bool complete;
	size_t i;

	CHECK(run_script(&script, &error, &complete) == 0 && complete);
	script.nr_messages = 5; /* it breaks off */
	CHECK(run_script(&script, &error, &complete) == -ECONNRESET && !complete);
	CHECK(strstr(error.text, "not complete"));
	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct script bad = { .messages = &wrong[i].header, .nr_messages = 1 };

		CHECK(run_script(&bad, &error, &complete) < 0 && !complete);
		if (!strstr(error.text, wrong[i].error))
			fprintf(stderr, "case %zu: %s\n", i, error.text);
		CHECK(strstr(error.text, wrong[i].error));
	}
	for (i = 1; i <= 100; i++) {
		struct script damaged = { .messages = good, .nr_messages = 1 + i % 6, .random = seed * 1000 + i };

		(void)run_script(&damaged, &error, &complete);
	}
}

int main(int argc, char **argv)
{
	char disk[] = "/var/tmp/criu-lazy-store.XXXXXX", memory[] = "/dev/shm/criu-lazy-store.XXXXXX";
	char late_disk[] = "/var/tmp/criu-lazy-store.XXXXXX", late_memory[] = "/dev/shm/criu-lazy-store.XXXXXX";
	uint64_t seed;

	CHECK(argc == 2);
	alarm(120);
	seed = strtoull(argv[1], NULL, 10);
	against_the_model(seed, disk);
	against_the_model(seed, memory);
	written_late(late_disk);
	written_late(late_memory);
	damaged_index(seed);
	servers(seed);
	if (seed == 1) /* it takes seconds */
		limit();
	return 0;
}
