/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bits: runs in bitmaps of u64 words, bit i of the map being bit i%64 of word i/64. No allocation, no
 * bounds checks: callers pass ranges inside the map. Ranges are [from, to).
 */
#ifndef CL_BITS_H
#define CL_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline size_t cl_bits_words(uint64_t bits)
{
	return (size_t)((bits + 63) / 64);
}

static inline bool cl_bit_get(const uint64_t *map, uint64_t bit)
{
	return map[bit / 64] >> (bit % 64) & 1;
}

/* The first bit in [from, to) that equals `value`; `to` if there is none. */
static inline uint64_t cl_bits_find(const uint64_t *map, uint64_t from, uint64_t to, bool value)
{
	uint64_t flip = value ? 0 : ~0ULL, word, at;

	while (from < to) {
		word = (map[from / 64] ^ flip) >> (from % 64);
		if (word) {
			at = from + (uint64_t)__builtin_ctzll(word);
			return at < to ? at : to;
		}
		from = (from | 63) + 1;
	}
	return to;
}

/* The end (index + 1) of the last bit in [from, to) that equals `value`; `from` if there is none. */
static inline uint64_t cl_bits_find_last(const uint64_t *map, uint64_t from, uint64_t to, bool value)
{
	uint64_t flip = value ? 0 : ~0ULL, word, end;

	while (from < to) {
		word = (map[(to - 1) / 64] ^ flip) << (63 - (to - 1) % 64);
		if (word) {
			end = to - (uint64_t)__builtin_clzll(word);
			return end > from ? end : from;
		}
		to = (to - 1) & ~63ULL;
	}
	return from;
}

/* Of the word that holds bit `from`: the bits of [from, to). Not empty. */
static inline uint64_t cl_bits_mask(uint64_t from, uint64_t to)
{
	uint64_t mask = ~0ULL << (from % 64), end = (from | 63) + 1;

	return end > to ? mask & ~0ULL >> (end - to) : mask;
}

/* How many bits of [from, to) are set. */
static inline uint64_t cl_bits_count(const uint64_t *map, uint64_t from, uint64_t to)
{
	uint64_t count = 0;

	for (; from < to; from = (from | 63) + 1)
		count += (uint64_t)__builtin_popcountll(map[from / 64] & cl_bits_mask(from, to));
	return count;
}

/* Set or clear [from, to); returns how many bits changed. */
static inline uint64_t cl_bits_assign(uint64_t *map, uint64_t from, uint64_t to, bool value)
{
	uint64_t changed = 0, flips, *word;

	for (; from < to; from = (from | 63) + 1) {
		word = &map[from / 64];
		flips = cl_bits_mask(from, to) & (value ? ~*word : *word);
		/* Counting is a call on a processor that nothing is known of; most words are full or empty. */
		changed += flips == ~0ULL ? 64 : flips ? (uint64_t)__builtin_popcountll(flips) : 0;
		*word ^= flips;
	}
	return changed;
}

#endif
