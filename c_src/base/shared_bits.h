/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shared_bits: bitmaps of which a copy costs little, as both share what neither has changed since (copy on write): a bitmap
 * is a table of chunks of a pool, a chunk has CL_CHUNK_BITS bits. Ranges are [from, to), inside the bitmap.
 *
 * A pool may lie in a file, and a bitmap's table be mirrored in one. What is there is then right at any moment, whenever
 * this process is killed: another can go on with it.
 *
 * Only what makes a bitmap can fail: it also sees to it that there is room for all that its changes may take.
 *
 * No lock of its own.
 */
#ifndef CL_SHARED_BITS_H
#define CL_SHARED_BITS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef CL_CHUNK_BITS /* tests have smaller ones; a page of the file holds a whole number of them, or the other way round */
#define CL_CHUNK_BITS (1U << 17)
#endif

struct cl_chunk_use {
	uint32_t users;  /* the bitmaps that have it */
	uint32_t nr_set; /* its bits that are set */
};

struct cl_chunk_pool {
	int fd;             /* of the file, its owner's; -1: all chunks are in memory of this process */
	uint64_t at, bytes; /* where in the file the pool lies, and how large it may become */
	uint64_t **windows; /* address ranges, each of so many chunks */
	size_t nr_windows, max_windows;
	struct cl_chunk_use *use; /* by chunk */
	size_t max_use;
	uint32_t *free;
	size_t nr_free, max_free;
	uint32_t nr, nr_in_file; /* chunks that have memory; the first so many have it in the file */
	uint32_t nr_found;       /* that the file had when it was opened */
	bool are_unclaimed;      /* these: whoever has none of them may not be known yet */
	uint64_t nr_wanted;      /* that all bitmaps have at the most */
};

#define CL_CHUNKS_IN_MEMORY ((struct cl_chunk_pool){ .fd = -1 })

struct cl_shared_bits {
	struct cl_chunk_pool *pool;
	uint32_t *chunks; /* NULL: there is no bitmap */
	uint64_t nr_bits;
	_Atomic uint32_t *mirror; /* a copy of the table, for another process; NULL: there is none */
};

static inline size_t cl_shared_bits_chunks(uint64_t nr_bits)
{
	return (size_t)((nr_bits + CL_CHUNK_BITS - 1) / CL_CHUNK_BITS);
}

/* An empty pool in `bytes` of a file, which is not closed before the pool is freed. */
void cl_chunk_pool_new(struct cl_chunk_pool *pool, int fd, uint64_t at, uint64_t bytes);

/*
 * The pool that another process had there: each bitmap that is still of use is to be claimed, then the rest is free.
 * 0, -EBADMSG, -ENOMEM or -errno; the pool is to be freed in any case.
 */
int cl_chunk_pool_open(struct cl_chunk_pool *pool, int fd, uint64_t at, uint64_t bytes);
void cl_chunk_pool_free_unclaimed(struct cl_chunk_pool *pool);

/* Whether the file had no room for all: whoever opens it later finds that it is of no use. */
bool cl_chunk_pool_left_file(const struct cl_chunk_pool *pool);

/* No bitmap of it is in use any more. */
void cl_chunk_pool_free(struct cl_chunk_pool *pool);

/* One of so many bits, all of this value. 0 or -ENOMEM. */
int cl_shared_bits_new(struct cl_shared_bits *bits, struct cl_chunk_pool *pool, uint64_t nr_bits, bool value);

/* A copy, without a mirror. 0 or -ENOMEM. */
int cl_shared_bits_copy(struct cl_shared_bits *copy, const struct cl_shared_bits *bits);

/* The same of the chunks that hold [from, to), which isn't empty: bit 0 of the copy is bit cl_shared_bits_chunk_of(from). */
int cl_shared_bits_copy_part(struct cl_shared_bits *copy, const struct cl_shared_bits *bits, uint64_t from, uint64_t to);

static inline uint64_t cl_shared_bits_chunk_of(uint64_t bit)
{
	return bit / CL_CHUNK_BITS * CL_CHUNK_BITS;
}

/* The bitmap that another process had, of the pool that was opened; without a mirror yet. 0, -EBADMSG or -ENOMEM. */
int cl_shared_bits_claim(struct cl_shared_bits *bits, struct cl_chunk_pool *pool, const _Atomic uint32_t *mirror,
			 uint64_t nr_bits);

/* From now on the table is mirrored there. */
void cl_shared_bits_set_mirror(struct cl_shared_bits *bits, _Atomic uint32_t *mirror);

/* Harmless without a bitmap. Its mirror stays as it is: if the pool is of use any longer, no bit may be set there. */
void cl_shared_bits_free(struct cl_shared_bits *bits);

/* As those of bits.h. */
bool cl_shared_bits_get(const struct cl_shared_bits *bits, uint64_t bit);
uint64_t cl_shared_bits_find(const struct cl_shared_bits *bits, uint64_t from, uint64_t to, bool value);
uint64_t cl_shared_bits_find_last(const struct cl_shared_bits *bits, uint64_t from, uint64_t to, bool value);
uint64_t cl_shared_bits_count(const struct cl_shared_bits *bits, uint64_t from, uint64_t to);
uint64_t cl_shared_bits_assign(struct cl_shared_bits *bits, uint64_t from, uint64_t to, bool value);

/* Bits [64 * word, 64 * (word + 1)); of those beyond the last one nothing is said. */
uint64_t cl_shared_bits_word(const struct cl_shared_bits *bits, uint64_t word);

/* Of these: set or clear those that `mask` has, none of them beyond the last one. How many changed. */
uint64_t cl_shared_bits_assign_word(struct cl_shared_bits *bits, uint64_t word, uint64_t mask, bool value);

/* Of bits [number * CL_CHUNK_BITS, (number + 1) * CL_CHUNK_BITS): none is set. And: all are, as far as is known at once. */
bool cl_shared_bits_chunk_is_clear(const struct cl_shared_bits *bits, size_t number);
bool cl_shared_bits_chunk_is_full(const struct cl_shared_bits *bits, size_t number);
/* They are the same in both, as is known without looking at them. */
bool cl_shared_bits_chunk_is_same(const struct cl_shared_bits *a, const struct cl_shared_bits *b, size_t number);

#endif
