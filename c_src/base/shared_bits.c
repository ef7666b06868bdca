/* SPDX-License-Identifier: Apache-2.0 */
#include "base/shared_bits.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/vec.h"

enum {
	WORDS = CL_CHUNK_BITS / 64,
	CHUNK_BYTES = CL_CHUNK_BITS / 8,
	WINDOW = 4096, /* chunks */
	STEP = 16,     /* chunks that get memory at once */
};

#define WINDOW_BYTES ((size_t)WINDOW * CHUNK_BYTES)
#define STEP_BYTES ((size_t)STEP * CHUNK_BYTES)

/*
 * Two chunks that nobody writes to; they lie in no pool. In a pool's place of the first one the file has the number of chunks
 * that it holds.
 */
enum { CLEAR, FULL, FIRST };
static const uint64_t clear_words[WORDS], full_words[WORDS] = { [0 ... WORDS - 1] = ~0ULL };

_Static_assert(WINDOW % STEP == 0 && (int)FIRST < (int)STEP, "a step lies in one window");

static uint64_t *place_of(const struct cl_chunk_pool *pool, uint32_t chunk)
{
	return pool->windows[chunk / WINDOW] + (size_t)(chunk % WINDOW) * WORDS;
}

static const uint64_t *words_of(const struct cl_shared_bits *bits, size_t number)
{
	uint32_t chunk = bits->chunks[number];

	return chunk == CLEAR ? clear_words : chunk == FULL ? full_words : place_of(bits->pool, chunk);
}

/* ---- the pool ---- */

void cl_chunk_pool_new(struct cl_chunk_pool *pool, int fd, uint64_t at, uint64_t bytes)
{
	*pool = (struct cl_chunk_pool){ .fd = fd, .at = at, .bytes = bytes };
}

/* Addresses for so many chunks, which may be written to. 0 or -ENOMEM. */
static int reserve(struct cl_chunk_pool *pool, uint64_t nr)
{
	void *window;

	if (nr > UINT32_MAX)
		return -ENOMEM;
	while ((uint64_t)pool->nr_windows * WINDOW < nr) {
		size_t room = (pool->nr_windows + 1) * WINDOW;

		if (cl_vec_reserve(&pool->use, &pool->max_use, room, CL_VEC_NO_LIMIT) < 0 ||
		    cl_vec_reserve(&pool->free, &pool->max_free, room, CL_VEC_NO_LIMIT) < 0 ||
		    cl_vec_reserve(&pool->windows, &pool->max_windows, pool->nr_windows + 1, CL_VEC_NO_LIMIT) < 0)
			return -ENOMEM;
		window = mmap(NULL, WINDOW_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
			      0);
		if (window == MAP_FAILED)
			return -ENOMEM;
		pool->windows[pool->nr_windows++] = window;
	}
	return 0;
}

/* One more bitmap of so many chunks. */
static int want(struct cl_chunk_pool *pool, size_t nr_chunks)
{
	/* A chunk that was found and is not claimed is not given out before it is known to be free. */
	int ret = reserve(pool, pool->nr_found + pool->nr_wanted + nr_chunks + FIRST + STEP);

	if (ret == 0)
		pool->nr_wanted += nr_chunks;
	return ret;
}

static bool map_step(const struct cl_chunk_pool *pool, uint32_t first)
{
	return mmap(place_of(pool, first), STEP_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, pool->fd,
		    (off_t)(pool->at + (uint64_t)first * CHUNK_BYTES)) != MAP_FAILED;
}

/* A step of chunks gets memory: in the file, as long as it has room; all of it now, as later there would be SIGBUS. */
static void extend(struct cl_chunk_pool *pool)
{
	const uint64_t at = pool->at + (uint64_t)pool->nr * CHUNK_BYTES, nr = pool->nr + STEP;
	uint32_t chunk;

	if (pool->fd >= 0 && pool->nr == pool->nr_in_file && nr * CHUNK_BYTES <= pool->bytes &&
	    fallocate(pool->fd, 0, (off_t)at, STEP_BYTES) == 0 && map_step(pool, pool->nr) &&
	    pwrite(pool->fd, &nr, sizeof(nr), (off_t)pool->at) == sizeof(nr))
		pool->nr_in_file = (uint32_t)nr;
	for (chunk = (uint32_t)nr; chunk-- > pool->nr && chunk >= FIRST;)
		pool->free[pool->nr_free++] = chunk;
	pool->nr = (uint32_t)nr;
}

