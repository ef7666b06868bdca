/* SPDX-License-Identifier: Apache-2.0 */
#include "codec.h"

#include <errno.h>
#include <string.h>

#ifdef CL_WITH_LZ4
#include <lz4.h>
#endif

#include "wire.h"

enum {
	BATCHES_A_TRIAL = 4,
	FIRST_PAUSE = 8, /* short: the first batches find empty queues, and tell little */
	LAST_PAUSE = 1024,
	LOSES_BY_FAR = 2, /* times as long: then the pause doubles */
};

bool cl_codec_is_zero(const uint8_t *page)
{
	uint64_t first;

	memcpy(&first, page, sizeof(first));
	return !first && memcmp(page, page + sizeof(first), CL_PAGE_SIZE - sizeof(first)) == 0;
}

#ifdef CL_WITH_LZ4

bool cl_codec_has_lz4(void)
{
	return true;
}

size_t cl_codec_pack(const uint8_t *data, size_t bytes, uint8_t *out)
{
	int packed = LZ4_compress_default((const char *)data, (char *)out, (int)bytes, (int)(bytes - bytes / 16));

	return packed > 0 ? (size_t)packed : 0;
}

int cl_codec_unpack(const uint8_t *packed, size_t packed_bytes, uint8_t *out, size_t out_bytes)
{
	int got = LZ4_decompress_safe((const char *)packed, (char *)out, (int)packed_bytes, (int)out_bytes);

	return got >= 0 && (size_t)got == out_bytes ? 0 : -EBADMSG;
}

#else

bool cl_codec_has_lz4(void)
{
	return false;
}

size_t cl_codec_pack(const uint8_t *data, size_t bytes, uint8_t *out)
{
	(void)data;
	(void)bytes;
	(void)out;
	return 0;
}

int cl_codec_unpack(const uint8_t *packed, size_t packed_bytes, uint8_t *out, size_t out_bytes)
{
	(void)packed;
	(void)packed_bytes;
	(void)out;
	(void)out_bytes;
	return -EBADMSG;
}

#endif

void cl_packing_init(struct cl_packing *packing)
{
	*packing = (struct cl_packing){ .left = BATCHES_A_TRIAL, .pause = FIRST_PAUSE };
}

/* A trial or a pause is over. */
static void change(struct cl_packing *packing)
{
	double raw = packing->us_per_page[0], packed = packing->us_per_page[1];
	bool best = packed > 0 && packed * 1.05 < raw; /* else it is not worth the CPU time */
	double win = best ? packed : raw, lose = best ? raw : packed;

	if (packing->trying || !(packed > 0)) {
		packing->trying = !(packed > 0);
		packing->packing = packing->trying ? true : best;
		if (packing->trying) {
			packing->left = BATCHES_A_TRIAL;
			return;
		}
		if (lose > win * LOSES_BY_FAR && packing->pause < LAST_PAUSE)
			packing->pause *= 2;
		else if (lose < win * 5 / 4)
			packing->pause = FIRST_PAUSE;
		packing->left = packing->pause;
		return;
	}
	packing->trying = true;
	packing->packing = !packing->packing;
	packing->us_per_page[packing->packing] = 0; /* a trial counts for itself */
	packing->left = BATCHES_A_TRIAL;
}

void cl_packing_note(struct cl_packing *packing, uint64_t nr_pages, uint64_t elapsed_us)
{
	double *average = &packing->us_per_page[packing->packing];
	double sample = (double)(elapsed_us ? elapsed_us : 1) / (double)nr_pages;

	/* The first batch after a change still waits for what was sent in the other way before. */
	if (*average > 0)
		*average += (sample - *average) / 4;
	else if (packing->left < BATCHES_A_TRIAL || !packing->trying)
		*average = sample;
	if (--packing->left == 0)
		change(packing);
}
