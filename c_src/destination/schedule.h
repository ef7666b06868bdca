/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schedule: what to fetch next. Demand faults first, in the order they came; then read-ahead, where the task is
 * expected to go (readahead.h); then the rest, the images in turn. The last two are background transfer.
 * Pure logic over the images' todo lists; under the engine's mutex.
 */
#ifndef CL_SCHEDULE_H
#define CL_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "destination/readahead.h"
#include "destination/address_space.h"

struct cl_demand {
	struct cl_image *image;
	uint64_t index;
	bool again; /* it may have come before, when nobody missed it */
};

struct cl_schedule {
	struct cl_image *images;           /* all that are served, a list */
	struct cl_image *turn[CL_SOURCES]; /* whose turn in the background it is */
	struct cl_readahead readahead[CL_SOURCES];
	uint64_t rate;                        /* bytes per second that the link carries; 0: not known */
	struct cl_demand *demand[CL_SOURCES]; /* rings */
	size_t max_demand[CL_SOURCES];        /* a power of two, or 0 */
	uint64_t demand_in[CL_SOURCES], demand_out[CL_SOURCES];
};

/* What to fetch: pages of one extent, taken off the todo list. */
struct cl_pick {
	struct cl_image *image;
	uint64_t index;
	uint64_t nr_pages;
	bool again; /* of a demand page: see struct cl_demand */
};

void cl_schedule_free(struct cl_schedule *schedule);

/*
 * A thread of the task waits for page `index`. Returns true if it has to be fetched, false if it was asked for
 * already; -ENOMEM.
 */
int cl_schedule_fault(struct cl_schedule *schedule, struct cl_image *image, uint64_t index);

/* The same fault again: its page had been asked for, and is todo again. 0 or -ENOMEM. */
int cl_schedule_fault_again(struct cl_schedule *schedule, struct cl_image *image, uint64_t index);

/* Whether there may be demand pages. */
static inline bool cl_schedule_has_demand(const struct cl_schedule *schedule, enum cl_source source)
{
	return schedule->demand_out[source] != schedule->demand_in[source];
}

/* The next demand page; false if there is none. */
bool cl_schedule_demand(struct cl_schedule *schedule, enum cl_source source, struct cl_pick *pick);

/* The next run of about max_pages at most for background transfer, read-ahead first; false if nothing is todo. */
bool cl_schedule_background(struct cl_schedule *schedule, enum cl_source source, uint64_t max_pages, struct cl_pick *pick);

#endif
