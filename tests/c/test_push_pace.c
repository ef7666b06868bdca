/* SPDX-License-Identifier: Apache-2.0 */
/* The pace of a rate (push_batch.h): what was sent counts, however often the rate is told. */
#include <stdint.h>

#include "base/deadline.h"
#include "check.h"
#include "source/push_batch.h"

enum { MB = 1000000 };

int main(void)
{
	struct cl_push_pace pace = { 0 };
	uint64_t until_us;

	CHECK(cl_push_pace_held_until(&pace) == 0 && cl_push_pace_batch_pages(&pace) == CL_PUSH_BATCH_PAGES);
	cl_push_pace_set(&pace, MB);
	CHECK(cl_push_pace_held_until(&pace) == 0);
	cl_push_pace_charge(&pace, 100 * MB);
	until_us = cl_push_pace_held_until(&pace);
	CHECK(until_us > cl_now_us() + 90 * 1000000ull);

	/* The same, once more; a lower one doesn't hold for longer what was sent at this one; a higher one for less. */
	cl_push_pace_set(&pace, MB);
	CHECK(cl_push_pace_held_until(&pace) == until_us);
	cl_push_pace_set(&pace, MB / 100);
	CHECK(cl_push_pace_held_until(&pace) == until_us);
	cl_push_pace_set(&pace, MB / 10);
	CHECK(cl_push_pace_held_until(&pace) < cl_now_us() + 11 * 1000000ull);
	CHECK(cl_push_pace_held_until(&pace) > cl_now_us());

	/* What a socket has is owed, and not once more what was charged. */
	cl_push_pace_set(&pace, 0);
	CHECK(cl_push_pace_held_until(&pace) == 0);
	cl_push_pace_owe(&pace, MB);
	CHECK(cl_push_pace_held_until(&pace) == 0);
	cl_push_pace_set(&pace, MB);
	cl_push_pace_owe(&pace, 50 * MB);
	until_us = cl_push_pace_held_until(&pace);
	CHECK(until_us > cl_now_us() + 40 * 1000000ull);
	cl_push_pace_owe(&pace, MB);
	CHECK(cl_push_pace_held_until(&pace) == until_us);

	/* Batches: of little time. */
	CHECK(cl_push_pace_batch_pages(&pace) == 3);
	cl_push_pace_set(&pace, 10 * MB);
	CHECK(cl_push_pace_batch_pages(&pace) == 8);
	cl_push_pace_set(&pace, 120 * MB);
	CHECK(cl_push_pace_batch_pages(&pace) == 30);
	cl_push_pace_set(&pace, 1000ull * MB);
	CHECK(cl_push_pace_batch_pages(&pace) == CL_PUSH_BATCH_PAGES);
	return 0;
}
