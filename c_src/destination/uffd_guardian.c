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
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/deadline.h"
#include "base/fd_passing.h"
#include "base/survivor.h"
#include "base/vec.h"
#include "destination/uffd.h"
#include "wire/page_protocol.h"

enum op { ADD = 1, ADD_TASK, FOUND, RELEASE, RESTORED, END, STATE, HELD, HELD_TASK, ALL_HELD, TAKEN, LEAVE };

struct message {
	uint64_t op;  /* enum op; ADD*, FOUND, STATE, HELD* have a descriptor with them, TAKEN may have: the log's */
	uint64_t key; /* STATE: the successor's generation; TAKEN: the log's start */
};

enum {
	TASKS_CHECK_MS = 200,
	SUCCESSORS = 4,
	FIRST_ROOM = 4096, /* bytes of a table of what is held; doubling */
};

/* ---- the guardian's own process: forked from one with threads, so it allocates nothing by malloc ---- */

struct table {
	struct cl_held *at;
	size_t nr, bytes; /* room */
};

struct guardian {
	struct cl_log log;
	int channel, restore_fd, state_fd, listener; /* -1: none */
	uint64_t generation;
	struct table uffds, tasks;
};

static bool hold(struct table *table, uint64_t key, int fd)
{
	if ((table->nr + 1) * sizeof(*table->at) > table->bytes) {
		size_t bytes = table->bytes ? table->bytes * 2 : FIRST_ROOM;
		void *moved = table->at ? mremap(table->at, table->bytes, bytes, MREMAP_MAYMOVE) :
					  mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (moved == MAP_FAILED)
			return false;
		table->at = moved;
		table->bytes = bytes;
	}
	table->at[table->nr++] = (struct cl_held){ .key = key, .fd = fd };
	return true;
}

static void close_held(struct table *table, size_t i)
{
	close(table->at[i].fd);
	table->at[i] = table->at[--table->nr];
}

static void release(struct table *table, uint64_t key)
{
	size_t i = 0;

	while (i < table->nr) {
		if (table->at[i].key == key)
			close_held(table, i);
		else
			i++;
	}
}

/* Who found it doesn't know whether the engine had told of it, nor under which key if it comes from a predecessor. */
static bool is_held(const struct table *uffds, uint64_t key, int uffd)
{
	long self = getpid();
	size_t i = 0;

	while (i < uffds->nr && uffds->at[i].key != key &&
	       syscall(SYS_kcmp, self, self, KCMP_FILE, uffds->at[i].fd, uffd) != 0)
		i++;
	return i < uffds->nr;
}

/* Whoever reads the log, should it be a pipe, sees its end. */
static void close_log(struct guardian *g)
{
	if (g->log.fd >= 0)
		close(cl_steal_fd(&g->log.fd));
}

/* Do what the daemon says until the channel ends. True if that was announced (END). */
static bool serve(struct guardian *g)
{
	struct message message;
	long got;
	int fd;

	while ((got = cl_fds_receive(g->channel, &message, sizeof(message), 0, &fd, 1)) > 0) {
		if (got != sizeof(message))
			continue;
		switch (message.op) {
		case ADD:
		case ADD_TASK:
			if (fd < 0 || !hold(message.op == ADD ? &g->uffds : &g->tasks, message.key, fd))
				return true; /* it is no good any more: the daemon sees the channel's end, and warns */
			break;
		case FOUND:
			if (fd >= 0 && (is_held(&g->uffds, message.key, fd) || !hold(&g->uffds, message.key, fd)))
				close(fd);
			break;
		case RELEASE:
			release(&g->uffds, message.key);
			break;
		case RESTORED:
			close(cl_steal_fd(&g->restore_fd));
			break;
		case TAKEN:
			close_log(g);
			g->log.fd = fd;
			g->log.start_us = message.key;
			break;
		case LEAVE:
			close_log(g);
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
static bool was_restored(struct guardian *g)
{
	uint32_t last = 0;
	uint8_t byte;
	int uffd;

	shutdown(g->restore_fd, SHUT_RDWR);
	while (cl_fds_receive(g->restore_fd, &byte, 1, 0, &uffd, 1) > 0) {
		last = last >> 8 | (uint32_t)byte << 24;
		if (uffd >= 0)
			(void)hold(&g->uffds, UINT64_MAX, uffd);
	}
	close(cl_steal_fd(&g->restore_fd));
	return last == CL_RESTORE_FINISHED;
}

/* A socket for successors in the working directory, the daemon's; one left over is replaced. -1: it can't be made. */
static int listen_for_successors(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = CL_GUARDIAN_SOCKET };
	CL_CLEANUP_FD int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -1;
	umask(0177);
	(void)unlink(CL_GUARDIAN_SOCKET);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, SUCCESSORS) < 0)
		return -1;
	return cl_steal_fd(&fd);
}

