/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stats: the latency histogram of struct cl_stats (criu_lazy.h): four buckets to an octave of microseconds, so
 * that a percentile read from it is right within 19 %. The counters are plain fields under the engine's mutex.
 */
#ifndef CL_STATS_H
#define CL_STATS_H

#include <stdint.h>

#include "criu_lazy.h"

/* The bucket that holds waits of wait_us: the first i with wait_us < 2^(i/4). */
unsigned int cl_stats_bucket(uint64_t wait_us);

/* A fault was resolved after wait_us. */
void cl_stats_fault(struct cl_stats *stats, uint64_t wait_us);

#endif
