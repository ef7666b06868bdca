/* SPDX-License-Identifier: Apache-2.0 */
/*
 * readahead and schedule: a stream is recognised by its faults and followed, whatever else faults in between; whatever
 * the faults, every page is handed out once, in runs inside one extent.
 */
#include <string.h>

#include "base/bits.h"
#include "check.h"
#include "destination/readahead.h"
#include "destination/schedule.h"
#include "wire/page_protocol.h"

enum { PAGES = 20000, EXTENT = 700, LINK_RATE = 120000000, SLOW_RATE = 12000000 };

static struct cl_image *make_image(int32_t pid)
{
	static struct cl_chunk_pool todo_chunks = CL_CHUNKS_IN_MEMORY;
	struct cl_vma vma = { 0x100000, 0x100000 + (uint64_t)PAGES * CL_PAGE_SIZE, 0 };
	struct cl_image *image = cl_image_new(pid, &vma, 1);
	uint64_t page, nr;

	CHECK(image);
	for (page = 0; page < PAGES; page += nr) {
		nr = PAGES - page < EXTENT ? PAGES - page : EXTENT;
		CHECK(cl_image_append(image, vma.start + page * CL_PAGE_SIZE, nr, NULL) == 0);
	}
	CHECK(cl_image_seal(image, &todo_chunks) == 0);
	return image;
}

/* A thread waits for this page; demand comes first, so it is taken. */
static void fault(struct cl_readahead *readahead, struct cl_image *image, uint64_t index)
{
	uint64_t taken;

	cl_readahead_fault(readahead, image, index);
	if (cl_image_is_todo(image, CL_REMOTE, index))
		CHECK(cl_image_take(image, CL_REMOTE, index, false, 1, &taken) == 1 && taken == index);
}

static struct cl_guess guess(struct cl_readahead *readahead, uint64_t max_pages)
{
	struct cl_guess next;

	CHECK(cl_readahead_next(readahead, CL_REMOTE, SLOW_RATE, &max_pages, &next));
	CHECK(next.nr_pages >= 1 && next.nr_pages <= max_pages);
	return next;
}

/* clang-format off */
#define WITH_IMAGE(body) \
	do { \
		struct cl_readahead ahead; \
		struct cl_image *image = make_image(1); \
		struct cl_guess next; \
		memset(&ahead, 0, sizeof(ahead)); \
		body \
		cl_image_free_spaces(image); \
		cl_image_free(image); \
	} while (0)
/* clang-format on */

static void test_streams(void)
{
	int64_t i;

	/* A lone fault: the task works there. */
	WITH_IMAGE({
		fault(&ahead, image, 5000);
		next = guess(&ahead, 8);
		CHECK(next.index == 5001 && next.nr_pages == 8);
	});
	/* Up, although another thread faults elsewhere last. */
	WITH_IMAGE({
		for (i = 0; i < 20; i++)
			fault(&ahead, image, 1000 + i);
		next = guess(&ahead, 8);
		CHECK(next.index == 1020 && next.nr_pages == 8);
		fault(&ahead, image, 9000);
		(void)guess(&ahead, 8); /* its first few */
		next = guess(&ahead, 8);
		CHECK(next.index == 1028 && next.nr_pages == 8);
	});
	/* Down. A run doesn't cross an extent's border (4900). */
	WITH_IMAGE({
		for (i = 0; i < 20; i++)
			fault(&ahead, image, 4922 - i);
		next = guess(&ahead, 8);
		CHECK(next.index == 4900 && next.nr_pages == 3);
		next = guess(&ahead, 8);
		CHECK(next.index == 4892 && next.nr_pages == 8);
	});
	/* By wide steps, in the midst of others' random faults. */
	WITH_IMAGE({
		uint64_t random = 1;
		uint64_t at = 4500;

		for (i = 0; i < 4; i++) {
			fault(&ahead, image, next_random(&random) % PAGES);
			fault(&ahead, image, 500 + (uint64_t)i * 1000);
		}
		for (i = 0; i < 12; i++) {
			next = guess(&ahead, 8);
			if (next.nr_pages > 1) /* next to one of the others */
				continue;
			CHECK(next.index == at);
			at += 1000;
		}
		CHECK(at >= 4500 + 8 * 1000);
	});
	/* Downwards by wide steps. */
	WITH_IMAGE({
		for (i = 0; i < 4; i++)
			fault(&ahead, image, (uint64_t)(15000 - i * 1000));
		next = guess(&ahead, 8);
		CHECK(next.index == 11000 && next.nr_pages == 1);
	});
	/* By small steps: the pages between are left for later. */
	WITH_IMAGE({
		for (i = 0; i < 5; i++)
			fault(&ahead, image, 300 + i * 3);
		next = guess(&ahead, 8);
		CHECK(next.index == 315 && next.nr_pages == 1);
		next = guess(&ahead, 8);
		CHECK(next.index == 318 && next.nr_pages == 1);
	});
	/* A round that is over is followed by the next one, one page on. */
	WITH_IMAGE({
		for (i = 0; i < 4; i++)
			fault(&ahead, image, i * 4000);
		next = guess(&ahead, 8);
		CHECK(next.index == 16000);
		for (i = 0; i < 5; i++) {
			next = guess(&ahead, 8);
			CHECK(next.index == (uint64_t)i * 4000 + 1 && next.nr_pages == 1);
		}
	});
	/* A cluster: both sides. */
	WITH_IMAGE({
		bool above = false;
		bool below = false;

		fault(&ahead, image, 7000);
		fault(&ahead, image, 7006);
		fault(&ahead, image, 6995);
		for (i = 0; i < 2; i++) {
			next = guess(&ahead, 8);
			CHECK(next.index >= 6980 && next.index < 7020);
			above |= next.index > 7000;
			below |= next.index < 7000;
		}
		CHECK(above && below);
	});
	/* Eight threads, interleaved: each one's stream is served. */
	WITH_IMAGE({
		bool served[8] = { false };
		int64_t t;

		for (i = 0; i < 6; i++)
			for (t = 0; t < 8; t++)
				fault(&ahead, image, (uint64_t)(t * 2000 + i));
		for (i = 0; i < 8; i++) {
			next = guess(&ahead, 4);
			CHECK(next.index % 2000 == 6);
			served[next.index / 2000] = true;
		}
		for (t = 0; t < 8; t++)
			CHECK(served[t]);
	});
}

