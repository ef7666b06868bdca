/* SPDX-License-Identifier: Apache-2.0 */
/*
 * taskmem: reads the memory of a task that `criu dump --lazy-pages` keeps frozen. It is there, whatever its protection,
 * and doesn't change, until the dump lets the task go or somebody kills it. (Of a task that runs, what is read may change
 * or go meanwhile; a page is then read as it was at some moment, or two halves of it as at two.)
 *
 * Fast by process_vm_readv(2); what that may not read (PROT_NONE) by /proc/PID/mem. The latter, opened once, also stands
 * for the address space itself: should the task be killed and its pid go to another one, its reads end, and ours fail.
 *
 * Any number of threads may read at once.
 */
#ifndef CL_TASKMEM_H
#define CL_TASKMEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct cl_taskmem {
	pid_t pid;     /* as we see it */
	int mem_fd;    /* /proc/PID/mem */
	int status_fd; /* /proc/PID/status, once a stop was noted; else -1 */
	uint64_t switches; /* its context switches as the stop was noted */
};

/* Of a task whose memory isn't open (yet). */
static inline struct cl_taskmem cl_taskmem_closed(pid_t pid)
{
	return (struct cl_taskmem){ .pid = pid, .mem_fd = -1, .status_fd = -1 };
}

/* 0 or -errno. */
int cl_taskmem_open(struct cl_taskmem *memory, pid_t pid);
void cl_taskmem_close(struct cl_taskmem *memory);

/*
 * As cl_taskmem_read(), by /proc/PID/mem alone: slower, but pages that a task shares with those it was forked with stay so.
 * process_vm_readv pins pages, for which the kernel gives the task copies of its own (since Linux 5.19).
 */
int cl_taskmem_read_shared(const struct cl_taskmem *memory, uint64_t address, uint8_t *out, size_t bytes);

/*
 * The task's tracer has gone, and a signal has stopped it: note that, before any other thread reads it again. 0; -EBUSY: it is
 * not stopped; or another -errno.
 */
int cl_taskmem_note_stop(struct cl_taskmem *memory);

/* Whether the task has executed nothing since its stop was noted. */
bool cl_taskmem_is_stopped(const struct cl_taskmem *memory);

/* Exactly `bytes` bytes from `address`. 0; -ESRCH if the task has gone; or another -errno: -EIO, nothing is there. */
int cl_taskmem_read(const struct cl_taskmem *memory, uint64_t address, uint8_t *out, size_t bytes);

#endif
