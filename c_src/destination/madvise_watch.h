/* SPDX-License-Identifier: Apache-2.0 */
/*
 * madvise_watch: the calls of madvise(2) of which the kernel sends no userfaultfd event, though they change what missing
 * memory must be: guard regions, which leave zeroes when they are taken off (MADV_GUARD_INSTALL, _REMOVE), and what a fork wipes or
 * leaves out (MADV_WIPEONFORK, MADV_DONTFORK, and back).
 *
 * Seen by the kernel's tracepoint at the entry of that system call, of all processes of this host: a call is known before
 * it changes anything, so whoever looks when a page of that memory is asked for knows of all calls that came first. It
 * takes CAP_PERFMON and tracefs (which is not mounted anywhere for this). Not seen: process_madvise(2), io_uring.
 *
 * No locks: one caller at a time.
 */
#ifndef CL_MADVISE_WATCH_H
#define CL_MADVISE_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum cl_madvise_kind { CL_FOR_FORKS, CL_GUARDS, CL_NO_GUARDS /* these are taken off */ };

struct cl_madvise_call {
	pid_t process, thread; /* in our pid namespace; 0: it is in none of ours */
	enum cl_madvise_kind kind;
	uint64_t start, end; /* whole pages */
};

struct cl_madvise_ring;

struct cl_madvise_watch {
	struct cl_madvise_ring *rings; /* one a CPU */
	unsigned int nr_rings;         /* 0: it isn't watched */
};

/* 0 or -errno: then nothing is watched. */
int cl_madvise_watch_start(struct cl_madvise_watch *watch);

/*
 * Have epoll_fd tell, with `tag`, when a lot has gathered: so much at a time may be taken, lest the rest is lost. 0 or
 * -errno.
 */
int cl_madvise_watch_poll(const struct cl_madvise_watch *watch, int epoll_fd, void *tag);

void cl_madvise_watch_stop(struct cl_madvise_watch *watch);

/* What was called up to now is to be taken; not what comes meanwhile, or whoever calls without end would never let us go. */
void cl_madvise_watch_begin(struct cl_madvise_watch *watch);

/* The next call of these; false: there is none (left). *lost: set if others were, as too many came at once. */
bool cl_madvise_watch_take(struct cl_madvise_watch *watch, struct cl_madvise_call *call, bool *lost);

#endif
