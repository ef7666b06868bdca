/* SPDX-License-Identifier: Apache-2.0 */
/*
 * push_in_flight: which pages of those lately given to one background stream have left its socket. What TCP has
 * sent once comes no later than an answer that would be sent now: on the link one goes after the other.
 *
 * Where it can't be known (no TCP, an old kernel, something was lost on the way and is to be sent again) nothing has left.
 * No lock: its owner's, over all calls.
 */
#ifndef CL_PUSH_IN_FLIGHT_H
#define CL_PUSH_IN_FLIGHT_H

#include <stdbool.h>
#include <stdint.h>

enum { CL_PUSH_IN_FLIGHT_BATCHES = 64 };

struct cl_push_in_flight {
	struct cl_push_in_flight_batch {
		const void *task;
		uint64_t first, nr_pages; /* indices; 0 pages: none */
		uint64_t begin, end;      /* bytes written to the socket before it, and with it; end 0: not known yet */
		bool packed;              /* none of its pages is there before all are */
	} batches[CL_PUSH_IN_FLIGHT_BATCHES];
	unsigned int next;
};

/* Bytes that were written to the socket; 0 if that can't be known. */
uint64_t cl_push_in_flight_written(int fd);

/* These pages are about to be written to a socket to which `written` bytes were. */
void cl_push_in_flight_begin(struct cl_push_in_flight *sent, const void *task, uint64_t first, uint64_t nr_pages,
			     uint64_t written, bool packed);

/* All of them are, it is `written` bytes now. */
void cl_push_in_flight_end(struct cl_push_in_flight *sent, uint64_t written);

/* Whether this page has left the socket fd, which may be waited for as long as somebody is writing into it just now. */
bool cl_push_in_flight_has_left(const struct cl_push_in_flight *sent, int fd, const void *task, uint64_t index);

#endif
