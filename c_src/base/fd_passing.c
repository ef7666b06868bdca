/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd_passing.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What a message brings besides its bytes: descriptors, and, where the socket asks for it, who sent it. */
union control {
	char space[CMSG_SPACE(CL_FDS_MAX * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
	struct cmsghdr align;
};

int cl_fds_send(int socket_fd, const void *data, size_t size, const int *fds, int nr_fds)
{
	size_t fds_bytes = (size_t)nr_fds * sizeof(*fds);
	struct iovec part = { .iov_base = (void *)data, .iov_len = size };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
	union control control;
	struct cmsghdr *header;
	ssize_t sent;

	if (nr_fds) {
		memset(&control, 0, sizeof(control));
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(fds_bytes);
		header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(fds_bytes);
		memcpy(CMSG_DATA(header), fds, fds_bytes);
	}
	do
		sent = sendmsg(socket_fd, &message, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return -errno;
	return (size_t)sent == size ? 0 : -EPIPE;
}

/* The first nr_fds of them are the caller's, others are closed. */
static void take_fds(const struct cmsghdr *header, int *fds, int nr_fds)
{
	int nr_came = (int)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int)), fd, i;

	for (i = 0; i < nr_came; i++) {
		memcpy(&fd, CMSG_DATA(header) + (size_t)i * sizeof(fd), sizeof(fd));
		if (i < nr_fds)
			fds[i] = fd;
		else
			close(fd);
	}
}

static long receive(int socket_fd, struct iovec part, int flags, int *fds, int nr_fds, pid_t *sender)
{
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
	union control control;
	struct cmsghdr *header;
	struct ucred from;
	ssize_t got;
	int i;

	for (i = 0; i < nr_fds; i++)
		fds[i] = -1;
	*sender = 0;
	message.msg_control = &control;
	message.msg_controllen = CMSG_SPACE(sizeof(from)) + CMSG_SPACE((size_t)nr_fds * sizeof(*fds));
	do
		got = recvmsg(socket_fd, &message, flags | MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	for (header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
		if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
			take_fds(header, fds, nr_fds);
		} else if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_CREDENTIALS) {
			memcpy(&from, CMSG_DATA(header), sizeof(from));
			*sender = from.pid;
		}
	}
	return got;
}

long cl_fds_receive(int socket_fd, void *data, size_t size, int flags, int *fds, int nr_fds)
{
	pid_t sender;

	return receive(socket_fd, (struct iovec){ .iov_base = data, .iov_len = size }, flags, fds, nr_fds, &sender);
}

long cl_fds_receive_from(int socket_fd, void *data, size_t size, int flags, int *fd, pid_t *sender)
{
	return receive(socket_fd, (struct iovec){ .iov_base = data, .iov_len = size }, flags, fd, fd ? 1 : 0, sender);
}

void cl_fds_close_all_but(const int *keep, int nr_keep)
{
	unsigned int next = 0;

	for (;;) {
		unsigned int lowest = ~0U;

		for (int i = 0; i < nr_keep; i++)
			if (keep[i] >= 0 && (unsigned int)keep[i] >= next && (unsigned int)keep[i] < lowest)
				lowest = (unsigned int)keep[i];
		if (lowest > next)
			syscall(SYS_close_range, next, lowest == ~0U ? ~0U : lowest - 1, 0);
		if (lowest == ~0U)
			return;
		next = lowest + 1;
	}
}
