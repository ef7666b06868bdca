/* SPDX-License-Identifier: Apache-2.0 */
#include "guard.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fds.h"
#include "wire.h"

#define HANG_UP_TIMEOUT_MS 30000

int cl_guard_counts(int fd, uint64_t *sent_bytes_out, uint64_t *consumed_bytes_out)
{
	uint64_t sent = 0, consumed = 0;

	/* Four numbers, not read at once: two equal rounds show that nothing moved in between. */
	for (int round = 0; round < 1000; round++) {
		struct tcp_info info;
		socklen_t length = sizeof(info);
		int unread, unacked;
		uint64_t now_sent, now_consumed;

		memset(&info, 0, sizeof(info));
		if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0)
			return -errno;
		if (ioctl(fd, SIOCINQ, &unread) < 0 || ioctl(fd, SIOCOUTQ, &unacked) < 0)
			return -errno;
		now_sent = info.tcpi_bytes_acked + (uint64_t)unacked;
		now_consumed = info.tcpi_bytes_received - (uint64_t)unread;
		if (round > 0 && now_sent == sent && now_consumed == consumed) {
			*sent_bytes_out = sent;
			*consumed_bytes_out = consumed;
			return 0;
		}
		sent = now_sent;
		consumed = now_consumed;
	}
	return -EAGAIN;
}

struct cl_guard_state *cl_guard_state_map(int memfd)
{
	void *state = mmap(NULL, sizeof(struct cl_guard_state), PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);

	return state == MAP_FAILED ? NULL : state;
}

void cl_guard_state_unmap(struct cl_guard_state *state)
{
	if (state)
		munmap(state, sizeof(*state));
}

int cl_guard_state_new(int upstream_fd, struct cl_guard_state **state_out, int *memfd_out)
{
	struct cl_guard_state *state = NULL;
	int memfd = memfd_create("criu-lazy-relay", MFD_CLOEXEC);
	int error;

	if (memfd < 0)
		return -errno;
	if (ftruncate(memfd, sizeof(struct cl_guard_state)) < 0 || !(state = cl_guard_state_map(memfd))) {
		error = -errno;
		close(memfd);
		return error;
	}
	error = cl_guard_counts(upstream_fd, &state->sent_base_bytes, &state->consumed_base_bytes);
	if (error) {
		cl_guard_state_unmap(state);
		close(memfd);
		return error;
	}
	*state_out = state;
	*memfd_out = memfd;
	return 0;
}

/* Read and forget until the peer hangs up. 0, -ETIMEDOUT or a negative errno; a reset is a hang-up. */
static int drain_until_hang_up(int fd, int timeout_ms)
{
	static const size_t chunk_bytes = 256 * 1024;
	uint8_t *chunk = malloc(chunk_bytes);
	int error = 0;

	if (!chunk)
		return -ENOMEM;
	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int ready = poll(&p, 1, timeout_ms);
		ssize_t n;

		if (ready < 0 && errno == EINTR)
			continue;
		if (ready <= 0) {
			error = ready < 0 ? -errno : -ETIMEDOUT;
			break;
		}
		n = recv(fd, chunk, chunk_bytes, MSG_DONTWAIT);
		if (n == 0)
			break;
		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			error = errno == ECONNRESET || errno == EPIPE ? 0 : -errno;
			break;
		}
	}
	free(chunk);
	return error;
}

int cl_guard_roll_back(int upstream_fd)
{
	/*
	 * Whatever header has begun, 32 bytes finish it and make its command unknown, in either version: a first
	 * byte sent ahead (see relay.c) becomes the low byte of 0x55xx.
	 */
	uint8_t nonsense[CL_WIRE_MAX_BYTES];
	ssize_t n;

	memset(nonsense, CL_WIRE_ROLLBACK, sizeof(nonsense));
	do
		n = send(upstream_fd, nonsense, sizeof(nonsense), MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno != EPIPE && errno != ECONNRESET && errno != EAGAIN)
		return -errno;
	return drain_until_hang_up(upstream_fd, HANG_UP_TIMEOUT_MS);
}

