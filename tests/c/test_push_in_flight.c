/* SPDX-License-Identifier: Apache-2.0 */
/* push_sent on a real TCP connection, whose other end reads when it is told to: only what TCP has sent has left. */
#include <arpa/inet.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "source/push_in_flight.h"
#include "wire/push_protocol.h"
#include "tcp.h"

enum { BATCH_PAGES = 64, BATCH_BYTES = BATCH_PAGES * CL_PAGE_SIZE, MESSAGE_BYTES = CL_PUSH_HEADER_BYTES + BATCH_BYTES };

static char message[MESSAGE_BYTES];
static const int task, other_task;

/* Two ends of a connection of which the receiving one takes little. */
static void connect_ends(int *out, int *in)
{
	struct sockaddr_in address;
	int listener = listen_on_loopback(&address), little = 16 << 10, much = 8 << 20;

	*in = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(setsockopt(*in, SOL_SOCKET, SO_RCVBUF, &little, sizeof(little)) == 0);
	CHECK(connect(*in, (struct sockaddr *)&address, sizeof(address)) == 0);
	*out = accept(listener, NULL, NULL);
	CHECK(*out >= 0 && setsockopt(*out, SOL_SOCKET, SO_SNDBUF, &much, sizeof(much)) == 0);
	close(listener);
}

static void receive(int in, size_t bytes)
{
	static char data[MESSAGE_BYTES];

	while (bytes) {
		ssize_t got = recv(in, data, bytes < sizeof(data) ? bytes : sizeof(data), 0);

		CHECK(got > 0);
		bytes -= (size_t)got;
	}
}

static unsigned int nr_left(const struct cl_push_in_flight *sent, int fd, uint64_t first)
{
	unsigned int nr = 0;

	for (uint64_t i = 0; i < BATCH_PAGES; i++)
		nr += cl_push_in_flight_has_left(sent, fd, &task, first + i);
	return nr;
}

/* Within a second, as the kernel takes its time to send on. */
static void check_all_leave(const struct cl_push_in_flight *sent, int fd, uint64_t first)
{
	for (int i = 0; i < 1000 && nr_left(sent, fd, first) < BATCH_PAGES; i++)
		usleep(1000);
	CHECK(nr_left(sent, fd, first) == BATCH_PAGES);
}

static void write_batch(struct cl_push_in_flight *sent, int fd, uint64_t first)
{
	cl_push_in_flight_begin(sent, &task, first, BATCH_PAGES, cl_push_in_flight_written(fd), false);
	CHECK(send(fd, message, sizeof(message), 0) == sizeof(message));
	cl_push_in_flight_end(sent, cl_push_in_flight_written(fd));
}

int main(void)
{
	struct cl_push_in_flight *sent = calloc(1, sizeof(*sent));
	unsigned int nr;
	int out, in, pair[2];

	alarm(60);
	connect_ends(&out, &in);
	CHECK(send(out, message, 24, 0) == 24); /* something else before, as the answer to a hello */
	receive(in, 24);
	CHECK(nr_left(sent, out, 1000) == 0);

	/* What the other end leaves no room for has not left; what came before it has. */
	write_batch(sent, out, 1000);
	write_batch(sent, out, 5000);
	for (int i = 0; i < 1000 && !nr_left(sent, out, 1000); i++)
		usleep(1000);
	nr = nr_left(sent, out, 1000);
	CHECK(nr > 0 && nr < BATCH_PAGES && nr_left(sent, out, 5000) == 0);
	CHECK(cl_push_in_flight_has_left(sent, out, &task, 1000) &&
	      !cl_push_in_flight_has_left(sent, out, &task, 1000 + BATCH_PAGES - 1));
	CHECK(!cl_push_in_flight_has_left(sent, out, &other_task, 1000) &&
	      !cl_push_in_flight_has_left(sent, out, &task, 999));
	receive(in, MESSAGE_BYTES);
	check_all_leave(sent, out, 1000);
	CHECK(nr_left(sent, out, 5000) < BATCH_PAGES);
	receive(in, MESSAGE_BYTES);
	check_all_leave(sent, out, 5000);

	/* One that is being written: its first pages may have left; and none, as long as nothing was written. */
	cl_push_in_flight_begin(sent, &task, 7000, BATCH_PAGES, cl_push_in_flight_written(out), false);
	CHECK(nr_left(sent, out, 7000) == 0);
	CHECK(send(out, message, sizeof(message), 0) == sizeof(message));
	receive(in, MESSAGE_BYTES);
	for (int i = 0; i < 1000 && !nr_left(sent, out, 7000); i++)
		usleep(1000);
	nr = nr_left(sent, out, 7000);
	CHECK(nr > 0 && nr < BATCH_PAGES);
	cl_push_in_flight_end(sent, cl_push_in_flight_written(out));
	check_all_leave(sent, out, 7000);

	/* Of a packed one nothing is there before all is. */
	cl_push_in_flight_begin(sent, &task, 8000, BATCH_PAGES, cl_push_in_flight_written(out), true);
	CHECK(send(out, message, sizeof(message), 0) == sizeof(message));
	receive(in, MESSAGE_BYTES);
	usleep(10000);
	CHECK(nr_left(sent, out, 8000) == 0);
	cl_push_in_flight_end(sent, cl_push_in_flight_written(out));
	check_all_leave(sent, out, 8000);

	/* Long ago. */
	for (uint64_t i = 0; i < CL_PUSH_IN_FLIGHT_BATCHES; i++) {
		write_batch(sent, out, 10000 + i * BATCH_PAGES);
		receive(in, MESSAGE_BYTES);
	}
	CHECK(nr_left(sent, out, 7000) == 0);
	close(out);
	close(in);

	/* No TCP: nothing is known. */
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	CHECK(send(pair[0], message, 5000, 0) == 5000);
	CHECK(cl_push_in_flight_written(pair[0]) == 0 && nr_left(sent, pair[0], 10000) == 0);
	close(pair[0]);
	close(pair[1]);
	free(sent);
	return 0;
}
