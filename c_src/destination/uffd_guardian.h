/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uffd_guardian: keeps the restored tasks waiting, not reading zeroes, when the daemon is killed.
 *
 * The kernel takes the end of the last descriptor of a userfaultfd for "no more pages will come": what is missing reads
 * as zeroes from then on. So a second, tiny process, the guardian (survivor.h), has every userfaultfd open too. The engine
 * tells it of each one that comes and of each that is not needed any more. When the engine's end of their channel closes
 * unannounced, the daemon was killed. Then the guardian
 *   - closes everything at once if the restore isn't finished: no task runs yet, and the restore must fail. (After
 *     shutting the restore's socket down it reads what is left there, and so learns whether that had just finished.)
 *   - else keeps the descriptors, says so in the daemon's log, and ends when no userfaultfd's memory is there any more.
 *     Meanwhile it listens on
 *     CL_GUARDIAN_SOCKET in the daemon's working directory, for root and its own user, and hands all that it has, and the
 *     resume state (resume_state.h), to a successor daemon, which goes on; and is the guardian of that one.
 * It has the restored tasks' pidfds too, so that a successor can tell how a task ended while no daemon was there.
 * A forked child's userfaultfd comes from the kernel, and the guardian knows it one system call later. For what lies
 * between, a third process shares the engine's table of descriptors: whatever userfaultfds are in there when the engine is
 * dead it gives to the guardian, and ends.
 *
 * All calls are the events thread's, or of the one thread before and after. If the guardian is lost, one warning says so,
 * and the engine goes on without.
 */
#ifndef CL_UFFD_GUARDIAN_H
#define CL_UFFD_GUARDIAN_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/log.h"
#include "criu_lazy.h"

struct cl_uffd_guardian {
	int channel;         /* -1: there is none, and the calls below do nothing */
	pid_t pid;           /* a child; -1: taken over, it is none */
	pid_t table_sharer;  /* a child; -1: none */
	int engine_pidfd;    /* the table sharer's; -1: none */
	uint64_t generation; /* of daemons: descriptors' numbers are the same in two of them */
	const struct cl_log *log;
};

/* A descriptor that a guardian has. */
struct cl_held {
	uint64_t key; /* a userfaultfd's as cl_uffd_guardian_key() makes it; a pidfd's is the pid */
	int fd;       /* -1 once somebody took it from here */
};

/* What a guardian hands over. To be freed by cl_handed_over_free(). */
struct cl_handed_over {
	struct cl_held *uffds, *tasks;
	size_t nr_uffds, nr_tasks;
	int state_fd; /* the resume state's; -1 once somebody took it */
};

#define CL_NOTHING_HANDED_OVER ((struct cl_handed_over){ .state_fd = -1 })

/* Take the descriptor with that key out of a table: it is the caller's. -1: there is none, or it was taken. */
int cl_held_take(struct cl_held *held, size_t nr, uint64_t key);

/* Close what nobody took. How many userfaultfds that were. */
size_t cl_handed_over_free(struct cl_handed_over *over);

#define CL_NO_UFFD_GUARDIAN ((struct cl_uffd_guardian){ .channel = -1, .pid = -1, .table_sharer = -1, .engine_pidfd = -1 })

/*
 * Start the process. restore_fd: what criu restore talks on; state_fd: to be handed over, or -1. 0 or -errno; then
 * guardian->channel is -1.
 */
int cl_uffd_guardian_start(struct cl_uffd_guardian *guardian, const struct cl_log *log, int restore_fd, int state_fd);

/*
 * Succeed a daemon that was killed: socket_fd is connected to its guardian, and owned by `guardian` from now on, on failure
 * too. *over_out is the caller's. Nothing is lost should it fail or the caller give up: the guardian waits for another
 * successor, until cl_uffd_guardian_taken(). 0; -EPERM if the guardian is another user's; -EPROTO if what is there is no
 * guardian, or its daemon can't be succeeded; or -errno.
 */
int cl_uffd_guardian_take_over(struct cl_uffd_guardian *guardian, const struct cl_log *log, int socket_fd,
			       struct cl_handed_over *over_out);

/* The successor has understood all: should it be killed, that is logged in its log. */
void cl_uffd_guardian_taken(struct cl_uffd_guardian *guardian);

/* The successor gives up, in good order: the guardian goes on waiting for another. */
void cl_uffd_guardian_leave(struct cl_uffd_guardian *guardian);

/* The key of a descriptor of the daemon of that generation. Never 0. */
static inline uint64_t cl_uffd_guardian_key(uint64_t generation, int uffd)
{
	return generation << 32 | (uint32_t)uffd;
}

/* A userfaultfd came; from now on it is known by `key`. */
void cl_uffd_guardian_add(struct cl_uffd_guardian *guardian, uint64_t key, int uffd);

/* A restored task's process; pidfd: open, and still the caller's. It is kept to the end. */
void cl_uffd_guardian_add_task(struct cl_uffd_guardian *guardian, pid_t pid, int pidfd);

/*
 * It isn't needed any more: the guardian closes it. Both that and the caller's own close come before the kernel lets the
 * memory go; whichever is second.
 */
void cl_uffd_guardian_release(struct cl_uffd_guardian *guardian, uint64_t key);

/* The restored tasks run. */
void cl_uffd_guardian_restored(struct cl_uffd_guardian *guardian);

/* Nothing is missing any more: the guardian closes what it has and ends; returns when it has. */
void cl_uffd_guardian_end(struct cl_uffd_guardian *guardian);

#endif
