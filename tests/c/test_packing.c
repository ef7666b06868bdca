/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether to pack, on simulated links: the quicker way nearly always, and the other one soon when that has become quicker.
 */
#include "check.h"
#include "wire/compression.h"

enum { BATCHES = 4000 };

/*
 * Of the pages of so many batches: the share packed, in thousandths. Microseconds a page; batches of 1..64, by fits and
 * starts.
 */
static uint64_t share_packed(struct cl_packing *packing, double raw_us, double packed_us, int batches, uint64_t *random)
{
	uint64_t all = 0, packed = 0;

	for (int i = 0; i < batches; i++) {
		uint64_t nr = 1 + next_random(random) % 64, noise = 50 + next_random(random) % 101;
		double us = (double)nr * (packing->packing ? packed_us : raw_us) * (double)noise / 100;

		all += nr;
		packed += packing->packing ? nr : 0;
		cl_packing_note(packing, nr, (uint64_t)us);
	}
	return packed * 1000 / all;
}

int main(void)
{
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct cl_packing packing;
		uint64_t random = seed;

		cl_packing_init(&packing);
		CHECK(share_packed(&packing, 68, 36, BATCHES, &random) > 950); /* two of 1 Gbit/s, pages halve */
		CHECK(share_packed(&packing, 68, 36, BATCHES, &random) > 980);
		/* The link has become fast. */
		CHECK(share_packed(&packing, 2, 5, BATCHES, &random) < 400);
		CHECK(share_packed(&packing, 2, 5, BATCHES, &random) < 20);
		CHECK(share_packed(&packing, 68, 36, BATCHES, &random) > 600);
	}
	return 0;
}
