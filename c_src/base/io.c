/* SPDX-License-Identifier: Apache-2.0 */
#include "base/io.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/deadline.h"

int cl_pwrite_all(int fd, const void *data, size_t bytes, off_t at)
{
	const char *from = data;

	while (bytes) {
		ssize_t done = pwrite(fd, from, bytes, at);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done < 0 ? -errno : -EIO;
		from += done;
		at += done;
		bytes -= (size_t)done;
	}
	return 0;
}

int cl_pread_all(int fd, void *out, size_t bytes, off_t at)
{
	char *to = out;

	while (bytes) {
		ssize_t got = pread(fd, to, bytes, at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -EBADMSG;
		to += got;
		at += got;
		bytes -= (size_t)got;
	}
	return 0;
}

int cl_send_all(int socket_fd, const void *data, size_t bytes, int flags)
{
	const char *from = data;

	while (bytes) {
		ssize_t sent = send(socket_fd, from, bytes, flags | MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return -errno;
		from += sent;
		bytes -= (size_t)sent;
	}
	return 0;
}

int64_t cl_receive(int socket_fd, void *out, size_t size, int flags)
{
	ssize_t got;

	do
		got = recv(socket_fd, out, size, flags);
	while (got < 0 && errno == EINTR);
	return got < 0 ? -errno : got == 0 ? -ECONNRESET : got;
}

int cl_receive_all(int socket_fd, void *out, size_t bytes, uint64_t deadline_us)
{
	struct pollfd readable = { .fd = socket_fd, .events = POLLIN };
	char *to = out;

	while (bytes) {
		int ready = cl_deadline_poll(&readable, 1, deadline_us);
		int64_t got;

		if (ready <= 0)
			return ready < 0 ? ready : -ETIMEDOUT;
		got = cl_receive(socket_fd, to, bytes, MSG_DONTWAIT);
		if (got == -EAGAIN)
			continue;
		if (got < 0)
			return (int)got;
		to += got;
		bytes -= (size_t)got;
	}
	return 0;
}
