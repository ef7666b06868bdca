/* SPDX-License-Identifier: Apache-2.0 */
/* check: what the C test programs share. A failed CHECK says where and ends the program with status 1. */
#ifndef CHECK_H
#define CHECK_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
			_Exit(1); \
		} \
	} while (0)

/* A repeatable stream of numbers (splitmix64). */
static inline uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9E3779B97F4A7C15ull;

	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
	z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
	return z ^ (z >> 31);
}

/* A protobuf varint, of at most 10 bytes; returns how many. */
static inline size_t put_varint(uint8_t *out, uint64_t value)
{
	size_t at = 0;

	for (; value > 127; value >>= 7)
		out[at++] = (uint8_t)(value | 0x80);
	out[at++] = (uint8_t)value;
	return at;
}

#endif
