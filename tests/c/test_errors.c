/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the engine says when something fails: of each call its own reason, on what, and why, whatever failed before; and
 * what it was given to own is closed then, too.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "criu_lazy.h"
#include "push_images.h"
#include "tcp.h"

enum { PID = 4711, OTHER_PID = 4712, PAGES = 16 };

static const uint64_t BASE = 0x400000;

/* So many allocations succeed yet; negative: all do. */
static int allocations_left = -1;

static bool runs_out(void)
{
	return allocations_left >= 0 && allocations_left-- == 0;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t nr, size_t size);
void *__real_reallocarray(void *old, size_t nr, size_t size);

void *__wrap_malloc(size_t size)
{
	return runs_out() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t nr, size_t size)
{
	return runs_out() ? NULL : __real_calloc(nr, size);
}

void *__wrap_reallocarray(void *old, size_t nr, size_t size)
{
	return runs_out() ? NULL : __real_reallocarray(old, nr, size);
}

static struct cl_engine *make_engine(int images_fd, unsigned int push_streams)
{
	const struct cl_config config = {
		.images_fd = images_fd, .log_fd = -1, .precopied_fd = -1, .push_streams = push_streams
	};
	struct cl_error error;
	struct cl_engine *engine = cl_engine_new(&config, &error);

	CHECK(engine);
	return engine;
}

static int add(struct cl_engine *engine, int32_t pid, struct cl_error *error)
{
	const struct cl_vma vma = { BASE, BASE + PAGES * CL_PAGE_SIZE, 0 };

	return cl_engine_add_task(engine, pid, &vma, 1, error);
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* Nobody is told of an older failure, wherever memory runs out. */
static void each_call_has_its_own_reason(int images_fd)
{
	struct cl_engine *engine = make_engine(images_fd, 0);
	struct cl_error error;
	int nr, ret = -ENOMEM;

	CHECK(add(engine, PID, &error) == 0);
	CHECK(add(engine, PID, &error) == -EEXIST && error.code == -EEXIST && strstr(error.text, "4711 is announced twice"));
	CHECK(add(engine, 1, &error) == -ENOENT && strstr(error.text, "pagemap-1.img: No such file"));
	for (nr = 0; ret < 0; nr++) {
		(void)add(engine, PID, &error);
		allocations_left = nr;
		ret = add(engine, OTHER_PID, &error);
		/* Of the table's spare room it gives nothing back then, which is no failure. */
		CHECK(ret == 0 ||
		      (ret == -ENOMEM && error.code == ret && strstr(error.text, "4712") && strstr(error.text, "emory")));
	}
	allocations_left = -1;
	CHECK(nr > 4);
	cl_engine_free(engine);
}

static void a_second_connection_is_refused_and_closed(int images_fd)
{
	struct cl_engine *engine = make_engine(images_fd, 0);
	struct cl_error error = { 0 };
	int first[2], second[2];
	char byte;

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, first) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, second) == 0);
	CHECK(cl_engine_set_remote(engine, first[0], &error) == 0 && !error.code);
	CHECK(cl_engine_set_remote(engine, second[0], &error) == -EEXIST && strstr(error.text, "page server: "));
	CHECK(!is_open(second[0]) && recv(second[1], &byte, 1, 0) == 0);
	CHECK(is_open(first[0]) && recv(first[1], &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
	cl_engine_free(engine);
	CHECK(!is_open(first[0]));
	close(first[1]);
	close(second[1]);
}

/* A page server that hangs up in the middle of its hello. */
static void *hang_up(void *argument)
{
	int listener = *(int *)argument, fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	char byte;

	CHECK(fd >= 0 && recv(fd, &byte, 1, 0) == 1);
	close(fd);
	return NULL;
}

static void who_hung_up_is_named(int images_fd)
{
	struct sockaddr_in address;
	int listener = listen_on_loopback(&address), remote = connect_to(&address);
	struct cl_engine *engine = make_engine(images_fd, 2);
	struct cl_error error = { 0 };
	pthread_t server;
	int restore[2];

	CHECK(pthread_create(&server, NULL, hang_up, &listener) == 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, restore) == 0);
	CHECK(add(engine, PID, &error) == 0 && cl_engine_set_remote(engine, remote, &error) == 0);
	CHECK(cl_engine_run(engine, restore[0], &error) == -ECONNRESET && error.code == -ECONNRESET);
	if (strcmp(error.text, "page server: the connection was closed") != 0)
		fprintf(stderr, "%s\n", error.text);
	CHECK(strcmp(error.text, "page server: the connection was closed") == 0);
	pthread_join(server, NULL);
	cl_engine_free(engine);
	CHECK(!is_open(restore[0]) && !is_open(remote));
	close(restore[1]);
	close(listener);
}

int main(void)
{
	char directory[] = "/tmp/criu-lazy-errors.XXXXXX";
	int images_fd = make_images(directory, PID, BASE, PAGES);

	make_pagemap(images_fd, OTHER_PID, BASE, PAGES);
	alarm(60);
	each_call_has_its_own_reason(images_fd);
	a_second_connection_is_refused_and_closed(images_fd);
	who_hung_up_is_named(images_fd);
	CHECK(unlinkat(images_fd, "pagemap-4712.img", 0) == 0);
	remove_images(directory, PID, images_fd);
	return 0;
}
