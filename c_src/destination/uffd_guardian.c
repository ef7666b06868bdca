/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/uffd_guardian.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd_passing.h"
#include "destination/uffd.h"
#include "wire/page_protocol.h"

enum op { ADD = 1, FOUND, RELEASE, RESTORED, END, LEDGER, HELD, ALL_HELD, TAKEN, LEAVE };

struct message {
	uint64_t op;  /* enum op; ADD, FOUND, LEDGER, HELD have a descriptor with them, TAKEN may have: the log's */
	uint64_t key; /* LEDGER: the heir's generation; TAKEN: the log's start */
};

enum {
	PATIENCE_S = 10,       /* a holder that does not take or answer a message for so long is given up */
	LOOK_MS = 200,         /* how often to look whether the tasks are alive */
	HEIRS = 4,
	FIRST_ROOM = 4096,     /* bytes of the table of what is held; doubling */
};

/* ---- the holder's own process: forked from one with threads, so it allocates nothing by malloc; so is the keeper ---- */

struct hold {
	struct cl_log log;
	int channel, restore_fd, ledger_fd, listener; /* -1: none */
	uint64_t generation;
	struct cl_held *held;
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
	hold->held[hold->nr++] = (struct cl_held){ .key = key, .uffd = uffd };
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

/* The keeper doesn't know what the engine had told of, nor under which key if it was inherited. */
static bool is_held(const struct hold *hold, uint64_t key, int uffd)
{
	long self = getpid();
	size_t i = 0;

	while (i < hold->nr && hold->held[i].key != key &&
	       syscall(SYS_kcmp, self, self, KCMP_FILE, hold->held[i].uffd, uffd) != 0)
		i++;
	return i < hold->nr;
}

/* Whoever reads the log, should it be a pipe, sees its end. */
static void close_log(struct hold *hold)
{
	if (hold->log.fd >= 0)
		close(hold->log.fd);
	hold->log.fd = -1;
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
				return true; /* it is no good any more: the daemon sees the channel's end, and warns */
			break;
		case FOUND:
			if (uffd >= 0 && (is_held(hold, message.key, uffd) || !keep(hold, message.key, uffd)))
				close(uffd);
			break;
		case RELEASE:
			release(hold, message.key);
			break;
		case RESTORED:
			close(hold->restore_fd);
			hold->restore_fd = -1;
			break;
		case TAKEN:
			close_log(hold);
			hold->log.fd = uffd;
			hold->log.start_us = message.key;
			break;
		case LEAVE:
			close_log(hold);
			return false;
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

/* A socket for heirs in the working directory, which is the daemon's; one left over is replaced. -1 if it can't be. */
static int listen_for_heirs(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = CL_GUARDIAN_SOCKET };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -1;
	umask(0177);
	(void)unlink(CL_GUARDIAN_SOCKET);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, HEIRS) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Nobody is listened to any more; the name is taken away unless another holder has taken it. */
static void stop_listening(struct hold *hold)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = CL_GUARDIAN_SOCKET };
	int fd;

	if (hold->listener < 0)
		return;
	close(hold->listener);
	hold->listener = -1;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 && errno == ECONNREFUSED)
		(void)unlink(CL_GUARDIAN_SOCKET);
	if (fd >= 0)
		close(fd);
}

