/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/flow.h"

#include <string.h>

enum {
	START_WINDOW = 256 << 10,
	START_PUSHED = 128 << 10,
	MIN_WINDOW = 64 << 10,
	MIN_REQUEST = 24 << 10,
	REQUEST_US = 400, /* what a small request takes at the least, up to GOOD_REQUEST: each costs both ends */
	GOOD_REQUEST = 48 << 10,
	MAX_REQUEST = 4 << 20,
	INTERVAL_US = 50000, /* long enough that the burst after a lost time slice doesn't pass for speed */
	START_INTERVAL_US = 2000,
	START_US = 80000,      /* at the least: one pause of the scheduler is not the link's limit */
	QUEUE_US = 240,        /* a demand fault's added wait, while the task faults */
	PUSHED_QUEUE_US = 100, /* the same: a demand page has a connection and a thread of its own */
	BUSY_RATE = 2000000,   /* bytes per second that make it a microsecond more */
	MORE_QUEUE_US = 120,   /* at the first of several samples that are short */
	MAX_MORE_QUEUE_US = 3000,
	IDLE_QUEUE_US = 5000, /* nobody waits: ride out the scheduler */
	OFTEN = 32,           /* samples: the next short one within so many is no single pause */
	EPOCH_US = 1500000,
	FAULTING_FOR_US = 50000, /* after a fault the next one is expected for so long */
	ANSWER_US = 250,         /* a source's time to answer, with what its host and this one need to wake up */
	PROBE_US = 5000000,      /* between probes of a path whose length is known */
	RAISE_US = 1000000,      /* between tries of a larger window */
	RAISE_INTERVALS = 2,
	LONG_US = 2000,   /* a round trip; of a shorter one the queue is most of the window anyway */
	PROBES_APART = 4, /* round trips from one probe's begin to the next one's, while paths turn out shorter */
};

void cl_flow_init(struct cl_flow *flow, uint64_t max_window, uint64_t now_us)
{
	memset(flow, 0, sizeof(*flow));
	flow->max_window = max_window < MIN_WINDOW ? MIN_WINDOW : max_window;
	flow->starting = true;
	flow->since_short = OFTEN;
	flow->interval_start_us = now_us;
	flow->epoch_start_us = now_us;
}

static void choose_round_trip(struct cl_flow *flow)
{
	flow->min_rtt_us = flow->path_us > flow->tcp_rtt_us + ANSWER_US ? flow->path_us : flow->tcp_rtt_us;
}

void cl_flow_round_trip(struct cl_flow *flow, uint64_t tcp_rtt_us)
{
	flow->tcp_rtt_us = tcp_rtt_us;
	choose_round_trip(flow);
}

void cl_flow_asked(struct cl_flow *flow, uint64_t bytes, uint64_t now_us)
{
	/* The first: with nothing ahead of it. Any later one may be delayed by what is ahead; it can only show less. */
	if (!flow->mark_us && (flow->path_us || !flow->in_flight)) {
		flow->mark_us = now_us;
		flow->mark_ahead = flow->in_flight;
		flow->mark_probes = flow->probing && flow->in_flight < cl_flow_window(flow, now_us);
	}
	flow->in_flight += bytes;
}

/* Bytes came, or won't come. */
static void leave_flight(struct cl_flow *flow, uint64_t bytes, uint64_t now_us)
{
	flow->in_flight -= bytes < flow->in_flight ? bytes : flow->in_flight;
	if (!flow->mark_us)
		return;
	if (bytes <= flow->mark_ahead) {
		flow->mark_ahead -= bytes;
		return;
	}
	flow->probing = flow->probing && !flow->mark_probes;
	if (!flow->path_us || now_us - flow->mark_us < flow->path_us) {
		flow->probe_helped = flow->probe_helped || now_us - flow->mark_us < flow->path_us - flow->path_us / 8;
		flow->path_us = now_us - flow->mark_us;
		choose_round_trip(flow);
	}
	flow->mark_us = 0;
}

