/* SPDX-License-Identifier: Apache-2.0 */
/*
 * readahead: where the task goes next, recognised from where it faulted. Only an order of background transfer:
 * every missing page is fetched in the end, once, and the link never idles for a guess.
 *
 * A *stream* is a place in memory where a thread is taken to work, and where it goes from there. Faults say nothing of
 * threads, so streams are told apart by place. A fault away from all others starts a *lone* stream, whose direction is
 * not known. Further faults within its reach (some pages on both sides) make it go up, down, or around (both ways, a
 * cluster), as they do, and by steps if all of them are a multiple apart. Wide steps are found as arithmetic
 * progressions among the latest lone faults; a round of steps that is over is followed by one a page further.
 *
 * Every fault in a stream, on its head or on a page that is on its way, says that the task catches up: its window
 * doubles, and it gets that much credit: so many pages may be fetched for it before anything else in the background,
 * though not more than it has gone already. Of several streams with credit the one goes first that is the least ahead of
 * its last fault. A stream whose pages come in time causes no more faults, and gets no more credit. Where the last fault
 * was, background goes on without credit.
 *
 * Pure logic, bounded memory, no clock; under the engine's mutex. Pages are indices of an image (address_space.h).
 */
#ifndef CL_READAHEAD_H
#define CL_READAHEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "destination/address_space.h"

#define CL_STREAMS 32
#define CL_LONE_FAULTS 32

struct cl_stream {
	struct cl_image *image;  /* NULL: free */
	int64_t stride;          /* pages; > 1 or < -1: by steps; 1: every page, by trend */
	int64_t start;           /* the first fault; by steps: where the round began */
	int64_t rounds;          /* by steps: over */
	int64_t last;            /* the last fault */
	int64_t head, low;       /* the next page above, and below, to be asked for */
	int trend;               /* of the faults: > 0 up, < 0 down, 0 around */
	int64_t step;            /* greatest common divisor of the distances between its faults */
	unsigned int hits;       /* faults after the first; 0: lone */
	uint64_t window, credit; /* pages */
	uint64_t ahead;          /* pages asked for since its last fault */
	uint64_t used;           /* fault number */
	bool below;              /* around: the last request was on the lower side */
};

struct cl_readahead {
	struct cl_stream streams[CL_STREAMS];
	struct cl_stream *latest; /* the last fault's */
	unsigned int singles;     /* requests of single pages in a row */
	uint64_t rate;            /* bytes per second: the best of late */
	uint64_t page_ns;         /* what a page takes on the link; 0: not known, nothing */
	uint64_t extra_ns;        /* that a request costs above what is expected */
	uint64_t faults;
	struct {
		struct cl_image *image;
		int64_t index;
	} lone[CL_LONE_FAULTS];
	uint64_t nr_lone;
};

/* A run of todo pages of one extent to ask for. */
struct cl_guess {
	struct cl_image *image;
	uint64_t index;
	uint64_t nr_pages;
};

/* A thread of the task waits for page `index`, whether it is asked for already or not. */
void cl_readahead_fault(struct cl_readahead *readahead, struct cl_image *image, uint64_t index);

/* So many bytes per second came while all was wanted that the link carries: tells what requests cost. */
void cl_readahead_delivered(struct cl_readahead *readahead, uint64_t rate);

/*
 * The next at most *max_pages (1 or more) of `source` that the task is expected to need, taken off the todo list.
 * False if there is nothing to guess, or if requests of single pages alone would not fill a link of `rate` bytes per
 * second (0: not known yet, fast): then the caller asks for a run of *max_pages, which may have been raised, elsewhere.
 */
bool cl_readahead_next(struct cl_readahead *readahead, enum cl_source source, uint64_t rate, uint64_t *max_pages,
		       struct cl_guess *guess);

#endif
