/* SPDX-License-Identifier: Apache-2.0 */
#include "base/thread.h"

#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/deadline.h"

enum {
	NICE = -10,
	SLICE_NS = 100000, /* the shortest there is */
};

/* struct sched_attr of the kernel, first version; glibc has it from 2.41 on. */
struct slice {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime_ns, deadline_ns, period_ns;
};

int cl_thread_start(pthread_t *thread, const char *name, void *(*work)(void *), void *argument)
{
	sigset_t all, before;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(thread, NULL, work, argument);
	if (!error)
		(void)pthread_setname_np(*thread, name);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -error;
}

void cl_cond_init(pthread_cond_t *condition)
{
	pthread_condattr_t attributes;

	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(condition, &attributes);
	pthread_condattr_destroy(&attributes);
}

int cl_cond_wait(pthread_cond_t *condition, pthread_mutex_t *lock, uint64_t deadline_us)
{
	const struct timespec deadline = cl_deadline_timespec(deadline_us);

	return deadline_us ? -pthread_cond_timedwait(condition, lock, &deadline) : -pthread_cond_wait(condition, lock);
}

void cl_take_precedence(void)
{
	const struct slice slice = { .size = sizeof(slice), .nice = NICE, .runtime_ns = SLICE_NS };

	(void)syscall(SYS_sched_setattr, 0, &slice, 0);
}

void cl_become_urgent(void)
{
	const struct sched_param lowest = { .sched_priority = 1 };

	if (sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &lowest) < 0)
		cl_take_precedence();
}

void cl_give_way(void)
{
	const struct sched_param none = { .sched_priority = 0 };

	(void)sched_setscheduler(0, SCHED_IDLE, &none);
}

void cl_become_ordinary(void)
{
	const struct sched_param none = { .sched_priority = 0 };

	(void)sched_setscheduler(0, SCHED_OTHER | SCHED_RESET_ON_FORK, &none);
}
