/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page_hashes: of each page that a store has been sent, 128 bits: so that it need not be sent again. By task and address, in
 * chunks of CL_HASHES_PAGES pages; about 16 bytes a page. And where pages were sent in the last round. The hash is keyed by
 * random bytes that never leave this process, so nobody can make pages that are taken for others. No I/O, no lock: who changes
 * a table is alone with it, but for the hashes themselves, of which each may be written by another thread.
 *
 * Built without CL_WITH_XXHASH there are none, and cl_hashes_supported() says so.
 */
#ifndef CL_PAGE_HASHES_H
#define CL_PAGE_HASHES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/page.h"

enum {
	CL_HASHES_PAGES = 512,
	CL_HASHES_BYTES = CL_HASHES_PAGES * CL_PAGE_SIZE,
	CL_HASHES_BLOCK_PAGES = 64,
	CL_HASHES_BLOCK_BYTES = CL_HASHES_BLOCK_PAGES * CL_PAGE_SIZE,
};

struct cl_hash {
	uint64_t low, high; /* both 0: none */
};

struct cl_hashes;

bool cl_hashes_supported(void);

/* NULL without memory or random bytes. */
struct cl_hashes *cl_hashes_new(void);
void cl_hashes_free(struct cl_hashes *hashes);

/* Forget all. */
void cl_hashes_clear(struct cl_hashes *hashes);

/* A page's; never none. */
struct cl_hash cl_hashes_of(const struct cl_hashes *hashes, const uint8_t *page);

static inline bool cl_hash_is(struct cl_hash a, struct cl_hash b)
{
	return a.low == b.low && a.high == b.high;
}

/* The place of the hash of task `id`'s page at vaddr; the following pages' come after it, up to the next multiple of
 * CL_HASHES_BYTES. Valid until the table is cleared. NULL without memory. */
struct cl_hash *cl_hashes_at(struct cl_hashes *hashes, int32_t id, uint64_t vaddr);

/* The same, if there is one: else NULL. Any thread, as long as nobody changes the table. */
const struct cl_hash *cl_hashes_find(const struct cl_hashes *hashes, int32_t id, uint64_t vaddr);

/*
 * In this round (1..) some of nr_pages from vaddr on were sent, of which there are hashes; up to the next multiple of
 * CL_HASHES_BYTES.
 */
void cl_hashes_note_sent(struct cl_hashes *hashes, int32_t id, uint64_t vaddr, uint64_t nr_pages, uint64_t round);

/*
 * Whether pages of the block of CL_HASHES_BLOCK_BYTES around vaddr were sent in the last round: what was written lately is
 * likely to have been written again. Any thread, as cl_hashes_find().
 */
bool cl_hashes_changes(const struct cl_hashes *hashes, int32_t id, uint64_t vaddr);

#endif