/* Close the socket; its name is removed unless another guardian has taken it. */
static void stop_listening(struct guardian *g)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = CL_GUARDIAN_SOCKET };
	CL_CLEANUP_FD int fd = -1;

	if (g->listener < 0)
		return;
	close(cl_steal_fd(&g->listener));
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 && errno == ECONNREFUSED)
		(void)unlink(CL_GUARDIAN_SOCKET);
}

static int send_message(int socket_fd, enum op op, uint64_t key, int fd)
{
	struct message message = { .op = op, .key = key };

	return cl_fds_send(socket_fd, &message, sizeof(message), &fd, fd >= 0);
}

static int send_table(int successor, enum op op, const struct table *table)
{
	int ret = 0;
	size_t i;

	for (i = 0; i < table->nr && ret == 0; i++)
		ret = send_message(successor, op, table->at[i].key, table->at[i].fd);
	return ret;
}

static bool hand_over(struct guardian *g, int successor)
{
	return send_message(successor, STATE, ++g->generation, g->state_fd) == 0 &&
	       send_table(successor, HELD, &g->uffds) == 0 && send_table(successor, HELD_TASK, &g->tasks) == 0 &&
	       send_message(successor, ALL_HELD, 0, -1) == 0;
}

static void drop_what_is_gone(struct table *uffds)
{
	size_t i = 0;

	while (i < uffds->nr) {
		if (cl_uffd_is_alive(uffds->at[i].fd))
			i++;
		else
			close_held(uffds, i);
	}
}

/* Until a successor has it all: true; or the memory of all the tasks is gone: false. */
static bool await_successor(struct guardian *g)
{
	for (drop_what_is_gone(&g->uffds); g->uffds.nr; drop_what_is_gone(&g->uffds)) {
		struct pollfd calls = { .events = POLLIN };
		int successor;

		if (g->listener < 0)
			g->listener = listen_for_successors();
		calls.fd = g->listener;
		if (poll(&calls, 1, TASKS_CHECK_MS) <= 0)
			continue;
		successor = cl_survivor_accept(g->listener);
		if (successor < 0)
			continue;
		if (hand_over(g, successor)) {
			g->channel = successor;
			stop_listening(g);
			return true;
		}
		close(successor);
	}
	stop_listening(g);
	return false;
}

static void log_daemon_death(struct guardian *g)
{
	size_t nr = g->uffds.nr;

	if (nr)
		cl_log(&g->log, CL_LOG_ERROR,
		       "the daemon was killed with pages missing: %zu restored address space%s where they are touched, held "
		       "by process %d; criu-lazy lazy-pages --resume goes on",
		       nr, nr == 1 ? " waits" : "s wait", (int)getpid());
	else
		cl_log(&g->log, CL_LOG_ERROR,
		       "the daemon was killed when no page was missing any more: the page server may not know that");
	close_log(g);
}

static void run_guardian(struct guardian *g)
{
	bool is_over = serve(g) || (g->restore_fd >= 0 && !was_restored(g));

	while (!is_over) {
		close(g->channel);
		log_daemon_death(g);
		is_over = !await_successor(g) || serve(g);
	}
	while (g->uffds.nr)
		close_held(&g->uffds, 0);
}

/* ---- the process that shares the engine's table of descriptors ---- */

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
	CL_CLEANUP_FD int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	(void)!read(fd, status, sizeof(status) - 1);
	at = strstr(status, label);
	return at ? atoi(at + sizeof(label) - 1) : 0;
}

