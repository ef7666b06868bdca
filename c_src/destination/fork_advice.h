/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork_advice: what a fork of a process makes of its memory, by /proc: which mappings a child has zeroes in
 * (MADV_WIPEONFORK), and which it doesn't get (MADV_DONTFORK).
 */
#ifndef CL_FORK_ADVICE_H
#define CL_FORK_ADVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct cl_fork_range {
	uint64_t start, end;
	bool left_out; /* the child doesn't get it; else it is wiped */
};

struct cl_fork_advice {
	bool known;
	struct cl_fork_range *ranges;
	size_t nr, max;
};

/*
 * What holds now, in place of what `advice` says. It takes the kernel about 12 ms for each GiB that the process has in
 * memory. 0 or -errno; then it isn't known.
 */
int cl_fork_advice_read(struct cl_fork_advice *advice, pid_t process);

/* A copy; to must be empty. 0 or -ENOMEM: then it isn't known. */
int cl_fork_advice_copy(struct cl_fork_advice *to, const struct cl_fork_advice *from);

/* It isn't known (any more). */
void cl_fork_advice_forget(struct cl_fork_advice *advice);

/* Whether the thread waits in a system call that may make a child. False if that can't be told, as of one that runs. */
bool cl_thread_is_forking(pid_t thread);

/* Whether a thread of the process is in a system call that may make a child. False if that can't be told. */
bool cl_process_is_forking(pid_t process);

/* The one process that descends from `process`, with no execve since, and is in such a call; 0: none, or more than one. */
pid_t cl_process_forking_below(pid_t process);

/* Where in [start, end) the process's first mapping starts that is locked (mlock); `end` if there is none. */
uint64_t cl_process_locked_from(pid_t process, uint64_t start, uint64_t end);

/*
 * Whether the process has memory in [start, end) that is registered with a userfaultfd; true if it has none at all there,
 * or that can't be told. It takes as long as cl_fork_advice_read().
 */
bool cl_process_has_registered(pid_t process, uint64_t start, uint64_t end);

/* The process that `process` descends from, with no execve since, itself included, which is one of these; 0: none. */
pid_t cl_process_ancestor(pid_t process, bool (*is_one)(const void *context, pid_t process), const void *context);

#endif
