/* SPDX-License-Identifier: Apache-2.0 */
/* stress: what the engine's side (stress_engine.c) and the task's side (stress_task.c) must agree on. */
#ifndef STRESS_H
#define STRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "check.h"
#include "wire/page_protocol.h"

enum {
	THREADS = 4,
	SLICE_PAGES = 1024, /* of each thread */
	PAGES = THREADS * SLICE_PAGES,
	PID = 4711,
	WORDS = CL_PAGE_SIZE / 8,
};

/* ---- what pages hold ---- */

/* Every 8th page was not in the images: it reads as zeroes. */
static inline bool is_lazy(uint64_t page)
{
	return page % 8 != 7;
}

/* Every other word is the same in all of a page, so that it shrinks. */
static inline uint64_t word_at_dump(uint64_t page, unsigned int word)
{
	uint64_t state = page << 16 | (word % 2 ? 1 : word);

	return next_random(&state) | 1;
}

#define BASE ((uint8_t *)(uintptr_t)(0x100000000ull * CL_PAGE_SIZE)) /* page number % 2^20 is 0 there */

#endif
