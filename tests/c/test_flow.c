/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow against simulated links: a first-in-first-out pipe of a rate and a round trip, whole or behind a proxy, steady or
 * not. The window must fill the link; on a steady path it must not queue more than it promises.
 */
#include <stdlib.h>

#include "check.h"
#include "destination/flow.h"

struct outcome {
	double utilisation; /* of the link, in the second half */
	uint64_t worst_queue_us;
	uint64_t largest; /* request, bytes */
};

struct path {
	uint64_t rate; /* bytes per second */
	uint64_t rtt_us;
	uint64_t tcp_rtt_us;     /* what the kernel takes it for */
	uint64_t first_later_us; /* the first answer comes so much later */
	uint64_t jitter_us;      /* each part comes up to so much sooner or later, in order */
	bool faulting;           /* the task faults every millisecond */
};

static struct outcome simulate(struct path path)
{
	enum { STEP_US = 50, LENGTH_US = 4000000 };
	struct outcome outcome = { 0 };
	struct {
		uint64_t at_us, bytes;
	} wire[65536]; /* deliveries on their way */
	uint64_t rate = path.rate, rtt_us = path.rtt_us, arrives_us, last_us = 0;
	uint64_t head = 0, tail = 0, link_free_us = 1 + path.first_later_us, delivered = 0, now_us;
	struct cl_flow flow;

	cl_flow_init(&flow, 64 << 20, 1);
	cl_flow_round_trip(&flow, path.tcp_rtt_us);
	for (now_us = 1; now_us < LENGTH_US; now_us += STEP_US) {
		if (path.faulting && now_us % 1000 < STEP_US)
			cl_flow_fault(&flow, now_us);
		while (head != tail && wire[head % 65536].at_us <= now_us) {
			cl_flow_delivered(&flow, wire[head % 65536].bytes, now_us);
			if (now_us > LENGTH_US / 2)
				delivered += wire[head % 65536].bytes;
			head++;
		}
		for (;;) {
			uint64_t bytes = cl_flow_allowance(&flow, now_us), starts_us = now_us + rtt_us / 2, part;

			if (!bytes)
				break;

			if (link_free_us < starts_us)
				link_free_us = starts_us;
			else if (now_us > LENGTH_US / 2 && link_free_us - starts_us > outcome.worst_queue_us)
				outcome.worst_queue_us = link_free_us - starts_us;
			if (now_us > LENGTH_US / 2 && bytes > outcome.largest)
				outcome.largest = bytes;
			cl_flow_asked(&flow, bytes, now_us);
			while (bytes) { /* it comes in segments */
				part = bytes < 65536 ? bytes : 65536;
				bytes -= part;
				link_free_us += part * 1000000 / rate;
				CHECK(tail - head < 65536);
				arrives_us = link_free_us + rtt_us / 2 - path.jitter_us;
				arrives_us += path.jitter_us ? (uint64_t)random() % (2 * path.jitter_us) : 0;
				if (arrives_us > last_us)
					last_us = arrives_us;
				wire[tail % 65536].at_us = last_us;
				wire[tail++ % 65536].bytes = part;
			}
		}
	}
	outcome.utilisation = (double)delivered / ((double)rate * LENGTH_US / 2000000);
	return outcome;
}

/* The link is filled; and what queues on it is about 2 ms, or what the smallest window takes on a slow link. */
static void check_path(struct path path)
{
	struct outcome idle, busy;

	idle = simulate(path);
	path.faulting = true;
	busy = simulate(path);
	CHECK(idle.utilisation > 0.97 && busy.utilisation > 0.97);
	CHECK(busy.worst_queue_us < 2500 + path.rtt_us / 20 || busy.worst_queue_us < (72 << 10) * 1000000ull / path.rate);
	/* What a fault may be behind is on top of that; the way is no reason for it to be long. */
	CHECK(busy.largest <= 48 << 10 || busy.largest < path.rate / 1000);
}

int main(void)
{
	static const uint64_t rates[] = { 12500000, 125000000, 1250000000 };
	static const uint64_t rtts_us[] = { 50, 200, 1000, 10000, 50000 };
	unsigned int r, t;
	struct cl_flow flow;

	for (r = 0; r < 3; r++) {
		for (t = 0; t < 5; t++) {
			check_path((struct path){ .rate = rates[r], .rtt_us = rtts_us[t], .tcp_rtt_us = rtts_us[t] });
			/* The connection ends at a proxy. */
			check_path((struct path){ .rate = rates[r], .rtt_us = rtts_us[t], .tcp_rtt_us = 30 });
			/* And the source took its time for the first answer. */
			check_path((struct path){
				.rate = rates[r], .rtt_us = rtts_us[t], .tcp_rtt_us = 30, .first_later_us = 20000 });
		}
	}

	/* Three tenths of the round trip more or less, which TCP takes for the shortest of all. */
	for (r = 0; r < 2; r++) {
		for (t = 2; t < 4; t++) {
			struct path path = { .rate = rates[r], .rtt_us = rtts_us[t], .tcp_rtt_us = rtts_us[t] / 10 * 7 };

			path.jitter_us = rtts_us[t] / 10 * 3;
			CHECK(simulate(path).utilisation > 0.95);
			path.faulting = true;
			CHECK(simulate(path).utilisation > 0.95);
			path.tcp_rtt_us = 30;
			CHECK(simulate(path).utilisation > 0.95);
		}
	}

	/* An interval in which nothing was wanted doesn't lower the estimate. */
	cl_flow_init(&flow, 64 << 20, 0);
	cl_flow_delivered(&flow, 1000000, 10000);
	CHECK(flow.rate == 100000000);
	cl_flow_starved(&flow);
	cl_flow_delivered(&flow, 1000, 30000);
	CHECK(flow.rate == 100000000 && flow.epoch_rate == 100000000);

	/* What a shaper had saved up comes faster than the link for once, when it starts: that is no rate. */
	cl_flow_init(&flow, 64 << 20, 0);
	cl_flow_round_trip(&flow, 1000);
	for (r = 1; r <= 8; r++)
		cl_flow_delivered(&flow, r == 3 ? 400000 : 250000, r * 2000);
	CHECK(flow.starting && flow.rate == 125000000);

	/*
	 * One pause, and the burst after it, change nothing; one pause after the other makes the queue longer, for a while.
	 */
	cl_flow_init(&flow, 64 << 20, 0);
	for (r = 1; flow.starting; r++)
		cl_flow_delivered(&flow, 250000, r * 2000);
	for (t = 1; t <= 64; t++)
		cl_flow_delivered(&flow, 6250000, r * 2000 + t * 50000);
	CHECK(flow.rate == 125000000 && flow.more_queue_us == 0);
	cl_flow_delivered(&flow, 4000000, r * 2000 + t++ * 50000);
	cl_flow_delivered(&flow, 8500000, r * 2000 + t++ * 50000);
	CHECK(flow.rate == 125000000 && flow.more_queue_us == 0);
	cl_flow_delivered(&flow, 4000000, r * 2000 + t++ * 50000);
	CHECK(flow.rate == 125000000 && flow.more_queue_us > 0);
	while (flow.more_queue_us)
		cl_flow_delivered(&flow, 6250000, r * 2000 + t++ * 50000);
	CHECK(t < 200);

	/* Bounded, whatever the link seems to do. */
	for (r = 0; r < 100; r++)
		cl_flow_delivered(&flow, 1ull << 40, 100000 + r * 20000);
	CHECK(cl_flow_window(&flow, 3000000) == 64 << 20);
	return 0;
}
