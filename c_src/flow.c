/* SPDX-License-Identifier: Apache-2.0 */
#include "flow.h"

#include <string.h>

enum {
	START_WINDOW = 256 << 10,
	MIN_WINDOW = 96 << 10,
	MIN_REQUEST = 16 << 10,
	MAX_REQUEST = 4 << 20,
	INTERVAL_US = 50000,       /* long enough that the burst after a lost time slice doesn't pass for speed */
	START_INTERVAL_US = 2000,
	START_US = 80000,          /* at the least: one pause of the scheduler is not the link's limit */
	MIN_QUEUE_US = 400,        /* a demand fault's added wait, while the task faults */
	MAX_QUEUE_US = 3000,
	IDLE_QUEUE_US = 5000,      /* nobody waits: ride out the scheduler */
	EPOCH_US = 1500000,
	FAULTING_FOR_US = 50000,   /* after a fault the next one is expected for so long */
};

void cl_flow_init(struct cl_flow *flow, uint64_t max_window, uint64_t now_us)
{
	memset(flow, 0, sizeof(*flow));
	flow->max_window = max_window < MIN_WINDOW ? MIN_WINDOW : max_window;
	flow->starting = true;
	flow->queue_us = MIN_QUEUE_US;
	flow->interval_start_us = now_us;
	flow->epoch_start_us = now_us;
}

void cl_flow_round_trip(struct cl_flow *flow, uint64_t min_rtt_us)
{
	flow->min_rtt_us = min_rtt_us;
}

void cl_flow_asked(struct cl_flow *flow, uint64_t bytes)
{
	flow->in_flight += bytes;
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

static void end_interval(struct cl_flow *flow, uint64_t elapsed_us, uint64_t now_us)
{
	uint64_t sample = flow->interval_bytes * 1000000 / elapsed_us;

	/* With nothing wanted a sample can only show that the link does at least so much. */
	if (flow->interval_starved && sample <= flow->rate)
		return;
	if (flow->starting) {
		flow->starting_for_us += elapsed_us;
		if (sample > flow->rate + flow->rate / 4) {
			flow->flat = 0;
		} else if (++flow->flat >= 3 && flow->starting_for_us >= START_US) {
			/* These short samples were good enough to grow by, not to keep. */
			flow->starting = false;
			flow->epoch_rate = 0;
			flow->last_epoch_rate = 0;
			return;
		}
	} else if (sample < flow->rate - flow->rate / 25) {
		flow->queue_us = flow->queue_us * 5 / 4 < MAX_QUEUE_US ? flow->queue_us * 5 / 4 : MAX_QUEUE_US;
	} else if (flow->queue_us > MIN_QUEUE_US) {
		flow->queue_us -= (flow->queue_us - MIN_QUEUE_US) / 16 + 1;
	}
	take_sample(flow, sample, now_us);
}

void cl_flow_delivered(struct cl_flow *flow, uint64_t bytes, uint64_t now_us)
{
	uint64_t elapsed_us = now_us - flow->interval_start_us;
	uint64_t interval_us = flow->starting ? START_INTERVAL_US : INTERVAL_US;

	flow->in_flight -= bytes < flow->in_flight ? bytes : flow->in_flight;
	flow->interval_bytes += bytes;
	if (interval_us < flow->min_rtt_us * 3 / 2)
		interval_us = flow->min_rtt_us * 3 / 2;
	if (elapsed_us < interval_us)
		return;
	end_interval(flow, elapsed_us, now_us);
	flow->interval_start_us = now_us;
	flow->interval_bytes = 0;
	flow->interval_starved = false;
}

void cl_flow_cancelled(struct cl_flow *flow, uint64_t bytes)
{
	flow->in_flight -= bytes < flow->in_flight ? bytes : flow->in_flight;
}

void cl_flow_starved(struct cl_flow *flow)
{
	flow->interval_starved = true;
}

void cl_flow_fault(struct cl_flow *flow, uint64_t now_us)
{
	flow->last_fault_us = now_us;
}

uint64_t cl_flow_window(const struct cl_flow *flow, uint64_t now_us)
{
	bool faulting = now_us - flow->last_fault_us < FAULTING_FOR_US;
	uint64_t queue_us = faulting ? flow->queue_us : IDLE_QUEUE_US;
	uint64_t window = flow->rate * (flow->min_rtt_us + queue_us) / 1000000;
	/* On a slow link even the smallest requests outlast queue_us: without two in the queue it would idle. */
	uint64_t least = flow->rate * flow->min_rtt_us / 1000000 * 21 / 20 + 2 * MIN_REQUEST;

	if (window < least)
		window = least;
	if (flow->starting)
		window = window * 2 < START_WINDOW ? START_WINDOW : window * 2;
	if (window < MIN_WINDOW)
		window = MIN_WINDOW;
	return window < flow->max_window ? window : flow->max_window;
}

uint64_t cl_flow_request_bytes(const struct cl_flow *flow, uint64_t now_us)
{
	uint64_t bytes = cl_flow_window(flow, now_us) / 4;

	if (bytes < MIN_REQUEST)
		return MIN_REQUEST;
	return bytes < MAX_REQUEST ? bytes : MAX_REQUEST;
}