/* Of 100 guesses for a strided task those which leave the turn to long requests; *pages: that these are to have. */
static unsigned int nr_longs(struct cl_readahead *ahead, struct cl_guess *next, uint64_t *pages)
{
	unsigned int i, longs = 0;

	for (*pages = 0, i = 0; i < 100; i++) {
		uint64_t max_pages = 4;

		if (!cl_readahead_next(ahead, CL_REMOTE, LINK_RATE, &max_pages, next)) {
			longs++;
			CHECK(max_pages > 4);
			*pages += max_pages;
		}
	}
	return longs;
}

/* On a fast link requests of single pages take turns with long ones; on a slow one they may stay alone. */
static void test_singles(void)
{
	uint64_t before, after;
	unsigned int longs;
	int64_t i;

	WITH_IMAGE({
		for (i = 0; i < 4; i++)
			fault(&ahead, image, (uint64_t)i * 70);
		longs = nr_longs(&ahead, &next, &before);
		CHECK(longs >= 6 && longs <= 50);
		/* Less comes than the link has shown to carry: more of the long ones; and back, when it is all right. */
		for (i = 0; i < 10; i++)
			cl_readahead_delivered(&ahead, LINK_RATE / 4 * 3);
		(void)nr_longs(&ahead, &next, &after);
		CHECK(after > before * 3 / 2);
		for (i = 0; i < 300; i++)
			cl_readahead_delivered(&ahead, LINK_RATE);
		(void)nr_longs(&ahead, &next, &after);
		CHECK(after < before * 5 / 4);
	});
	WITH_IMAGE({
		for (i = 0; i < 4; i++)
			fault(&ahead, image, (uint64_t)i * 70);
		for (i = 0; i < 50; i++) {
			next = guess(&ahead, 4);
			CHECK(next.nr_pages == 1);
		}
	});
}

/* Any faults, two images: the schedule hands out every page once, and comes to an end. */
static void test_every_page_once(uint64_t random)
{
	struct cl_image *images[2] = { make_image(1), make_image(2) };
	struct cl_schedule schedule;
	bool taken[2][PAGES] = { { false } };
	uint64_t nr_taken = 0, near = 0, i;
	struct cl_pick pick;

	memset(&schedule, 0, sizeof(schedule));
	images[0]->next = images[1];
	schedule.images = images[0];
	schedule.rate = random % 2 ? LINK_RATE : SLOW_RATE;
	for (;;) {
		bool demand;

		if (next_random(&random) % 4 == 0) {
			uint64_t which = next_random(&random) % 2;

			/* at random, side by side, the first and the last */
			/* clang-format off */
			switch (next_random(&random) % 8) {
			case 0: near = next_random(&random) % PAGES; break;
			case 1: near = 0; break;
			case 2: near = PAGES - 1; break;
			case 3: near = near ? near - 1 : 0; break;
			case 4: near = (near + 900) % PAGES; break;
			default: near = (near + 1) % PAGES; break;
			}
			/* clang-format on */
			CHECK(cl_schedule_fault(&schedule, images[which], near) >= 0);
		}
		demand = cl_schedule_demand(&schedule, CL_REMOTE, &pick);
		if (!demand && !cl_schedule_background(&schedule, CL_REMOTE, 1 + next_random(&random) % 20, &pick))
			break;
		CHECK(pick.nr_pages >= 1 && pick.index + pick.nr_pages <= PAGES);
		CHECK(cl_image_extent(pick.image, pick.index) ==
		      cl_image_extent(pick.image, pick.index + pick.nr_pages - 1));
		for (i = 0; i < pick.nr_pages; i++) {
			CHECK(!taken[pick.image == images[1]][pick.index + i]);
			taken[pick.image == images[1]][pick.index + i] = true;
		}
		nr_taken += pick.nr_pages;
	}
	CHECK(nr_taken == 2 * PAGES);
	cl_schedule_free(&schedule);
	cl_image_free_spaces(images[0]);
	cl_image_free(images[0]);
	cl_image_free_spaces(images[1]);
	cl_image_free(images[1]);
}

static void test_find_last(void)
{
	uint64_t map[4], random = 7, from, to, expected;
	int i;

	for (i = 0; i < 20000; i++) {
		bool value = i % 2;

		map[0] = next_random(&random);
		map[1] = i % 3 ? 0 : ~0ull;
		map[2] = i % 5 ? map[1] : next_random(&random);
		map[3] = next_random(&random) & next_random(&random) & next_random(&random);
		from = next_random(&random) % 256;
		to = from + next_random(&random) % (257 - from);
		for (expected = to; expected > from && cl_bit_get(map, expected - 1) != value; expected--)
			;
		CHECK(cl_bits_find_last(map, from, to, value) == expected);
	}
}

int main(void)
{
	uint64_t seed;

	test_find_last();
	test_streams();
	test_singles();
	for (seed = 1; seed <= 20; seed++)
		test_every_page_once(seed);
	return 0;
}
