/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/compression.h"

#include <errno.h>
#include <string.h>

#ifdef CL_WITH_LZ4
#include <lz4.h>
#endif

#include "wire/page_protocol.h"

enum {
	BATCHES_A_TRIAL = 4,
	FIRST_PAUSE = 8, /* short: the first batches find empty queues, and tell little */
	LAST_PAUSE = 1024,
};

bool cl_page_is_zero(const uint8_t *page)
{
	uint64_t first;

	memcpy(&first, page, sizeof(first));
	return !first && memcmp(page, page + sizeof(first), CL_PAGE_SIZE - sizeof(first)) == 0;
}

#ifdef CL_WITH_LZ4

bool cl_compression_has_lz4(void)
{
	return true;
}

size_t cl_compression_pack(const uint8_t *data, size_t bytes, uint8_t *out)
{
	int packed = LZ4_compress_default((const char *)data, (char *)out, (int)bytes, (int)(bytes - bytes / 16));

	return packed > 0 ? (size_t)packed : 0;
}

int cl_compression_unpack(const uint8_t *packed, size_t packed_bytes, uint8_t *out, size_t out_bytes)
{
	int got = LZ4_decompress_safe((const char *)packed, (char *)out, (int)packed_bytes, (int)out_bytes);

	return got >= 0 && (size_t)got == out_bytes ? 0 : -EBADMSG;
}

#else

bool cl_compression_has_lz4(void)
{
	return false;
}

size_t cl_compression_pack(const uint8_t *data, size_t bytes, uint8_t *out)
{
	(void)data;
	(void)bytes;
	(void)out;
	return 0;
}

int cl_compression_unpack(const uint8_t *packed, size_t packed_bytes, uint8_t *out, size_t out_bytes)
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

static double us_per_page(const struct cl_packing *packing, bool packed)
{
	return packing->ways[packed].us / packing->ways[packed].pages;
}

/* Try the way that is not in use. */
static void try_other(struct cl_packing *packing)
{
	packing->trying = true;
	packing->packing = !packing->packing;
	packing->ways[packing->packing].us = packing->ways[packing->packing].pages = 0; /* a trial counts for itself */
	packing->left = BATCHES_A_TRIAL;
}

/* The quicker way is used until the next trial. */
static void end_trial(struct cl_packing *packing)
{
	double raw = us_per_page(packing, false), packed = us_per_page(packing, true);
	bool best = packed * 1.05 < raw; /* else it is not worth the CPU time */

	if (best == packing->packing)
		packing->pause = FIRST_PAUSE;
	else if (packing->pause < LAST_PAUSE && (best ? raw > packed * 9 / 8 : packed > raw * 9 / 8))
		packing->pause *= 2; /* where there is little between them, trials cost little */
	packing->trying = false;
	packing->packing = best;
	packing->left = packing->pause;
}

void cl_packing_note(struct cl_packing *packing, uint64_t nr_pages, uint64_t elapsed_us)
{
	double *us = &packing->ways[packing->packing].us, *pages = &packing->ways[packing->packing].pages;

	/* The first batch after a change still waits for what was sent in the other way before. */
	if (!packing->trying || packing->left < BATCHES_A_TRIAL) {
		/* Small batches wait by fits and starts: they count by their pages. */
		*us = *us * 3 / 4 + (double)(elapsed_us ? elapsed_us : 1);
		*pages = *pages * 3 / 4 + (double)nr_pages;
	}
	if (--packing->left)
		return;
	if (packing->trying)
		end_trial(packing);
	else
		try_other(packing);
}