/* Of the kernel's round trip there is nothing to be found out. */
static void probe_now_and_then(struct cl_flow *flow, uint64_t now_us)
{
	uint64_t pause_us = flow->probe_helped ? PROBES_APART * flow->min_rtt_us : PROBE_US;

	if (flow->starting || flow->probing || flow->min_rtt_us == flow->tcp_rtt_us ||
	    (flow->probe_us && now_us - flow->probe_us < pause_us))
		return;
	flow->probe_us = now_us;
	flow->probing = true;
	flow->probe_helped = false;
}

static void take_sample(struct cl_flow *flow, uint64_t sample, uint64_t now_us)
{
	if (now_us - flow->epoch_start_us > EPOCH_US) {
		flow->last_epoch_rate = flow->epoch_rate;
		flow->epoch_rate = 0;
		flow->epoch_start_us = now_us;
	}
	if (sample > flow->epoch_rate)
		flow->epoch_rate = sample;
	flow->rate = flow->epoch_rate > flow->last_epoch_rate ? flow->epoch_rate : flow->last_epoch_rate;
}

/*
 * A sample of the start, which is short. Once it has stopped growing the median of three counts: what a lost time slice
 * made small, or a shaper on the way had saved up for a burst, is nobody's rate.
 */
static void take_short_sample(struct cl_flow *flow, uint64_t sample)
{
	uint64_t *before = flow->short_samples, low = before[0] < before[1] ? before[0] : before[1];
	uint64_t high = before[0] + before[1] - low, median = sample < low ? low : sample < high ? sample : high;
	uint64_t rate = flow->flat < 3 ? sample : median;

	before[1] = before[0];
	before[0] = sample;
	if (rate > flow->rate + flow->rate / 4) {
		flow->flat = 0;
	} else {
		flow->flat++;
		rate = median;
	}
	flow->epoch_rate = flow->rate = rate;
}

/* What a larger window brings shows an interval later. `more`: the last one brought more than any before. */
static void raise_now_and_then(struct cl_flow *flow, bool more, uint64_t now_us)
{
	if (flow->raised && --flow->raised)
		return;
	if (flow->min_rtt_us < LONG_US || (!more && now_us - flow->raise_us < RAISE_US))
		return;
	flow->raised = RAISE_INTERVALS;
	flow->raise_us = now_us;
}

/* The sample, or 0 if it says nothing certain of the link. */
static uint64_t end_interval(struct cl_flow *flow, uint64_t elapsed_us, uint64_t now_us)
{
	uint64_t sample = flow->interval_bytes * 1000000 / elapsed_us;
	uint64_t most_us = MAX_MORE_QUEUE_US + flow->min_rtt_us / 2; /* of more_queue_us */
	bool after_short = !flow->since_short;

	/* With nothing wanted a sample can only show that the link does at least so much. */
	if (flow->interval_starved && sample <= flow->rate)
		return 0;
	if (flow->starting) {
		flow->starting_for_us += elapsed_us;
		take_short_sample(flow, sample);
		if (flow->flat >= 5 && flow->starting_for_us >= START_US + 4 * flow->min_rtt_us) {
			/* Good enough to grow by, not to keep. */
			flow->starting = false;
			flow->epoch_rate = 0;
		}
		return 0;
	}
	if (sample >= flow->rate - flow->rate / 32) {
		flow->since_short++;
		flow->more_queue_us -= (flow->more_queue_us + 15) / 16;
	} else {
		/* Once is a pause of the scheduler, which no queue of ours outlasts. */
		if (flow->since_short < OFTEN)
			flow->more_queue_us = flow->more_queue_us * 3 / 2 + MORE_QUEUE_US;
		if (flow->more_queue_us > most_us)
			flow->more_queue_us = most_us;
		flow->since_short = 0;
	}
	/* After a pause comes what it had held up, faster than the link carries. */
	raise_now_and_then(flow, sample > flow->rate + flow->rate / 32, now_us);
	take_sample(flow, after_short && sample > flow->rate ? flow->rate : sample, now_us);
	return sample;
}

