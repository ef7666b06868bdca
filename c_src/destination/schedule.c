/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/schedule.h"

#include <errno.h>
#include <stdlib.h>

void cl_schedule_free(struct cl_schedule *schedule)
{
	int source;

	for (source = 0; source < CL_SOURCES; source++)
		free(schedule->demand[source]);
}

static int push_demand(struct cl_schedule *schedule, enum cl_source source, struct cl_demand demand)
{
	size_t max = schedule->max_demand[source],
	       used = (size_t)(schedule->demand_in[source] - schedule->demand_out[source]);

	if (used == max) {
		struct cl_demand *ring = reallocarray(NULL, max ? max * 2 : 64, sizeof(*ring));
		size_t i;

		if (!ring)
			return -ENOMEM;
		for (i = 0; i < used; i++)
			ring[i] = schedule->demand[source][(schedule->demand_out[source] + i) % max];
		free(schedule->demand[source]);
		schedule->demand[source] = ring;
		schedule->max_demand[source] = max ? max * 2 : 64;
		schedule->demand_out[source] = 0;
		schedule->demand_in[source] = used;
	}
	schedule->demand[source][schedule->demand_in[source]++ % schedule->max_demand[source]] = demand;
	return 0;
}

int cl_schedule_fault(struct cl_schedule *schedule, struct cl_image *image, uint64_t index)
{
	enum cl_source source = cl_image_source(image, index);
	int ret;

	cl_readahead_fault(&schedule->readahead[source], image, index);
	if (!cl_image_is_todo(image, source, index))
		return 0;
	ret = push_demand(schedule, source, (struct cl_demand){ .image = image, .index = index });
	return ret < 0 ? ret : 1;
}

int cl_schedule_fault_again(struct cl_schedule *schedule, struct cl_image *image, uint64_t index)
{
	const struct cl_demand demand = { .image = image, .index = index, .again = true };

	return push_demand(schedule, cl_image_source(image, index), demand);
}

bool cl_schedule_demand(struct cl_schedule *schedule, enum cl_source source, struct cl_pick *pick)
{
	while (cl_schedule_has_demand(schedule, source)) {
		struct cl_demand *demand =
			&schedule->demand[source][schedule->demand_out[source]++ % schedule->max_demand[source]];

		/* Asked for meanwhile, by another thread's fault or in the background. */
		if (!cl_image_is_todo(demand->image, source, demand->index))
			continue;
		pick->image = demand->image;
		pick->again = demand->again;
		pick->nr_pages = cl_image_take(demand->image, source, demand->index, false, 1, &pick->index);
		return true;
	}
	return false;
}

bool cl_schedule_background(struct cl_schedule *schedule, enum cl_source source, uint64_t max_pages, struct cl_pick *pick)
{
	struct cl_image *first = schedule->turn[source] ? schedule->turn[source] : schedule->images;
	struct cl_image *image = first;
	struct cl_guess guess;

	if (!image)
		return false;
	if (cl_readahead_next(&schedule->readahead[source], source, schedule->rate, &max_pages, &guess)) {
		*pick = (struct cl_pick){ .image = guess.image, .index = guess.index, .nr_pages = guess.nr_pages };
		return true;
	}
	do {
		uint64_t from = image->background[source] < image->nr_pages ? image->background[source] : 0;

		pick->nr_pages = cl_image_take(image, source, from, true, max_pages, &pick->index);
		if (pick->nr_pages) {
			pick->image = image;
			image->background[source] = pick->index + pick->nr_pages;
			schedule->turn[source] = image->next;
			return true;
		}
		image = image->next ? image->next : schedule->images;
	} while (image != first);
	return false;
}