/* Its table stays open until it ends, so it ends soon after the engine. */
static void report_userfaultfds(const struct cl_uffd_guardian *guardian, int engine_pidfd)
{
	struct pollfd death = { .fd = engine_pidfd, .events = POLLIN };
	int fd, end;

	(void)cl_survivor_detach("criu-lazy-table");
	(void)cl_deadline_poll(&death, 1, 0);
	end = table_size();
	for (fd = 0; fd < end; fd++)
		if (is_userfaultfd(fd))
			(void)send_message(guardian->channel, FOUND, cl_uffd_guardian_key(guardian->generation, fd), fd);
}

/* ---- the engine's side ---- */

/*
 * From here on a userfaultfd that the kernel gives to this process is open in another from the same moment. No fork():
 * that would not share the descriptors.
 */
static void start_table_sharer(struct cl_uffd_guardian *guardian)
{
	int engine_pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);

	if (engine_pidfd >= 0)
		guardian->table_sharer = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, 0UL);
	if (engine_pidfd >= 0 && guardian->table_sharer == 0) {
		report_userfaultfds(guardian, engine_pidfd);
		_exit(0);
	}
	if (guardian->table_sharer < 0)
		cl_log(guardian->log, CL_LOG_WARN,
		       "should this process be killed while a task forks, the child may read zeroes "
		       "where pages are missing: %s",
		       strerror(errno));
	/* Not closed: it is the other process's too. */
	guardian->engine_pidfd = engine_pidfd;
}

static void end_table_sharer(struct cl_uffd_guardian *guardian)
{
	cl_survivor_kill(&guardian->table_sharer);
	if (guardian->engine_pidfd >= 0)
		close(cl_steal_fd(&guardian->engine_pidfd));
}

int cl_uffd_guardian_start(struct cl_uffd_guardian *guardian, const struct cl_log *log, int restore_fd, int state_fd)
{
	const int kept[] = { restore_fd, state_fd, log->fd };
	struct guardian g = { .log = *log, .restore_fd = restore_fd, .state_fd = state_fd, .listener = -1, .generation = 1 };
	struct cl_survivor survivor;
	struct rlimit files;
	int ret;

	*guardian = CL_NO_UFFD_GUARDIAN;
	guardian->generation = 1;
	guardian->log = log;
	ret = cl_survivor_fork(&survivor, "criu-lazy-guard", SOCK_SEQPACKET, kept, sizeof(kept) / sizeof(kept[0]));
	if (ret < 0)
		return ret;
	if (survivor.pid == 0) {
		if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
			files.rlim_cur = files.rlim_max;
			(void)setrlimit(RLIMIT_NOFILE, &files);
		}
		g.channel = survivor.channel;
		run_guardian(&g);
		_exit(0);
	}
	guardian->pid = survivor.pid;
	guardian->channel = survivor.channel;
	cl_survivor_set_send_timeout(guardian->channel);
	start_table_sharer(guardian);
	return 0;
}

int cl_held_take(struct cl_held *held, size_t nr, uint64_t key)
{
	size_t i;

	for (i = 0; i < nr; i++)
		if (held[i].key == key && held[i].fd >= 0)
			return cl_steal_fd(&held[i].fd);
	return -1;
}

static size_t close_all(struct cl_held **held, size_t nr)
{
	size_t closed = 0;

	while (nr--) {
		if ((*held)[nr].fd >= 0) {
			close((*held)[nr].fd);
			closed++;
		}
	}
	free(cl_steal(held));
	return closed;
}

size_t cl_handed_over_free(struct cl_handed_over *over)
{
	size_t uffds = close_all(&over->uffds, over->nr_uffds);

	(void)close_all(&over->tasks, over->nr_tasks);
	if (over->state_fd >= 0)
		close(over->state_fd);
	*over = CL_NOTHING_HANDED_OVER;
	return uffds;
}

/* Append to a table, which the limit on open files bounds; *fd is the table's from then on. 0 or -ENOMEM. */
static int keep(struct cl_held **held, size_t *nr, size_t *max, uint64_t key, int *fd)
{
	if (cl_vec_reserve(held, max, *nr + 1, CL_VEC_NO_LIMIT) < 0)
		return -ENOMEM;
	(*held)[(*nr)++] = (struct cl_held){ .key = key, .fd = cl_steal_fd(fd) };
	return 0;
}