static uint32_t take(struct cl_chunk_pool *pool)
{
	uint32_t chunk;

	if (!pool->nr_free)
		extend(pool);
	chunk = pool->free[--pool->nr_free];
	pool->use[chunk].users = 1;
	return chunk;
}

static void add_user(struct cl_chunk_pool *pool, uint32_t chunk)
{
	if (chunk >= FIRST)
		pool->use[chunk].users++;
}

static void remove_user(struct cl_chunk_pool *pool, uint32_t chunk)
{
	if (chunk >= FIRST && --pool->use[chunk].users == 0 && !(pool->are_unclaimed && chunk < pool->nr_found))
		pool->free[pool->nr_free++] = chunk;
}

int cl_chunk_pool_open(struct cl_chunk_pool *pool, int fd, uint64_t at, uint64_t bytes)
{
	uint64_t nr;
	uint32_t chunk;
	int ret = 0;

	cl_chunk_pool_new(pool, fd, at, bytes);
	if (pread(fd, &nr, sizeof(nr), (off_t)at) != sizeof(nr) || nr % STEP || nr > bytes / CHUNK_BYTES)
		ret = -EBADMSG;
	if (ret == 0)
		ret = reserve(pool, nr);
	for (chunk = 0; ret == 0 && chunk < nr; chunk += STEP)
		if (!map_step(pool, chunk))
			ret = -errno;
	if (ret == 0) {
		pool->nr = pool->nr_in_file = pool->nr_found = (uint32_t)nr;
		pool->are_unclaimed = true;
		if (nr)
			memset(pool->use, 0, nr * sizeof(*pool->use));
	}
	return ret;
}

void cl_chunk_pool_free_unclaimed(struct cl_chunk_pool *pool)
{
	uint32_t chunk;

	pool->are_unclaimed = false;
	for (chunk = FIRST; chunk < pool->nr_found; chunk++)
		if (!pool->use[chunk].users)
			pool->free[pool->nr_free++] = chunk;
}

bool cl_chunk_pool_left_file(const struct cl_chunk_pool *pool)
{
	return pool->fd >= 0 && pool->nr > pool->nr_in_file;
}

void cl_chunk_pool_free(struct cl_chunk_pool *pool)
{
	while (pool->nr_windows)
		munmap(pool->windows[--pool->nr_windows], WINDOW_BYTES);
	free(pool->windows);
	free(pool->use);
	free(pool->free);
	*pool = CL_CHUNKS_IN_MEMORY;
}

/* ---- making and ending a bitmap ---- */

/* With a table of which nothing is said. 0 or -ENOMEM. */
static int make(struct cl_shared_bits *bits, struct cl_chunk_pool *pool, uint64_t nr_bits)
{
	size_t nr_chunks = cl_shared_bits_chunks(nr_bits);
	uint32_t *chunks = malloc((nr_chunks ? nr_chunks : 1) * sizeof(*chunks));

	if (!chunks || want(pool, nr_chunks) < 0) {
		free(chunks);
		return -ENOMEM;
	}
	*bits = (struct cl_shared_bits){ .pool = pool, .chunks = chunks, .nr_bits = nr_bits };
	return 0;
}

int cl_shared_bits_new(struct cl_shared_bits *bits, struct cl_chunk_pool *pool, uint64_t nr_bits, bool value)
{
	int ret = make(bits, pool, nr_bits);
	size_t i;

	for (i = 0; ret == 0 && i < cl_shared_bits_chunks(nr_bits); i++)
		bits->chunks[i] = value ? FULL : CLEAR;
	return ret;
}

int cl_shared_bits_copy_part(struct cl_shared_bits *copy, const struct cl_shared_bits *bits, uint64_t from, uint64_t to)
{
	uint64_t first = cl_shared_bits_chunk_of(from), end = cl_shared_bits_chunk_of(to - 1) + CL_CHUNK_BITS;
	int ret = make(copy, bits->pool, (end < bits->nr_bits ? end : bits->nr_bits) - first);
	size_t i;

	for (i = 0; ret == 0 && i < cl_shared_bits_chunks(copy->nr_bits); i++) {
		copy->chunks[i] = bits->chunks[first / CL_CHUNK_BITS + i];
		add_user(copy->pool, copy->chunks[i]);
	}
	return ret;
}

