/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow: how many bytes may be asked of the page server and not arrived yet. A page server answers in order,
 * so what is in flight ahead of a demand fault is its latency; too little in flight, and the link idles.
 * Pure logic on times that the caller gives: no clock, no socket.
 *
 * Model: the window is (delivery rate) x (round trip + allowed queueing). The delivery rate is the best sample of
 * the last seconds, each over an interval long enough not to take one burst for the link's speed. The allowed
 * queueing is short while the task faults and longer when it doesn't; it grows while now and then less is delivered
 * than the link has shown to carry (a process on the way lost the CPU for longer than the queue lasted, and nothing was
 * in flight), and shrinks back when that is over. Before the rate is known the window starts small and may be twice that, so
 * that it doubles while that helps; the rate is then the median of the last three samples, which are short.
 *
 * The round trip is the kernel's, of the TCP connection, as long as that is the whole way. Behind a proxy (ssh -L, stunnel,
 * a service mesh) the connection ends halfway, and the kernel's is too short: the window would be a fraction of what the
 * path holds, and the rate with it. So the least time from a request to the first byte of its answer is measured, one
 * request at a time, and counts where it is longer by more than a source needs to answer. What is in flight ahead of a
 * request delays its answer, too: now and then the window is halved until one request that was sent in the half of it is
 * answered (a probe), which shows whether the round trip is shorter than was thought.
 *
 * A round trip that varies is longer, mostly, than the shortest one. What comes with a window for the shortest is less than
 * the link carries, is taken for its rate, and makes the window smaller yet. So on long paths a larger window is tried now
 * and then; while the task faults only if the rate varies.
 */
#ifndef CL_FLOW_H
#define CL_FLOW_H

#include <stdbool.h>
#include <stdint.h>

struct cl_flow {
	uint64_t max_window; /* bytes */
	uint64_t tcp_rtt_us; /* the kernel's */
	uint64_t path_us;    /* the least time to an answer; 0: none came yet */
	uint64_t min_rtt_us; /* which of these counts */
	uint64_t mark_us;    /* when the request was sent whose answer is awaited; 0: there is none */
	uint64_t mark_ahead; /* bytes to be delivered before that answer begins */
	uint64_t probe_us;   /* when the last probe began; 0: there was none */
	bool probing, mark_probes;
	bool probe_helped;   /* in the last one, a shorter path was seen */
	uint64_t rate;       /* bytes per second: the best sample of this epoch and the last */
	uint64_t epoch_rate; /* of this epoch alone */
	uint64_t last_epoch_rate;
	uint64_t epoch_start_us;
	uint64_t interval_start_us, interval_bytes;
	bool interval_starved; /* in this interval nothing more was wanted: says nothing of the link */
	bool starting;
	uint64_t starting_for_us;
	uint64_t short_samples[2]; /* the last two of these, the last one first */
	unsigned int flat;         /* intervals in a row in which doubling didn't help */
	unsigned int since_short;  /* samples since the last that was less than the rate; 0: that was the last one */
	uint64_t last_fault_us;
	uint64_t more_queue_us; /* than the least that is allowed while the task faults */
	unsigned int raised;    /* a larger window is tried for so many intervals more */
	uint64_t raise_us;      /* when that began last */
	uint64_t in_flight;
};

void cl_flow_init(struct cl_flow *flow, uint64_t max_window, uint64_t now_us);

/* A demand fault came, or is to be expected: the task begins to run. */
void cl_flow_fault(struct cl_flow *flow, uint64_t now_us);

/* The connection's round trip as the kernel measured it (its minimum). */
void cl_flow_round_trip(struct cl_flow *flow, uint64_t tcp_rtt_us);

/* A request was sent, to be answered with so many bytes, after all those before it. */
void cl_flow_asked(struct cl_flow *flow, uint64_t bytes, uint64_t now_us);
/* Returns bytes per second where an interval ended in which all was wanted that the link carries; else 0. */
uint64_t cl_flow_delivered(struct cl_flow *flow, uint64_t bytes, uint64_t now_us);
/* Asked for, but won't come: the answer was short. */
void cl_flow_cancelled(struct cl_flow *flow, uint64_t bytes, uint64_t now_us);
/* Nothing is left to ask for in the background. */
void cl_flow_starved(struct cl_flow *flow);

/* Bytes that may be in flight now, by requests. */
uint64_t cl_flow_window(const struct cl_flow *flow, uint64_t now_us);

/* The same where they come unasked: nothing waits for the next request to arrive. */
uint64_t cl_flow_push_window(const struct cl_flow *flow, uint64_t now_us);

/* Bytes of the background request that fits into the window now, of which a few make its queue; 0: none does. */
uint64_t cl_flow_allowance(const struct cl_flow *flow, uint64_t now_us);

#endif
