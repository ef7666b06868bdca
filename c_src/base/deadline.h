/* SPDX-License-Identifier: Apache-2.0 */
/* deadline: moments, as microseconds of CLOCK_MONOTONIC. Where a deadline is taken, 0 is none: for ever. */
#ifndef CL_DEADLINE_H
#define CL_DEADLINE_H

#include <poll.h>
#include <stdint.h>
#include <time.h>

uint64_t cl_now_us(void);

/* For pthread_cond_timedwait(3) on a condition of cl_cond_init() (thread.h). Not 0. */
struct timespec cl_deadline_timespec(uint64_t deadline_us);

/* For poll(2): milliseconds until then, rounded up so that poll doesn't end before; 0 once it has passed, -1 without one. */
int cl_deadline_poll_ms(uint64_t deadline_us);

/* As poll(2) until then; goes on after a signal. The number of ready ones, 0 when the deadline has passed, -errno. */
int cl_deadline_poll(struct pollfd *fds, nfds_t nr_fds, uint64_t deadline_us);

#endif
