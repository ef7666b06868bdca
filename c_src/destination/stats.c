/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/stats.h"

unsigned int cl_stats_bucket(uint64_t wait_us)
{
	/* 2^(1/4), 2^(1/2), 2^(3/4) in units of 2^-16. */
	static const uint32_t quarter[] = { 65536, 77936, 92682, 110218 };
	unsigned int octave, bucket;

	if (wait_us == 0)
		return 0;
	octave = 63 - (unsigned int)__builtin_clzll(wait_us);
	/* 2^octave <= wait_us < 2^(octave + 1): it lies in one of four buckets above 4 * octave. */
	for (bucket = 1; bucket < 4; bucket++)
		if (octave < 40 && wait_us << 16 < (uint64_t)quarter[bucket] << octave)
			break;
	bucket += 4 * octave;
	return bucket < CL_LATENCY_BUCKETS ? bucket : CL_LATENCY_BUCKETS - 1;
}

void cl_stats_fault(struct cl_stats *stats, uint64_t wait_us)
{
	stats->fault_wait_us[cl_stats_bucket(wait_us)]++;
	stats->fault_wait_sum_us += wait_us;
	if (wait_us > stats->fault_wait_max_us)
		stats->fault_wait_max_us = wait_us;
}
