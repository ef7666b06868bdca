/* SPDX-License-Identifier: Apache-2.0 */
#include "holder.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fds.h"
#include "uffd.h"
#include "wire.h"

enum op { ADD = 1, RELEASE, RESTORED, END };

struct message {
	uint64_t op; /* enum op; ADD has a descriptor with it */
	uint64_t key;
};

enum {
	PATIENCE_S = 10,       /* a holder that does not take or answer a message for so long is given up */
	LOOK_MS = 200,         /* how often to look whether the tasks are alive */
	FIRST_ROOM = 4096,     /* bytes of the table of what is held; doubling */
};

/* ---- the holder's own process: forked from one with threads, so it allocates nothing by malloc ---- */

struct held {
	uint64_t key;
	int uffd;
};

struct hold {
	struct cl_log log;
	int channel, restore_fd;
	struct held *held;
	size_t nr, bytes; /* room */
};

static bool keep(struct hold *hold, uint64_t key, int uffd)
{
	if ((hold->nr + 1) * sizeof(*hold->held) > hold->bytes) {
		size_t bytes = hold->bytes ? hold->bytes * 2 : FIRST_ROOM;
		void *moved = hold->held ? mremap(hold->held, hold->bytes, bytes, MREMAP_MAYMOVE)
					 : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (moved == MAP_FAILED)
			return false;
		hold->held = moved;
		hold->bytes = bytes;
	}
	hold->held[hold->nr++] = (struct held){ .key = key, .uffd = uffd };
	return true;
}

static void let_go(struct hold *hold, size_t i)
{
	close(hold->held[i].uffd);
	hold->held[i] = hold->held[--hold->nr];
}

static void release(struct hold *hold, uint64_t key)
{
	size_t i = 0;

	while (i < hold->nr) {
		if (hold->held[i].key == key)
			let_go(hold, i);
		else
			i++;
	}
}

/* Do what the daemon says until the channel ends. True if it said good-bye. */
static bool obey(struct hold *hold)
{
	struct message message;
	long got;
	int uffd;

	while ((got = cl_fds_receive(hold->channel, &message, sizeof(message), 0, &uffd, 1)) > 0) {
		if (got != sizeof(message))
			continue;
		switch (message.op) {
		case ADD:
			if (uffd < 0 || !keep(hold, message.key, uffd))
				return false; /* the daemon sees the channel's end, and warns */
			break;
		case RELEASE:
			release(hold, message.key);
			break;
		case RESTORED:
			close(hold->restore_fd);
			hold->restore_fd = -1;
			break;
		case END:
			return true;
		}
	}
	return false;
}

/*
 * The daemon died before it heard that the restore is finished. Take from its connection what nobody read: true if it
 * is finished. Else the restore can't finish any more.
 */
static bool was_restored(struct hold *hold)
{
	uint32_t last = 0;
	uint8_t byte;
	int uffd;

	shutdown(hold->restore_fd, SHUT_RDWR);
	while (cl_fds_receive(hold->restore_fd, &byte, 1, 0, &uffd, 1) > 0) {
		last = last >> 8 | (uint32_t)byte << 24;
		if (uffd >= 0)
			(void)keep(hold, UINT64_MAX, uffd);
	}
	close(hold->restore_fd);
	hold->restore_fd = -1;
	return last == CL_RESTORE_FINISHED;
}

/* Until all the tasks are gone. */
static void wait_for_the_tasks(struct hold *hold)
{
	size_t i;

	while (hold->nr) {
		for (i = 0; i < hold->nr;) {
			if (cl_uffd_is_alive(hold->held[i].uffd))
				i++;
			else
				let_go(hold, i);
		}
		(void)poll(NULL, 0, LOOK_MS);
	}
}

static void hold_on(struct hold *hold)
{
	if (obey(hold) || (hold->restore_fd >= 0 && !was_restored(hold)) || !hold->nr)
		return;
	cl_log(&hold->log, CL_LOG_ERROR,
	       "the daemon was killed with pages missing: %zu restored address space%s wait%s where they are touched "
	       "(held by process %d)",
	       hold->nr, hold->nr == 1 ? "" : "s", hold->nr == 1 ? "s" : "", (int)getpid());
	/* Whoever reads the log, should it be a pipe, sees its end. */
	close(hold->log.fd);
	close(hold->channel);
	wait_for_the_tasks(hold);
}

/* Where it may not be done, the holder is as likely a victim as others of its size. */
static void ask_to_be_spared(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	(void)!write(fd, "-1000", 5);
	close(fd);
}

static void become_holder(struct hold *hold)
{
	const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGQUIT, SIGUSR1, SIGUSR2 };
	const int kept[] = { hold->channel, hold->restore_fd, hold->log.fd };
	struct rlimit files;
	size_t i;

	setsid();
	for (i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		signal(ignored[i], SIG_IGN);
	prctl(PR_SET_NAME, "criu-lazy-hold");
	cl_fds_close_all_but(kept, sizeof(kept) / sizeof(kept[0]));
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
	(void)!chdir("/");
	ask_to_be_spared();
}

/* ---- the engine's side ---- */

int cl_holder_start(struct cl_holder *holder, const struct cl_log *log, int restore_fd)
{
	struct timeval patience = { .tv_sec = PATIENCE_S };
	int pair[2], error;

	*holder = (struct cl_holder){ .channel = -1, .log = log };
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	(void)setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	(void)setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	holder->pid = fork();
	if (holder->pid == 0) {
		struct hold hold = { .log = *log, .channel = pair[1], .restore_fd = restore_fd };

		become_holder(&hold);
		hold_on(&hold);
		_exit(0);
	}
	error = errno;
	close(pair[1]);
	if (holder->pid < 0) {
		close(pair[0]);
		return -error;
	}
	holder->channel = pair[0];
	return 0;
}

/* Whatever state the process is in, it is gone afterwards, and so is what it held. */
static void end_process(struct cl_holder *holder)
{
	close(holder->channel);
	holder->channel = -1;
	kill(holder->pid, SIGKILL);
	while (waitpid(holder->pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static void tell(struct cl_holder *holder, enum op op, uint64_t key, int uffd)
{
	struct message message = { .op = op, .key = key };
	int ret;

	if (holder->channel < 0)
		return;
	ret = cl_fds_send(holder->channel, &message, sizeof(message), &uffd, uffd >= 0);
	if (ret == 0)
		return;
	cl_log(holder->log, CL_LOG_WARN, "the process that guards the tasks is lost (%s): should this one be killed, they "
	       "read zeroes where pages are missing", strerror(-ret));
	end_process(holder);
}

void cl_holder_add(struct cl_holder *holder, uint64_t key, int uffd)
{
	tell(holder, ADD, key, uffd);
}

void cl_holder_release(struct cl_holder *holder, uint64_t key)
{
	tell(holder, RELEASE, key, -1);
}

void cl_holder_restored(struct cl_holder *holder)
{
	tell(holder, RESTORED, 0, -1);
}

void cl_holder_end(struct cl_holder *holder)
{
	uint8_t byte;

	tell(holder, END, 0, -1);
	if (holder->channel < 0)
		return;
	(void)cl_fds_receive(holder->channel, &byte, 1, 0, NULL, 0); /* the end of file, when it has closed all */
	end_process(holder);
}