int cl_guard_take_over(int lifeline_fd, int *upstream_fd_out, int *memfd_out)
{
	int fds[2];
	char byte;
	long got = cl_fds_receive(lifeline_fd, &byte, 1, 0, fds, 2);

	if (got < 0)
		return (int)got;
	if (fds[1] < 0) {
		if (fds[0] >= 0)
			close(fds[0]);
		return -EPIPE;
	}
	*upstream_fd_out = fds[0];
	*memfd_out = fds[1];
	return 0;
}

/* The commit's CLOSE has left when the bytes sent end at a header's end (else one byte of the next is ahead). */
static int close_was_sent(int upstream_fd, const struct cl_guard_state *state)
{
	size_t header_bytes = cl_wire_header_bytes((int)atomic_load(&state->wire_version));
	uint64_t sent, consumed;

	if (!header_bytes || cl_guard_counts(upstream_fd, &sent, &consumed))
		return 0;
	return sent != state->sent_base_bytes && (sent - state->sent_base_bytes) % header_bytes == 0;
}

/* The relay is gone and its task runs elsewhere: wait for the next relay. Its lifeline, or -1 when the dump ended. */
static int hold(int upstream_fd, int memfd, int takeover_fd)
{
	const int fds[2] = { upstream_fd, memfd };

	for (;;) {
		/* Not POLLIN: answers to the dead relay's requests may wait there for long. */
		struct pollfd p[2] = {
			{ .fd = upstream_fd, .events = POLLRDHUP },
			{ .fd = takeover_fd, .events = POLLIN },
		};
		int lifeline;

		if (poll(p, 2, -1) < 0)
			continue;
		if (p[0].revents)
			return -1;
		if (!(p[1].revents & POLLIN))
			continue;
		lifeline = accept4(takeover_fd, NULL, NULL, SOCK_CLOEXEC);
		if (lifeline < 0)
			continue;
		if (cl_fds_send(lifeline, "", 1, fds, 2) == 0)
			return lifeline;
		close(lifeline);
	}
}

static void guardian(int upstream_fd, int memfd, int takeover_fd, int lifeline)
{
	struct cl_guard_state *state = cl_guard_state_map(memfd);

	while (state) {
		char byte;
		ssize_t n = read(lifeline, &byte, 1);

		if (n > 0 || (n < 0 && errno == EINTR))
			continue;
		close(lifeline);
		switch (atomic_load(&state->phase)) {
		case CL_GUARD_ROLLBACK:
			cl_guard_roll_back(upstream_fd);
			return;
		case CL_GUARD_COMMIT:
			if (close_was_sent(upstream_fd, state)) {
				/* Until it sees the end of file, the dump takes any other end for a failure. */
				shutdown(upstream_fd, SHUT_WR);
				drain_until_hang_up(upstream_fd, -1);
				return;
			}
			/* fall through */
		case CL_GUARD_HOLD:
			lifeline = hold(upstream_fd, memfd, takeover_fd);
			if (lifeline < 0)
				return;
			break;
		default:
			return;
		}
	}
}

int cl_guard_start(int upstream_fd, int memfd, int takeover_fd)
{
	int pair[2];
	pid_t child;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	child = fork();
	if (child < 0) {
		int error = -errno;

		close(pair[0]);
		close(pair[1]);
		return error;
	}
	if (child == 0) {
		const int keep[] = { upstream_fd, memfd, takeover_fd, pair[1] };

		setsid();
		signal(SIGINT, SIG_IGN);
		signal(SIGTERM, SIG_IGN);
		signal(SIGHUP, SIG_IGN);
		signal(SIGPIPE, SIG_IGN);
		prctl(PR_SET_NAME, "criu-lazy-guard");
		/* The rest belongs to the relay, and an end of file there must be seen. */
		cl_fds_close_all_but(keep, sizeof(keep) / sizeof(keep[0]));
		if (chdir("/") < 0)
			_exit(1);
		guardian(upstream_fd, memfd, takeover_fd, pair[1]);
		_exit(0);
	}
	close(pair[1]);
	return pair[0];
}
