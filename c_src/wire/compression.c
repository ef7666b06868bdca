/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/compression.h"

#include <errno.h>
#include <string.h>

#ifdef CL_WITH_LZ4
#include <lz4.h>
#endif
#ifdef CL_WITH_ZSTD
#include <zstd.h>
#endif

#include "wire/page_protocol.h"

enum {
	BATCHES_A_TRIAL = 4,
	FIRST_PAUSE = 8, /* short: the first batches find empty queues, and tell little */
	LAST_PAUSE = 1024,
	ZSTD_LEVEL = 1, /* of Redis, Python and a JVM the third makes 1 to 5 % less, in 1.5 to 1.8 times the time */
};

bool cl_page_is_zero(const uint8_t *page)
{
	uint64_t first;

	memcpy(&first, page, sizeof(first));
	return !first && memcmp(page, page + sizeof(first), CL_PAGE_SIZE - sizeof(first)) == 0;
}

/* ---- the libraries ---- */

bool cl_compression_has(enum cl_packing_way way)
{
	bool has[CL_PACKING_WAYS] = { [CL_AS_IT_IS] = true };

#ifdef CL_WITH_LZ4
	has[CL_LZ4] = true;
#endif
#ifdef CL_WITH_ZSTD
	has[CL_ZSTD] = true;
#endif
	return has[way];
}

unsigned int cl_compression_ways(void)
{
	unsigned int way, ways = 0;

	for (way = 0; way < CL_PACKING_WAYS; way++)
		ways |= cl_compression_has(way) ? 1U << way : 0;
	return ways;
}

void cl_packer_free(struct cl_packer *packer)
{
#ifdef CL_WITH_ZSTD
	ZSTD_freeCCtx(packer->zstd);
	ZSTD_freeDCtx(packer->unzstd);
#endif
	*packer = (struct cl_packer){ 0 };
}

size_t cl_compression_pack(struct cl_packer *packer, enum cl_packing_way way, const uint8_t *data, size_t bytes,
			   uint8_t *out)
{
	size_t room = bytes - bytes / 16;

#ifdef CL_WITH_LZ4
	if (way == CL_LZ4) {
		int packed = LZ4_compress_default((const char *)data, (char *)out, (int)bytes, (int)room);

		return packed > 0 ? (size_t)packed : 0;
	}
#endif
#ifdef CL_WITH_ZSTD
	if (way == CL_ZSTD) {
		size_t packed;

		if (!packer->zstd)
			packer->zstd = ZSTD_createCCtx();
		if (!packer->zstd)
			return 0;
		packed = ZSTD_compressCCtx(packer->zstd, out, room, data, bytes, ZSTD_LEVEL);
		return ZSTD_isError(packed) ? 0 : packed;
	}
#endif
	(void)packer;
	(void)way;
	(void)data;
	(void)out;
	(void)room;
	return 0;
}

int cl_compression_unpack(struct cl_packer *packer, enum cl_packing_way way, const uint8_t *packed, size_t packed_bytes,
			  uint8_t *out, size_t out_bytes)
{
#ifdef CL_WITH_LZ4
	if (way == CL_LZ4) {
		int got = LZ4_decompress_safe((const char *)packed, (char *)out, (int)packed_bytes, (int)out_bytes);

		return got >= 0 && (size_t)got == out_bytes ? 0 : -EBADMSG;
	}
#endif
#ifdef CL_WITH_ZSTD
	/* Into all of its room at once: no window is allocated, whatever size the frame asks for. */
	if (way == CL_ZSTD) {
		if (!packer->unzstd)
			packer->unzstd = ZSTD_createDCtx();
		if (!packer->unzstd)
			return -EBADMSG;
		return ZSTD_decompressDCtx(packer->unzstd, out, out_bytes, packed, packed_bytes) == out_bytes ? 0 : -EBADMSG;
	}
#endif
	(void)packer;
	(void)way;
	(void)packed;
	(void)packed_bytes;
	(void)out;
	(void)out_bytes;
	return -EBADMSG;
}

/* ---- which way pays ---- */

void cl_packing_init(struct cl_packing *packing, unsigned int allowed)
{
	unsigned int i;

	*packing = (struct cl_packing){ .allowed = (allowed & cl_compression_ways()) | 1U << CL_AS_IT_IS };
	for (i = 0; i < CL_PACKING_WAYS; i++) {
		packing->ways[i].pause = FIRST_PAUSE;
		packing->ways[i].wait = i * BATCHES_A_TRIAL;
	}
}

static double us_per_page(const struct cl_packing *packing, enum cl_packing_way way)
{
	return packing->ways[way].us / packing->ways[way].pages;
}

/* One batch went the best way: is it another's turn to be tried? */
static void pass_one(struct cl_packing *packing)
{
	unsigned int i;

	for (i = 0; i < CL_PACKING_WAYS; i++) {
		if (i == packing->best || !(packing->allowed & 1U << i))
			continue;
		if (packing->ways[i].wait)
			packing->ways[i].wait--;
		if (packing->ways[i].wait || packing->way != packing->best)
			continue;
		packing->way = i;
		packing->left = BATCHES_A_TRIAL;
		packing->ways[i].us = packing->ways[i].pages = 0; /* a trial counts for itself */
	}
}

/* What takes more CPU time, which the task's neighbours may want, has to be worth it: by so much. */
static const double worth[CL_PACKING_WAYS] = { [CL_LZ4] = 1.05, [CL_ZSTD] = 1.2 };

static bool beats(const struct cl_packing *packing, enum cl_packing_way one, enum cl_packing_way other)
{
	double ours = us_per_page(packing, one), theirs = us_per_page(packing, other);

	return one > other ? ours * worth[one] < theirs : ours <= theirs * worth[other];
}

/* The quicker way is used until the next trial. */
static void end_trial(struct cl_packing *packing)
{
	enum cl_packing_way tried = packing->way, best = packing->best;
	unsigned int i, *pause = &packing->ways[tried].pause;

	if (beats(packing, tried, best)) {
		packing->best = tried;
		for (i = 0; i < CL_PACKING_WAYS; i++)
			packing->ways[i].pause = packing->ways[i].wait = FIRST_PAUSE;
		return;
	}
	/* Where there is little between them, trials cost little. */
	if (*pause < LAST_PAUSE && us_per_page(packing, tried) > us_per_page(packing, best) * 9 / 8)
		*pause *= 2;
	packing->ways[tried].wait = *pause;
	packing->way = best;
}

void cl_packing_note(struct cl_packing *packing, uint64_t nr_pages, uint64_t elapsed_us)
{
	double *us = &packing->ways[packing->way].us, *pages = &packing->ways[packing->way].pages;
	bool is_trial = packing->way != packing->best;

	/* The first batch after a change still waits for what was sent in the other way before. */
	if (!is_trial || packing->left < BATCHES_A_TRIAL) {
		/* Small batches wait by fits and starts: they count by their pages. */
		*us = *us * 3 / 4 + (double)(elapsed_us ? elapsed_us : 1);
		*pages = *pages * 3 / 4 + (double)nr_pages;
	}
	if (!is_trial)
		pass_one(packing);
	else if (--packing->left == 0)
		end_trial(packing);
}
