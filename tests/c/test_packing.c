/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which way pages are packed, on simulated links: the quickest nearly always, and another one soon when that has become
 * quicker; and what each way packs and unpacks.
 */
#include <string.h>

#include "check.h"
#include "wire/compression.h"
#include "wire/page_protocol.h"

enum { BATCHES = 4000, PAGES = 64, BYTES = PAGES * CL_PAGE_SIZE };

static const unsigned int ALL = 1U << CL_LZ4 | 1U << CL_ZSTD, LZ4 = 1U << CL_LZ4;

/* Microseconds a page, each way. */
struct costs {
	double us[CL_PACKING_WAYS];
};

/* Of the pages of so many batches: the share that went this way, in thousandths. Batches of 1..64, by fits and starts. */
static uint64_t share(struct cl_packing *packing, enum cl_packing_way way, struct costs costs, uint64_t *random)
{
	uint64_t all = 0, so = 0;

	for (int i = 0; i < BATCHES; i++) {
		uint64_t nr = 1 + next_random(random) % 64, noise = 50 + next_random(random) % 101;
		double us = (double)nr * costs.us[packing->way] * (double)noise / 100;

		CHECK(packing->way == CL_AS_IT_IS || packing->allowed & 1U << packing->way);
		all += nr;
		so += packing->way == way ? nr : 0;
		cl_packing_note(packing, nr, (uint64_t)us);
	}
	return so * 1000 / all;
}

static void the_quickest_way_is_found(uint64_t random)
{
	/* Two streams of 1 Gbit/s; LZ4 halves what zstd makes a third of. On a quicker link that costs more than it saves. */
	const struct costs gigabit = { { 68, 36, 25 } }, quicker = { { 14, 8, 12 } }, fast = { { 2, 5, 15 } };
	struct cl_packing packing;

	cl_packing_init(&packing, ALL);
	CHECK(share(&packing, CL_ZSTD, gigabit, &random) > 700);
	CHECK(share(&packing, CL_ZSTD, gigabit, &random) > 700);
	/* The link has become fast. */
	CHECK(share(&packing, CL_AS_IT_IS, fast, &random) > 500);
	CHECK(share(&packing, CL_AS_IT_IS, fast, &random) > 960);
	CHECK(share(&packing, CL_ZSTD, gigabit, &random) > 500);
	CHECK(share(&packing, CL_LZ4, quicker, &random) > 500);
	CHECK(share(&packing, CL_LZ4, quicker, &random) > 900);

	cl_packing_init(&packing, LZ4); /* an older peer's */
	CHECK(share(&packing, CL_LZ4, gigabit, &random) > 950);
	CHECK(share(&packing, CL_LZ4, gigabit, &random) > 980);
	CHECK(share(&packing, CL_LZ4, fast, &random) < 400);
	CHECK(share(&packing, CL_LZ4, fast, &random) < 20);
	CHECK(share(&packing, CL_LZ4, gigabit, &random) > 600);

	cl_packing_init(&packing, 0);
	CHECK(share(&packing, CL_AS_IT_IS, gigabit, &random) == 1000);
}

/* As memory is: half of each page is random. */
static void fill(uint8_t *data, uint64_t *random)
{
	for (size_t i = 0; i < BYTES; i += sizeof(uint64_t)) {
		uint64_t word = i % 16 ? i / CL_PAGE_SIZE : next_random(random);

		memcpy(data + i, &word, sizeof(word));
	}
}

static void all_comes_out_again_and_damage_is_seen(enum cl_packing_way way, uint64_t random)
{
	static uint8_t data[BYTES], packed[BYTES], out[BYTES + 1];
	struct cl_packer packer = { 0 };
	size_t bytes, i;

	fill(data, &random);
	bytes = cl_compression_pack(&packer, way, data, BYTES, packed);
	CHECK(bytes && bytes < BYTES * 3 / 4);
	CHECK(cl_compression_unpack(&packer, way, packed, bytes, out, BYTES) == 0 && memcmp(data, out, BYTES) == 0);
	/* Nothing is written beyond what there is room for, whatever comes; another size is seen. */
	out[BYTES - CL_PAGE_SIZE] = 0xa5;
	CHECK(cl_compression_unpack(&packer, way, packed, bytes, out, BYTES - CL_PAGE_SIZE) < 0);
	CHECK(out[BYTES - CL_PAGE_SIZE] == 0xa5);
	CHECK(cl_compression_unpack(&packer, way, packed, bytes, out, BYTES + 1) < 0);
	CHECK(cl_compression_unpack(&packer, way, packed, bytes - 1, out, BYTES) < 0);
	for (i = 0; i < 2000; i++) {
		size_t at = next_random(&random) % bytes;
		uint8_t was = packed[i % 2 ? at % 32 : at];

		packed[i % 2 ? at % 32 : at] ^= (uint8_t)(1 << next_random(&random) % 8);
		(void)cl_compression_unpack(&packer, way, packed, bytes, out, BYTES);
		packed[i % 2 ? at % 32 : at] = was;
	}
	for (i = 0; i < 1000; i++) { /* not even the beginning is right */
		for (size_t k = 0; k < 64; k++)
			out[k] = (uint8_t)next_random(&random);
		(void)cl_compression_unpack(&packer, way, out, 1 + next_random(&random) % 64, data, BYTES);
	}
	/* What doesn't shrink goes as it is. */
	for (i = 0; i < BYTES; i++)
		data[i] = (uint8_t)next_random(&random);
	CHECK(cl_compression_pack(&packer, way, data, BYTES, packed) == 0);
	cl_packer_free(&packer);
}

int main(void)
{
	for (uint64_t seed = 1; seed <= 20; seed++)
		the_quickest_way_is_found(seed);
	for (enum cl_packing_way way = CL_LZ4; way < CL_PACKING_WAYS; way++)
		all_comes_out_again_and_damage_is_seen(way, way);
	return 0;
}
