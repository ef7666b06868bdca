/* SPDX-License-Identifier: Apache-2.0 */
/*
 * task_memory: reads the memory of a task that `criu dump --lazy-pages` keeps frozen. It is there, whatever its protection,
 * and doesn't change, until the dump lets the task go or somebody kills it. (Of a task that runs, what is read may change
 * or go meanwhile; a page is then read as it was at some moment, or two halves of it as at two.)
 *
 * Fast by process_vm_readv(2); what that may not read (PROT_NONE) by /proc/PID/mem. The latter, opened once, also stands
 * for the address space itself: should the task be killed and its pid go to another one, its reads end, and ours fail.
 *
 * Any number of threads may read at once.
 */
#ifndef CL_TASK_MEMORY_H
#define CL_TASK_MEMORY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct cl_task_memory {
	pid_t pid;         /* as we see it */
	int mem_fd;        /* /proc/PID/mem */
	int status_fd;     /* /proc/PID/status, once a stop was noted; else -1 */
	uint64_t switches; /* its context switches as the stop was noted */
};

/* Of a task whose memory isn't open (yet). */
static inline struct cl_task_memory cl_task_memory_closed(pid_t pid)
{
	return (struct cl_task_memory){ .pid = pid, .mem_fd = -1, .status_fd = -1 };
}

/* 0 or -errno. */
int cl_task_memory_open(struct cl_task_memory *memory, pid_t pid);
void cl_task_memory_close(struct cl_task_memory *memory);

/*
 * As cl_task_memory_read(), by /proc/PID/mem alone: slower, but pages that a task shares with those it was forked with
 * stay so. process_vm_readv pins pages, for which the kernel gives the task copies of its own (since Linux 5.19).
 */
int cl_task_memory_read_shared(const struct cl_task_memory *memory, uint64_t address, uint8_t *out, size_t bytes);

/*
 * The task's tracer has gone, and a signal has stopped it: note that, before any other thread reads it again. Waits, for a
 * second at most, until it is off the CPU. 0; -EBUSY: it is not stopped; -ESRCH: it was killed; or another -errno.
 */
int cl_task_memory_note_stop(struct cl_task_memory *memory);

/* 0: the task has executed nothing since its stop was noted; -EBUSY: it has; -ESRCH: it was killed; or another -errno. */
int cl_task_memory_check_stop(const struct cl_task_memory *memory);

/* Exactly `bytes` bytes from `address`. 0; -ESRCH if the task has gone; or another -errno: -EIO, nothing is there. */
int cl_task_memory_read(const struct cl_task_memory *memory, uint64_t address, uint8_t *out, size_t bytes);

#endif