/* Whether a socket's peer is root or our user. */
static bool is_ours(int socket_fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	return getsockopt(socket_fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
	       (peer.uid == 0 || peer.uid == geteuid());
}

static int send_message(int socket_fd, enum op op, uint64_t key, int fd)
{
	struct message message = { .op = op, .key = key };

	return cl_fds_send(socket_fd, &message, sizeof(message), &fd, fd >= 0);
}

/* Neither side waits for the other for ever. */
static void be_patient(int socket_fd)
{
	struct timeval patience = { .tv_sec = PATIENCE_S };

	(void)setsockopt(socket_fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
}

static bool hand_over(struct hold *hold, int heir)
{
	size_t i;
	int ret;

	if (!is_ours(heir))
		return false;
	be_patient(heir);
	ret = send_message(heir, LEDGER, ++hold->generation, hold->ledger_fd);
	for (i = 0; i < hold->nr && ret == 0; i++)
		ret = send_message(heir, HELD, hold->held[i].key, hold->held[i].uffd);
	return ret == 0 && send_message(heir, ALL_HELD, 0, -1) == 0;
}

static void look_after_the_tasks(struct hold *hold)
{
	size_t i = 0;

	while (i < hold->nr) {
		if (cl_uffd_is_alive(hold->held[i].uffd))
			i++;
		else
			let_go(hold, i);
	}
}

/* Until an heir has it all: true; or all the tasks are gone: false. */
static bool wait_for_an_heir(struct hold *hold)
{
	for (look_after_the_tasks(hold); hold->nr; look_after_the_tasks(hold)) {
		struct pollfd calls = { .events = POLLIN };
		int heir;

		if (hold->listener < 0)
			hold->listener = listen_for_heirs();
		calls.fd = hold->listener;
		if (poll(&calls, 1, LOOK_MS) <= 0)
			continue;
		heir = accept4(hold->listener, NULL, NULL, SOCK_CLOEXEC);
		if (heir < 0)
			continue;
		if (hand_over(hold, heir)) {
			hold->channel = heir;
			stop_listening(hold);
			return true;
		}
		close(heir);
	}
	stop_listening(hold);
	return false;
}

static void tell_of_the_death(struct hold *hold)
{
	if (hold->nr)
		cl_log(&hold->log, CL_LOG_ERROR,
		       "the daemon was killed with pages missing: %zu restored address space%s where they are touched, held "
		       "by process %d; criu-lazy lazy-pages --resume goes on",
		       hold->nr, hold->nr == 1 ? " waits" : "s wait", (int)getpid());
	else
		cl_log(&hold->log, CL_LOG_ERROR,
		       "the daemon was killed when no page was missing any more: the page server may not know that");
	close_log(hold);
}

static void hold_on(struct hold *hold)
{
	bool is_over = obey(hold) || (hold->restore_fd >= 0 && !was_restored(hold));

	while (!is_over) {
		close(hold->channel);
		tell_of_the_death(hold);
		is_over = !wait_for_an_heir(hold) || obey(hold);
	}
	while (hold->nr)
		let_go(hold, 0);
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

/* A child is to outlive what ends the daemon. */
static void stand_apart(const char *name)
{
	const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGQUIT, SIGUSR1, SIGUSR2 };
	size_t i;

	setsid();
	for (i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		signal(ignored[i], SIG_IGN);
	prctl(PR_SET_NAME, name);
	ask_to_be_spared();
}

static void become_holder(struct hold *hold)
{
	const int kept[] = { hold->channel, hold->restore_fd, hold->ledger_fd, hold->log.fd };
	struct rlimit files;

	stand_apart("criu-lazy-hold");
	cl_fds_close_all_but(kept, sizeof(kept) / sizeof(kept[0]));
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
}

/* ---- the keeper's process ---- */

static bool is_userfaultfd(int fd)
{
	static const char wanted[] = "anon_inode:[userfaultfd]";
	char path[32], target[sizeof(wanted)];

	if (fcntl(fd, F_GETFD) < 0)
		return false;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return readlink(path, target, sizeof(target)) == sizeof(wanted) - 1 &&
	       memcmp(target, wanted, sizeof(wanted) - 1) == 0;
}

/* One more than the highest descriptor. */
static int table_size(void)
{
	static const char label[] = "\nFDSize:";
	char status[4096] = { 0 }, *at;
	int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	(void)!read(fd, status, sizeof(status) - 1);
	close(fd);
	at = strstr(status, label);
	return at ? atoi(at + sizeof(label) - 1) : 0;
}

/* It has the engine's descriptors open for as long as it lives, which is until the engine is dead: so briefly then. */
static void keep_what_was_read(const struct cl_holder *holder, int engine_pidfd)
{
	struct pollfd death = { .fd = engine_pidfd, .events = POLLIN };
	int fd, end;

	stand_apart("criu-lazy-keep");
	while (poll(&death, 1, -1) < 0 && errno == EINTR)
		;
	end = table_size();
	for (fd = 0; fd < end; fd++)
		if (is_userfaultfd(fd))
			(void)send_message(holder->channel, FOUND, cl_holder_key(holder->generation, fd), fd);
}

/* ---- the engine's side ---- */

/*
 * From here on a userfaultfd that the kernel gives to this process is open in another from the same moment. No fork():
 * that would not share the descriptors.
 */
static void start_keeper(struct cl_holder *holder)
{
	int engine_pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);

	if (engine_pidfd >= 0)
		holder->keeper = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, 0UL);
	if (engine_pidfd >= 0 && holder->keeper == 0) {
		keep_what_was_read(holder, engine_pidfd);
		_exit(0);
	}
	if (holder->keeper < 0)
		cl_log(holder->log, CL_LOG_WARN, "should this process be killed while a task forks, the child may read zeroes "
		       "where pages are missing: %s", strerror(errno));
	/* Not closed: it is the keeper's too. */
	holder->engine_pidfd = engine_pidfd;
}

static void end_child(pid_t *pid)
{
	if (*pid < 0)
		return;
	kill(*pid, SIGKILL);
	while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
		;
	*pid = -1;
}

static void end_keeper(struct cl_holder *holder)
{
	end_child(&holder->keeper);
	if (holder->engine_pidfd >= 0)
		close(holder->engine_pidfd);
	holder->engine_pidfd = -1;
}

int cl_holder_start(struct cl_holder *holder, const struct cl_log *log, int restore_fd, int ledger_fd)
{
	int pair[2], error;

	*holder = CL_NO_HOLDER;
	holder->generation = 1;
	holder->log = log;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	holder->pid = fork();
	if (holder->pid == 0) {
		struct hold hold = { .log = *log,
				     .channel = pair[1],
				     .restore_fd = restore_fd,
				     .ledger_fd = ledger_fd,
				     .listener = -1,
				     .generation = 1 };

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
	be_patient(pair[0]);
	holder->channel = pair[0];
	start_keeper(holder);
	return 0;
}

int cl_holder_take_over(struct cl_holder *holder, const struct cl_log *log, int socket_fd, struct cl_held **held_out,
			size_t *nr_out, int *ledger_fd_out)
{
	struct timeval patience = { .tv_sec = PATIENCE_S };
	struct message message = { 0 };
	struct cl_held *held = NULL;
	size_t nr = 0;
	long got;
	int fd, ret = 0;

	*holder = CL_NO_HOLDER;
	holder->channel = socket_fd;
	holder->log = log;
	*ledger_fd_out = -1;
	be_patient(socket_fd);
	(void)setsockopt(socket_fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (!is_ours(socket_fd))
		ret = -EPERM;
	while (ret == 0 && message.op != ALL_HELD) {
		got = cl_fds_receive(socket_fd, &message, sizeof(message), 0, &fd, 1);
		if (got != sizeof(message) || (message.op == ALL_HELD) != (fd < 0)) {
			ret = got < 0 ? (int)got : -EPROTO;
			if (got >= 0 && fd >= 0)
				close(fd);
		} else if (message.op == LEDGER && *ledger_fd_out < 0) {
			*ledger_fd_out = fd;
			holder->generation = message.key;
		} else if (message.op == HELD) {
			struct cl_held *more = reallocarray(held, nr + 1, sizeof(*held));

			if (more) {
				held = more;
				held[nr++] = (struct cl_held){ .key = message.key, .uffd = fd };
			} else {
				close(fd);
				ret = -ENOMEM;
			}
		}
	}
	if (ret == 0 && *ledger_fd_out < 0)
		ret = -EPROTO;
	if (ret < 0) {
		while (nr)
			close(held[--nr].uffd);
		free(held);
		held = NULL;
		if (*ledger_fd_out >= 0)
			close(*ledger_fd_out);
		close(socket_fd);
		holder->channel = -1;
	}
	*held_out = held;
	*nr_out = nr;
	return ret;
}

/* Whatever state the processes are in, they are gone afterwards, and so is what they held; unless it is an inheritance. */
static void end_processes(struct cl_holder *holder)
{
	end_keeper(holder);
	close(holder->channel);
	holder->channel = -1;
	end_child(&holder->pid);
}

static void tell(struct cl_holder *holder, enum op op, uint64_t key, int fd)
{
	int ret;

	if (holder->channel < 0)
		return;
	ret = send_message(holder->channel, op, key, fd);
	if (ret == 0)
		return;
	cl_log(holder->log, CL_LOG_WARN, "the process that guards the tasks is lost (%s): should this one be killed, they "
	       "read zeroes where pages are missing", strerror(-ret));
	end_processes(holder);
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

void cl_holder_taken(struct cl_holder *holder)
{
	tell(holder, TAKEN, holder->log->start_us, holder->log->fd);
	if (holder->channel >= 0)
		start_keeper(holder);
}

void cl_holder_leave(struct cl_holder *holder)
{
	end_keeper(holder);
	tell(holder, LEAVE, 0, -1);
	if (holder->channel >= 0)
		close(holder->channel);
	holder->channel = -1;
}

void cl_holder_end(struct cl_holder *holder)
{
	struct pollfd end = { .fd = holder->channel, .events = POLLIN };

	end_keeper(holder);
	tell(holder, END, 0, -1);
	if (holder->channel < 0)
		return;
	/* The end of file, when it has closed all. */
	while (poll(&end, 1, PATIENCE_S * 1000) < 0 && errno == EINTR)
		;
	end_processes(holder);
}
