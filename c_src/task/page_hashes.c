/* SPDX-License-Identifier: Apache-2.0 */
#include "task/page_hashes.h"
#include "base/vec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#ifdef CL_WITH_XXHASH
#define XXH_INLINE_ALL
#include <xxhash.h>
#endif

enum { SECRET_BYTES = 192, BLOCKS = CL_HASHES_PAGES / CL_HASHES_BLOCK_PAGES };

struct hashed {
	struct cl_hash pages[CL_HASHES_PAGES];
	uint64_t round[BLOCKS]; /* the last in which pages of it were sent */
};

struct chunk {
	int32_t id;
	uint64_t vaddr;
	struct hashed *hashed;
};

struct cl_hashes {
	uint8_t secret[SECRET_BYTES];
	struct chunk *chunks; /* by id, vaddr */
	size_t nr, max;
	uint64_t last_round;
};

bool cl_hashes_supported(void)
{
#ifdef CL_WITH_XXHASH
	return true;
#else
	return false;
#endif
}

struct cl_hash cl_hashes_of(const struct cl_hashes *hashes, const uint8_t *page)
{
	struct cl_hash hash = { 1, 0 };
#ifdef CL_WITH_XXHASH
	XXH128_hash_t got = XXH3_128bits_withSecret(page, CL_PAGE_SIZE, hashes->secret, sizeof(hashes->secret));

	if (got.low64 || got.high64)
		hash = (struct cl_hash){ got.low64, got.high64 };
#else
	(void)hashes;
	(void)page;
#endif
	return hash;
}

struct cl_hashes *cl_hashes_new(void)
{
	struct cl_hashes *hashes = calloc(1, sizeof(*hashes));

	if (hashes && getrandom(hashes->secret, sizeof(hashes->secret), 0) != (ssize_t)sizeof(hashes->secret)) {
		free(hashes);
		return NULL;
	}
	return hashes;
}

void cl_hashes_clear(struct cl_hashes *hashes)
{
	size_t i;

	for (i = 0; i < hashes->nr; i++)
		free(hashes->chunks[i].hashed);
	free(hashes->chunks);
	hashes->chunks = NULL;
	hashes->nr = hashes->max = hashes->last_round = 0;
}

void cl_hashes_free(struct cl_hashes *hashes)
{
	if (!hashes)
		return;
	cl_hashes_clear(hashes);
	free(hashes);
}

/* The first chunk that doesn't come before this one. */
static size_t search(const struct cl_hashes *hashes, int32_t id, uint64_t vaddr)
{
	size_t low = 0, high = hashes->nr;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct chunk *chunk = &hashes->chunks[middle];

		if (chunk->id < id || (chunk->id == id && chunk->vaddr < vaddr))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool is_at(const struct cl_hashes *hashes, size_t i, int32_t id, uint64_t vaddr)
{
	return i < hashes->nr && hashes->chunks[i].id == id && hashes->chunks[i].vaddr == vaddr;
}

const struct cl_hash *cl_hashes_find(const struct cl_hashes *hashes, int32_t id, uint64_t vaddr)
{
	uint64_t start = vaddr / CL_HASHES_BYTES * CL_HASHES_BYTES;
	size_t i = search(hashes, id, start);

	return is_at(hashes, i, id, start) ? hashes->chunks[i].hashed->pages + (vaddr - start) / CL_PAGE_SIZE : NULL;
}

struct cl_hash *cl_hashes_at(struct cl_hashes *hashes, int32_t id, uint64_t vaddr)
{
	uint64_t start = vaddr / CL_HASHES_BYTES * CL_HASHES_BYTES;
	size_t i = search(hashes, id, start);
	struct hashed *hashed;

	if (is_at(hashes, i, id, start))
		return hashes->chunks[i].hashed->pages + (vaddr - start) / CL_PAGE_SIZE;
	if (cl_vec_reserve(&hashes->chunks, &hashes->max, hashes->nr + 1, CL_VEC_NO_LIMIT) < 0) /* the task bounds it */
		return NULL;
	hashed = calloc(1, sizeof(*hashed));
	if (!hashed)
		return NULL;
	memmove(hashes->chunks + i + 1, hashes->chunks + i, (hashes->nr - i) * sizeof(*hashes->chunks));
	hashes->chunks[i] = (struct chunk){ .id = id, .vaddr = start, .hashed = hashed };
	hashes->nr++;
	return hashed->pages + (vaddr - start) / CL_PAGE_SIZE;
}

void cl_hashes_note_sent(struct cl_hashes *hashes, int32_t id, uint64_t vaddr, uint64_t nr_pages, uint64_t round)
{
	uint64_t start = vaddr / CL_HASHES_BYTES * CL_HASHES_BYTES, end = vaddr + nr_pages * CL_PAGE_SIZE;
	size_t i = search(hashes, id, start);

	hashes->last_round = round;
	for (; is_at(hashes, i, id, start) && vaddr < end;
	     vaddr = (vaddr / CL_HASHES_BLOCK_BYTES + 1) * CL_HASHES_BLOCK_BYTES)
		hashes->chunks[i].hashed->round[(vaddr - start) / CL_HASHES_BLOCK_BYTES] = round;
}

bool cl_hashes_changes(const struct cl_hashes *hashes, int32_t id, uint64_t vaddr)
{
	uint64_t start = vaddr / CL_HASHES_BYTES * CL_HASHES_BYTES;
	size_t i = search(hashes, id, start);

	return is_at(hashes, i, id, start) &&
	       hashes->chunks[i].hashed->round[(vaddr - start) / CL_HASHES_BLOCK_BYTES] == hashes->last_round;
}