/* Receive what a guardian hands over. 0 or -errno; what came is the caller's even then. */
static int receive_all(struct cl_uffd_guardian *guardian, struct cl_handed_over *over)
{
	struct message message = { 0 };
	size_t max_uffds = 0, max_tasks = 0;
	int ret = 0;

	while (message.op != ALL_HELD) {
		CL_CLEANUP_FD int fd = -1;
		long got = cl_fds_receive(guardian->channel, &message, sizeof(message), 0, &fd, 1);

		if (got != sizeof(message) || (message.op == ALL_HELD) != (fd < 0))
			return got < 0 ? (int)got : -EPROTO;
		if (message.op == STATE && over->state_fd < 0) {
			over->state_fd = cl_steal_fd(&fd);
			guardian->generation = message.key;
		} else if (message.op == HELD) {
			ret = keep(&over->uffds, &over->nr_uffds, &max_uffds, message.key, &fd);
		} else if (message.op == HELD_TASK) {
			ret = keep(&over->tasks, &over->nr_tasks, &max_tasks, message.key, &fd);
		}
		if (ret < 0)
			return ret;
	}
	return over->state_fd < 0 ? -EPROTO : 0;
}

int cl_uffd_guardian_take_over(struct cl_uffd_guardian *guardian, const struct cl_log *log, int socket_fd,
			       struct cl_handed_over *over_out)
{
	const struct timeval timeout = { .tv_sec = CL_SURVIVOR_TIMEOUT_S };
	int ret = -EPERM;

	*guardian = CL_NO_UFFD_GUARDIAN;
	guardian->channel = socket_fd;
	guardian->log = log;
	*over_out = CL_NOTHING_HANDED_OVER;
	cl_survivor_set_send_timeout(socket_fd);
	(void)setsockopt(socket_fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	if (cl_survivor_trusts(socket_fd))
		ret = receive_all(guardian, over_out);
	if (ret == 0)
		return 0;
	(void)cl_handed_over_free(over_out);
	close(cl_steal_fd(&guardian->channel));
	return ret;
}

/*
 * Whatever state the processes are in, they are gone afterwards, and so is what they held; a predecessor's guardian isn't.
 */
static void end_processes(struct cl_uffd_guardian *guardian)
{
	end_table_sharer(guardian);
	close(cl_steal_fd(&guardian->channel));
	cl_survivor_kill(&guardian->pid);
}

static void tell(struct cl_uffd_guardian *guardian, enum op op, uint64_t key, int fd)
{
	int ret;

	if (guardian->channel < 0)
		return;
	ret = send_message(guardian->channel, op, key, fd);
	if (ret == 0)
		return;
	cl_log(guardian->log, CL_LOG_WARN,
	       "the process that guards the tasks is lost (%s): should this one be killed, they "
	       "read zeroes where pages are missing",
	       strerror(-ret));
	end_processes(guardian);
}

void cl_uffd_guardian_add(struct cl_uffd_guardian *guardian, uint64_t key, int uffd)
{
	tell(guardian, ADD, key, uffd);
}

void cl_uffd_guardian_add_task(struct cl_uffd_guardian *guardian, pid_t pid, int pidfd)
{
	tell(guardian, ADD_TASK, (uint64_t)pid, pidfd);
}

void cl_uffd_guardian_release(struct cl_uffd_guardian *guardian, uint64_t key)
{
	tell(guardian, RELEASE, key, -1);
}

void cl_uffd_guardian_restored(struct cl_uffd_guardian *guardian)
{
	tell(guardian, RESTORED, 0, -1);
}

void cl_uffd_guardian_taken(struct cl_uffd_guardian *guardian)
{
	tell(guardian, TAKEN, guardian->log->start_us, guardian->log->fd);
	if (guardian->channel >= 0)
		start_table_sharer(guardian);
}

void cl_uffd_guardian_leave(struct cl_uffd_guardian *guardian)
{
	end_table_sharer(guardian);
	tell(guardian, LEAVE, 0, -1);
	if (guardian->channel >= 0)
		close(cl_steal_fd(&guardian->channel));
}

void cl_uffd_guardian_end(struct cl_uffd_guardian *guardian)
{
	struct pollfd end = { .fd = guardian->channel, .events = POLLIN };

	end_table_sharer(guardian);
	tell(guardian, END, 0, -1);
	if (guardian->channel < 0)
		return;
	/* The end of file, when it has closed all. */
	(void)cl_deadline_poll(&end, 1, cl_now_us() + CL_SURVIVOR_TIMEOUT_S * 1000000ULL);
	end_processes(guardian);
}
