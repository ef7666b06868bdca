/* SPDX-License-Identifier: Apache-2.0 */
#include "source/dump_guardian.h"

#include <errno.h>
#include <limits.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/deadline.h"
#include "base/fd_passing.h"
#include "base/io.h"
#include "base/survivor.h"
#include "wire/page_protocol.h"

enum {
	HANG_UP_TIMEOUT_US = 30 * 1000 * 1000,
	BACK_OFF_US = 100 * 1000, /* before the second successor; doubled for each that fails */
	MAX_BACK_OFF_SHIFT = 7,
	MAX_WAIT_US = 10 * 1000 * 1000, /* a proxy that lived for so long is no failure */
	USAGE_STATUS = 2,               /* how a program ends that was told of files which are not there */
	MAX_REFUSALS = 3,
	RAW_AFTER_US = 5 * 1000 * 1000, /* so long a proxy may take to roll back, or to start */
};

int cl_dump_guardian_counts(int fd, uint64_t *sent_bytes_out, uint64_t *consumed_bytes_out)
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

struct cl_dump_guardian_state *cl_dump_guardian_state_map(int memfd)
{
	void *state = mmap(NULL, sizeof(struct cl_dump_guardian_state), PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);

	return state == MAP_FAILED ? NULL : state;
}

void cl_dump_guardian_state_unmap(struct cl_dump_guardian_state *state)
{
	if (state)
		munmap(state, sizeof(*state));
}

int cl_dump_guardian_state_new(int upstream_fd, struct cl_dump_guardian_state **state_out, int *memfd_out)
{
	struct cl_dump_guardian_state *state = NULL;
	int memfd = memfd_create("criu-lazy-proxy", MFD_CLOEXEC);
	int error;

	if (memfd < 0)
		return -errno;
	if (ftruncate(memfd, sizeof(struct cl_dump_guardian_state)) < 0 || !(state = cl_dump_guardian_state_map(memfd))) {
		error = -errno;
		close(memfd);
		return error;
	}
	error = cl_dump_guardian_counts(upstream_fd, &state->sent_base_bytes, &state->consumed_base_bytes);
	if (error) {
		cl_dump_guardian_state_unmap(state);
		close(memfd);
		return error;
	}
	*state_out = state;
	*memfd_out = memfd;
	return 0;
}

/*
 * Read and forget until the peer hangs up; each wait for more takes timeout_us at most (0: for ever). 0, -ETIMEDOUT, -errno.
 */
static int drain_until_hang_up(int fd, uint64_t timeout_us)
{
	static const size_t chunk_bytes = 256 * 1024;
	CL_CLEANUP_FREE uint8_t *chunk = malloc(chunk_bytes);
	int64_t got = 0;

	if (!chunk)
		return -ENOMEM;
	while (got >= 0 || got == -EAGAIN) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int ready = cl_deadline_poll(&p, 1, timeout_us ? cl_now_us() + timeout_us : 0);

		if (ready <= 0)
			return ready < 0 ? ready : -ETIMEDOUT;
		got = cl_receive(fd, chunk, chunk_bytes, MSG_DONTWAIT);
	}
	return got == -ECONNRESET || got == -EPIPE ? 0 : (int)got; /* a reset is a hang-up */
}

int cl_dump_guardian_roll_back(int upstream_fd)
{
	/*
	 * Whatever header has begun, 32 bytes finish it and make its command unknown, in either version: a first
	 * byte sent ahead (see dump_proxy.c) becomes the low byte of 0x55xx.
	 */
	uint8_t nonsense[CL_ROLL_BACK_BYTES];
	int ret;

	memset(nonsense, CL_ROLL_BACK_BYTE, sizeof(nonsense));
	ret = cl_send_all(upstream_fd, nonsense, sizeof(nonsense), 0);
	if (ret < 0 && ret != -EPIPE && ret != -ECONNRESET && ret != -EAGAIN)
		return ret;
	return drain_until_hang_up(upstream_fd, HANG_UP_TIMEOUT_US);
}

