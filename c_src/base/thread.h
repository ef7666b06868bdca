/* SPDX-License-Identifier: Apache-2.0 */
/*
 * thread: starting threads, conditions that are waited for until a deadline, and threads that a task's threads wait for,
 * which run as soon as they wake.
 */
#ifndef CL_THREAD_H
#define CL_THREAD_H

#include <pthread.h>
#include <stdint.h>

/*
 * Signals are the business of the caller's threads: all are blocked in this one. name: at most 15 characters. 0 or -errno.
 */
int cl_thread_start(pthread_t *thread, const char *name, void *(*work)(void *), void *argument);

/* A condition whose deadlines are of CLOCK_MONOTONIC. */
void cl_cond_init(pthread_cond_t *condition);

/* Wait until a deadline (deadline.h). 0, or -ETIMEDOUT. */
int cl_cond_wait(pthread_cond_t *condition, pthread_mutex_t *lock, uint64_t deadline_us);

/*
 * The calling thread takes precedence over the task's. Where it may not, it stays as it is. A short time slice (Linux >=
 * 6.12; ignored before) lets a thread run at once when it wakes, also where the task's own threads keep every CPU busy; nice
 * alone only gives it more of the time.
 */
void cl_take_precedence(void);

/*
 * The calling thread, which works little, is one that threads of the task wait for: it runs whenever it wakes, by a
 * real-time policy, which no group of processes that has had its share of the CPUs holds up. Where it may not, the same as
 * cl_take_precedence(). What it starts doesn't inherit that.
 */
void cl_become_urgent(void);

/* The calling thread runs when nobody else wants the CPU. It takes no lock of ours then; the kernel's it may hold for long. */
void cl_give_way(void);

/* Back to what a thread is. */
void cl_become_ordinary(void);

#endif