int cl_shared_bits_copy(struct cl_shared_bits *copy, const struct cl_shared_bits *bits)
{
	return bits->nr_bits ? cl_shared_bits_copy_part(copy, bits, 0, bits->nr_bits) :
			       cl_shared_bits_new(copy, bits->pool, 0, false);
}

int cl_shared_bits_claim(struct cl_shared_bits *bits, struct cl_chunk_pool *pool, const _Atomic uint32_t *mirror,
			 uint64_t nr_bits)
{
	size_t nr_chunks = cl_shared_bits_chunks(nr_bits), i;
	int ret;

	for (i = 0; i < nr_chunks; i++)
		if (mirror[i] >= FIRST && mirror[i] >= pool->nr_found)
			return -EBADMSG;
	ret = make(bits, pool, nr_bits);
	for (i = 0; ret == 0 && i < nr_chunks; i++) {
		uint32_t chunk = bits->chunks[i] = mirror[i];

		if (chunk >= FIRST && !pool->use[chunk].users)
			pool->use[chunk].nr_set = (uint32_t)cl_bits_count(place_of(pool, chunk), 0, CL_CHUNK_BITS);
		add_user(pool, chunk);
	}
	return ret;
}

void cl_shared_bits_set_mirror(struct cl_shared_bits *bits, _Atomic uint32_t *mirror)
{
	size_t i;

	bits->mirror = mirror;
	for (i = 0; i < cl_shared_bits_chunks(bits->nr_bits); i++)
		atomic_store_explicit(&mirror[i], bits->chunks[i], memory_order_relaxed);
}

/* From now on it has this chunk there, and is one of its users. */
static void set_chunk(struct cl_shared_bits *bits, size_t number, uint32_t chunk)
{
	uint32_t before = bits->chunks[number];

	bits->chunks[number] = chunk;
	/* Release: who finds the chunk there finds its bits; and before another has the old one, it isn't there any more. */
	if (bits->mirror)
		atomic_store_explicit(&bits->mirror[number], chunk, memory_order_release);
	remove_user(bits->pool, before);
}

void cl_shared_bits_free(struct cl_shared_bits *bits)
{
	size_t nr_chunks = cl_shared_bits_chunks(bits->nr_bits), i;

	if (!bits->chunks)
		return;
	for (i = 0; i < nr_chunks; i++)
		remove_user(bits->pool, bits->chunks[i]);
	bits->pool->nr_wanted -= nr_chunks;
	free(bits->chunks);
	*bits = (struct cl_shared_bits){ 0 };
}

/* ---- the bits ---- */

/* The piece of [from, to) in the chunk that holds `from`; in the chunk it ends at *end. Where it begins there. */
static uint64_t piece(uint64_t from, uint64_t to, uint64_t *end)
{
	uint64_t base = from / CL_CHUNK_BITS * CL_CHUNK_BITS;

	*end = to - base < CL_CHUNK_BITS ? to - base : CL_CHUNK_BITS;
	return from - base;
}

bool cl_shared_bits_get(const struct cl_shared_bits *bits, uint64_t bit)
{
	return cl_bit_get(words_of(bits, bit / CL_CHUNK_BITS), bit % CL_CHUNK_BITS);
}

uint64_t cl_shared_bits_word(const struct cl_shared_bits *bits, uint64_t word)
{
	return words_of(bits, word / WORDS)[word % WORDS];
}

uint64_t cl_shared_bits_find(const struct cl_shared_bits *bits, uint64_t from, uint64_t to, bool value)
{
	uint64_t start, end, at;

	for (; from < to; from += end - start) {
		start = piece(from, to, &end);
		if (bits->chunks[from / CL_CHUNK_BITS] == (value ? CLEAR : FULL))
			continue;
		at = cl_bits_find(words_of(bits, from / CL_CHUNK_BITS), start, end, value);
		if (at < end)
			return from - start + at;
	}
	return to;
}

uint64_t cl_shared_bits_find_last(const struct cl_shared_bits *bits, uint64_t from, uint64_t to, bool value)
{
	uint64_t base, start, at;

	for (; from<to; to = base> from ? base : from) {
		base = cl_shared_bits_chunk_of(to - 1);
		start = from > base ? from - base : 0;
		if (bits->chunks[base / CL_CHUNK_BITS] == (value ? CLEAR : FULL))
			continue;
		at = cl_bits_find_last(words_of(bits, base / CL_CHUNK_BITS), start, to - base, value);
		if (at > start)
			return base + at;
	}
	return from;
}

