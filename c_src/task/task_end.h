/* SPDX-License-Identifier: Apache-2.0 */
/*
 * task_end: a process, known by a pidfd, and how it ended. No policy.
 *
 * How it ended is told by the pidfd once the process was waited for (Linux >= 6.15, PIDFD_GET_INFO), and by /proc while it
 * was not. Where neither does, it is unknown: never a guess.
 */
#ifndef CL_TASK_END_H
#define CL_TASK_END_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct cl_task {
	int pidfd;      /* -1: the process isn't known (any more) */
	pid_t pid;      /* 0: unknown */
	uint64_t began; /* its start time, as /proc tells it; with `pid` it names the process until the host reboots */
};

#define CL_NO_TASK ((struct cl_task){ .pidfd = -1 })

enum cl_end_how { CL_END_UNKNOWN, CL_END_EXIT, CL_END_SIGNAL };

struct cl_end {
	enum cl_end_how how;
	int code; /* the exit status, or the signal's number */
};

/* The process `pid`, which lives. Where it can't be found, task->pidfd is -1. */
void cl_task_open(struct cl_task *task, pid_t pid);

/*
 * The process that had this pid and start time. pidfd: its own, owned by the task from now on; or -1: then task->pidfd is
 * -1 if it isn't there any more.
 */
void cl_task_adopt(struct cl_task *task, int pidfd, pid_t pid, uint64_t began);

void cl_task_close(struct cl_task *task);

/* Whether all of its threads have ended. False if it isn't known. */
bool cl_task_has_ended(const struct cl_task *task);

/* Whether it has an address space: one that has none, and lives, is about to end. */
bool cl_task_has_memory(const struct cl_task *task);

/* How it ended; to be asked once it has. */
struct cl_end cl_task_how(const struct cl_task *task);

/* The two sources, for tests: false if this one doesn't know. */
bool cl_task_how_by_pidfd(const struct cl_task *task, struct cl_end *end);
bool cl_task_how_by_proc(const struct cl_task *task, struct cl_end *end);

/* "exit 3", "killed by SIGKILL" or "unknown". */
void cl_end_describe(struct cl_end end, char *text, size_t bytes);

#endif