uint64_t cl_flow_delivered(struct cl_flow *flow, uint64_t bytes, uint64_t now_us)
{
	uint64_t elapsed_us = now_us - flow->interval_start_us;
	uint64_t interval_us = flow->starting ? START_INTERVAL_US : INTERVAL_US, sample;

	leave_flight(flow, bytes, now_us);
	probe_now_and_then(flow, now_us);
	flow->interval_starved = flow->interval_starved || flow->probing;
	flow->interval_bytes += bytes;
	/* What comes comes in a burst a round trip, at the start. */
	if (interval_us < (flow->starting ? flow->min_rtt_us : flow->min_rtt_us * 3 / 2))
		interval_us = flow->starting ? flow->min_rtt_us : flow->min_rtt_us * 3 / 2;
	if (elapsed_us < interval_us)
		return 0;
	sample = end_interval(flow, elapsed_us, now_us);
	flow->interval_start_us = now_us;
	flow->interval_bytes = 0;
	flow->interval_starved = false;
	return sample;
}

void cl_flow_cancelled(struct cl_flow *flow, uint64_t bytes, uint64_t now_us)
{
	leave_flight(flow, bytes, now_us);
}

void cl_flow_starved(struct cl_flow *flow)
{
	flow->interval_starved = true;
}

void cl_flow_fault(struct cl_flow *flow, uint64_t now_us)
{
	flow->last_fault_us = now_us;
}

/* Bytes of the smallest background request. */
static uint64_t least_request(const struct cl_flow *flow)
{
	uint64_t bytes = flow->rate * REQUEST_US / 1000000;

	return bytes < MIN_REQUEST ? MIN_REQUEST : bytes < GOOD_REQUEST ? bytes : GOOD_REQUEST;
}

/* While the task faults queue_us, and more where that is too short, is what a demand fault may wait for the rest. */
static uint64_t window_of(const struct cl_flow *flow, unsigned int round_trips, uint64_t queue_us, uint64_t now_us)
{
	bool faulting = now_us - flow->last_fault_us < FAULTING_FOR_US;

	uint64_t idle_us = IDLE_QUEUE_US + flow->more_queue_us + (flow->raised ? flow->min_rtt_us : 0);

	/* The more there is to do, the longer both ends' threads keep each other waiting. */
	queue_us += flow->more_queue_us + flow->rate / BUSY_RATE;
	if (flow->raised && flow->more_queue_us)
		queue_us += flow->min_rtt_us / 2;
	return flow->rate * (flow->min_rtt_us * round_trips + (faulting ? queue_us : idle_us)) / 1000000;
}

uint64_t cl_flow_push_window(const struct cl_flow *flow, uint64_t now_us)
{
	bool growing = flow->starting && flow->flat < 3;
	uint64_t window = window_of(flow, growing ? 2 : 1, PUSHED_QUEUE_US, now_us);
	uint64_t least = flow->starting ? START_PUSHED : MIN_WINDOW;

	if (flow->starting && !growing)
		window = window * 9 / 8;
	if (window < least)
		window = least;
	return window < flow->max_window ? window : flow->max_window;
}

uint64_t cl_flow_window(const struct cl_flow *flow, uint64_t now_us)
{
	uint64_t window = window_of(flow, 1, QUEUE_US, now_us);
	/* With less than two requests in the queue the link would idle between them. */
	uint64_t least = flow->rate * flow->min_rtt_us / 1000000 * 21 / 20 + 2 * least_request(flow);

	if (window < least)
		window = least;
	if (flow->starting)
		window = window * 2 < START_WINDOW ? START_WINDOW : window * 2;
	if (flow->probing)
		window /= 2;
	if (window < MIN_WINDOW)
		window = MIN_WINDOW;
	return window < flow->max_window ? window : flow->max_window;
}

uint64_t cl_flow_allowance(const struct cl_flow *flow, uint64_t now_us)
{
	uint64_t window = cl_flow_window(flow, now_us), least = least_request(flow);
	/* Of the queue: what is on the long way to the link and back keeps nobody waiting. */
	uint64_t under_way = flow->rate * flow->min_rtt_us / 1000000;
	uint64_t bytes = window > under_way ? (window - under_way) / 4 : 0;

	bytes = bytes < least ? least : bytes < MAX_REQUEST ? bytes : MAX_REQUEST;
	return flow->in_flight + least <= window ? bytes : 0;
}