uint64_t cl_shared_bits_count(const struct cl_shared_bits *bits, uint64_t from, uint64_t to)
{
	uint64_t start, end, count = 0;

	for (; from < to; from += end - start) {
		uint32_t chunk = bits->chunks[from / CL_CHUNK_BITS];

		start = piece(from, to, &end);
		if (chunk >= FIRST && end - start == CL_CHUNK_BITS)
			count += bits->pool->use[chunk].nr_set;
		else if (chunk >= FIRST)
			count += cl_bits_count(words_of(bits, from / CL_CHUNK_BITS), start, end);
		else if (chunk == FULL)
			count += end - start;
	}
	return count;
}

/* The chunk, which is this bitmap's alone from now on. */
static uint32_t own_chunk(struct cl_shared_bits *bits, size_t number)
{
	struct cl_chunk_pool *pool = bits->pool;
	uint32_t chunk = bits->chunks[number], own;

	if (chunk >= FIRST && pool->use[chunk].users == 1)
		return chunk;
	own = take(pool);
	memcpy(place_of(pool, own), words_of(bits, number), CHUNK_BYTES);
	pool->use[own].nr_set = chunk == CLEAR ? 0 : chunk == FULL ? CL_CHUNK_BITS : pool->use[chunk].nr_set;
	set_chunk(bits, number, own);
	return own;
}

/* So many of its bits have changed to this value. */
static void count_changed(struct cl_shared_bits *bits, size_t number, uint32_t chunk, uint64_t changed, bool value)
{
	uint32_t *nr_set = &bits->pool->use[chunk].nr_set;

	*nr_set = (uint32_t)(value ? *nr_set + changed : *nr_set - changed);
	if (!*nr_set)
		set_chunk(bits, number, CLEAR);
	else if (*nr_set == CL_CHUNK_BITS)
		set_chunk(bits, number, FULL);
}

/* Of one chunk's bits [start, end). How many changed. */
static uint64_t assign_piece(struct cl_shared_bits *bits, size_t number, uint64_t start, uint64_t end, bool value)
{
	uint32_t chunk = own_chunk(bits, number);
	uint64_t changed = cl_bits_assign(place_of(bits->pool, chunk), start, end, value);

	count_changed(bits, number, chunk, changed, value);
	return changed;
}

uint64_t cl_shared_bits_assign(struct cl_shared_bits *bits, uint64_t from, uint64_t to, bool value)
{
	uint64_t start, end, changed = 0;

	for (; from < to; from += end - start) {
		size_t number = (size_t)(from / CL_CHUNK_BITS);

		start = piece(from, to, &end);
		if (start == 0 && (end == CL_CHUNK_BITS || from + end == bits->nr_bits)) {
			uint64_t set = cl_shared_bits_count(bits, from, from + end);

			changed += value ? end - set : set;
			set_chunk(bits, number, value ? FULL : CLEAR);
		} else if (cl_bits_find(words_of(bits, number), start, end, !value) < end) {
			changed += assign_piece(bits, number, start, end, value);
		}
	}
	return changed;
}

uint64_t cl_shared_bits_assign_word(struct cl_shared_bits *bits, uint64_t word, uint64_t mask, bool value)
{
	uint64_t flips = mask & (value ? ~cl_shared_bits_word(bits, word) : cl_shared_bits_word(bits, word));
	uint64_t changed = (uint64_t)__builtin_popcountll(flips);
	size_t number = word / WORDS;
	uint32_t chunk;

	if (!flips)
		return 0;
	chunk = own_chunk(bits, number);
	place_of(bits->pool, chunk)[word % WORDS] ^= flips;
	count_changed(bits, number, chunk, changed, value);
	return changed;
}

bool cl_shared_bits_chunk_is_clear(const struct cl_shared_bits *bits, size_t number)
{
	return bits->chunks[number] == CLEAR;
}

bool cl_shared_bits_chunk_is_full(const struct cl_shared_bits *bits, size_t number)
{
	return bits->chunks[number] == FULL;
}

bool cl_shared_bits_chunk_is_same(const struct cl_shared_bits *a, const struct cl_shared_bits *b, size_t number)
{
	return a->chunks[number] == b->chunks[number];
}
