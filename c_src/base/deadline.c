/* SPDX-License-Identifier: Apache-2.0 */
#include "base/deadline.h"

#include <errno.h>
#include <limits.h>

enum { US_PER_S = 1000000 };

uint64_t cl_now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * US_PER_S + (uint64_t)now.tv_nsec / 1000;
}

struct timespec cl_deadline_timespec(uint64_t deadline_us)
{
	return (struct timespec){
		.tv_sec = (time_t)(deadline_us / US_PER_S),
		.tv_nsec = (long)(deadline_us % US_PER_S) * 1000,
	};
}

int cl_deadline_poll_ms(uint64_t deadline_us)
{
	uint64_t now_us = cl_now_us(), ms;

	if (!deadline_us)
		return -1;
	if (deadline_us <= now_us)
		return 0;
	ms = (deadline_us - now_us + 999) / 1000;
	return ms < INT_MAX ? (int)ms : INT_MAX;
}

int cl_deadline_poll(struct pollfd *fds, nfds_t nr_fds, uint64_t deadline_us)
{
	int ready;

	do
		ready = poll(fds, nr_fds, cl_deadline_poll_ms(deadline_us));
	while (ready < 0 && errno == EINTR);
	return ready < 0 ? -errno : ready;
}