int cl_dump_guardian_take_over(int lifeline_fd, int *upstream_fd_out, int *memfd_out)
{
	int fds[2];
	char byte;
	long got = cl_survivor_trusts(lifeline_fd) ? cl_fds_receive(lifeline_fd, &byte, 1, 0, fds, 2) : -EPERM;

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
static int close_was_sent(int upstream_fd, const struct cl_dump_guardian_state *state)
{
	size_t header_bytes = cl_wire_header_bytes((int)atomic_load(&state->wire_version));
	uint64_t sent, consumed;

	if (!header_bytes || cl_dump_guardian_counts(upstream_fd, &sent, &consumed))
		return 0;
	return sent != state->sent_base_bytes && (sent - state->sent_base_bytes) % header_bytes == 0;
}

/* ---- the guardian's own process ---- */

struct guardian {
	int upstream, memfd, takeover;
	struct cl_survivor survivor;
	int lifeline; /* to the proxy, or -1 */
	struct cl_dump_guardian_state *state;
	char *const *resume;   /* argv of the program that starts the next proxy, or NULL */
	int successor;         /* pidfd of one that was started, or -1 */
	unsigned int failures; /* of those, in a row */
	unsigned int refusals; /* of these, in a row: what it was given is not there any more */
	uint64_t start_at_us;  /* not before, the next one */
	uint64_t raw_at_us;    /* when to roll back without the help of a proxy; 0: not yet known */
	char path[PATH_MAX];   /* of the takeover socket; "": there is none */
	ino_t inode;           /* what is to be found there */
};

/* Where the next proxy is to come: noted while that is as it was given. */
static void note_path(struct guardian *g)
{
	struct sockaddr_un address = { 0 };
	socklen_t length = sizeof(address);
	struct stat found;

	if (g->takeover < 0 || getsockname(g->takeover, (struct sockaddr *)&address, &length) < 0 ||
	    !realpath(address.sun_path, g->path) || stat(g->path, &found) < 0)
		g->path[0] = '\0';
	else
		g->inode = found.st_ino;
}

/* Whether another proxy can still come: nobody has removed the socket, or put another one there. */
static bool can_be_reached(const struct guardian *g)
{
	struct stat found;

	return !g->path[0] || (stat(g->path, &found) == 0 && found.st_ino == g->inode);
}

static void reap_successor(struct guardian *g)
{
	unsigned int shift = g->failures < MAX_BACK_OFF_SHIFT ? g->failures : MAX_BACK_OFF_SHIFT;
	int status;

	while (waitpid(-1, &status, WNOHANG) > 0)
		g->refusals = WIFEXITED(status) && WEXITSTATUS(status) == USAGE_STATUS ? g->refusals + 1 : 0;
	close(g->successor);
	g->successor = -1;
	g->failures++;
	g->start_at_us = cl_now_us() + ((uint64_t)BACK_OFF_US << shift);
}

static void start_successor(struct guardian *g)
{
	g->successor = cl_survivor_start_program(&g->survivor, g->resume);
	if (g->successor < 0) { /* too little of something: perhaps there is more soon */
		g->failures++;
		g->start_at_us = cl_now_us() + MAX_WAIT_US;
	}
}

/* A successor, root's or our user's, gets what it needs, unless a proxy is alive. Whether it has it now. */
static bool answer_newcomer(struct guardian *g)
{
	const int fds[2] = { g->upstream, g->memfd };
	int newcomer = cl_survivor_accept(g->takeover);

	if (newcomer < 0)
		return false;
	if (g->lifeline < 0 && cl_fds_send(newcomer, "", 1, fds, 2) == 0) {
		g->lifeline = newcomer;
		return true;
	}
	close(newcomer);
	return false;
}

/* The dump is dead, and the restored task was not resumed, or no proxy can go on without it: its files were removed. */
static bool is_hopeless(const struct guardian *g)
{
	struct pollfd p = { .fd = g->upstream, .events = POLLRDHUP };

	if (poll(&p, 1, 0) <= 0)
		return false;
	return !atomic_load(&g->state->running) || g->refusals >= MAX_REFUSALS || !can_be_reached(g);
}

/*
 * The proxy is gone: start the next, wait for it, or for an operator's. 1: there is one; 0: not in time; -1: it is hopeless.
 */
static int await_successor(struct guardian *g, uint64_t until_us)
{
	while (!until_us || cl_now_us() < until_us) {
		/* Not POLLIN: answers to the dead proxy's requests may wait there for long. */
		struct pollfd p[3] = {
			{ .fd = atomic_load(&g->state->running) ? -1 : g->upstream, .events = POLLRDHUP },
			{ .fd = g->takeover, .events = POLLIN },
			{ .fd = g->successor, .events = POLLIN },
		};
		uint64_t next_us = until_us;

		if (is_hopeless(g))
			return -1;
		if (g->resume && g->successor < 0) {
			if (cl_now_us() >= g->start_at_us) {
				start_successor(g);
				continue;
			}
			if (!next_us || g->start_at_us < next_us)
				next_us = g->start_at_us;
		}
		if (poll(p, 3, cl_deadline_poll_ms(next_us)) < 0)
			continue;
		if (p[2].revents)
			reap_successor(g);
		if (p[1].revents & POLLIN && answer_newcomer(g))
			return 1;
	}
	return 0;
}

/* Until the proxy's process is gone, however it went. */
static void await_end_of_proxy(struct guardian *g)
{
	uint64_t began_us = cl_now_us();

	while (g->lifeline >= 0) {
		struct pollfd p[3] = {
			{ .fd = g->lifeline, .events = POLLIN },
			{ .fd = g->takeover, .events = POLLIN },
			{ .fd = g->successor, .events = POLLIN },
		};
		char byte;
		ssize_t n = 1;

		if (poll(p, 3, -1) < 0)
			continue;
		if (p[1].revents & POLLIN)
			(void)answer_newcomer(g);
		if (p[2].revents)
			reap_successor(g);
		if (p[0].revents)
			n = read(g->lifeline, &byte, 1);
		if (n > 0 || (n < 0 && errno == EINTR))
			continue;
		close(g->lifeline);
		g->lifeline = -1;
	}
	if (cl_now_us() - began_us > MAX_WAIT_US) {
		g->failures = 0;
		g->start_at_us = 0;
	}
}

/* Whether there is a proxy again, which does it, and undoes what else was done to the source; otherwise it is done. */
static bool roll_back(struct guardian *g)
{
	if (!g->raw_at_us)
		g->raw_at_us = cl_now_us() + RAW_AFTER_US;
	if (g->resume) {
		int successor = await_successor(g, g->raw_at_us);

		if (successor)
			return successor > 0;
	}
	/* Nobody is to take over what is being given up. */
	close(g->takeover);
	cl_dump_guardian_roll_back(g->upstream);
	return false;
}

/* Whether the commit is finished, without a proxy. */
static bool finish_commit(struct guardian *g)
{
	if (!close_was_sent(g->upstream, g->state))
		return false;
	/* Until it sees the end of file, the dump takes any other end for a failure. */
	shutdown(g->upstream, SHUT_WR);
	drain_until_hang_up(g->upstream, 0);
	return true;
}

static void run_guardian(struct guardian *g)
{
	bool proxy_lives = g->state;

	while (proxy_lives) {
		await_end_of_proxy(g);
		switch (atomic_load(&g->state->phase)) {
		case CL_DUMP_GUARDIAN_ROLLBACK:
			proxy_lives = roll_back(g);
			break;
		case CL_DUMP_GUARDIAN_COMMIT:
			proxy_lives = !finish_commit(g) && await_successor(g, 0) > 0;
			break;
		case CL_DUMP_GUARDIAN_HOLD:
			proxy_lives = await_successor(g, 0) > 0;
			break;
		default:
			return;
		}
	}
}

int cl_dump_guardian_start(int upstream_fd, int memfd, int takeover_fd, char *const *resume)
{
	const int keep[] = { upstream_fd, memfd, takeover_fd };
	struct guardian g = {
		.upstream = upstream_fd, .memfd = memfd, .takeover = takeover_fd, .successor = -1, .resume = resume
	};
	int ret = cl_survivor_fork(&g.survivor, "criu-lazy-guard", SOCK_STREAM, keep, sizeof(keep) / sizeof(keep[0]));

	if (ret < 0)
		return ret;
	if (g.survivor.pid > 0)
		return g.survivor.channel;
	note_path(&g);
	if (chdir("/") < 0)
		_exit(1);
	g.lifeline = g.survivor.channel;
	g.state = cl_dump_guardian_state_map(memfd);
	run_guardian(&g);
	_exit(0);
}
