/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/requests.h"

#include "base/thread.h"
#include "destination/engine.h"
#include "destination/page_source.h"
#include "destination/reconnect.h"

enum { REQUESTS_A_SEND = 128 };

/* An image some of whose pages are at the page server, needed or not; NULL if there is none. */
struct cl_image *cl_requests_first_image(struct cl_engine *engine)
{
	struct cl_image *image;

	for (image = engine->images; image; image = image->next)
		if (image->nr_locals < image->nr_extents)
			return image;
	return NULL;
}

/* The next request that may be sent now. */
static bool next_request(struct cl_engine *engine, struct cl_pick *pick)
{
	uint64_t bytes;

	if (cl_remote_full(&engine->remote))
		return false;
	if (cl_schedule_demand(&engine->schedule, CL_REMOTE, pick))
		return true;
	bytes = engine->restored ? cl_flow_allowance(&engine->flow, cl_now_us()) : 0;
	if (!bytes)
		return false;
	engine->schedule.rate = engine->flow.starting ? 0 : engine->flow.rate;
	if (cl_schedule_background(&engine->schedule, CL_REMOTE, bytes / CL_PAGE_SIZE, pick))
		return true;
	cl_flow_starved(&engine->flow);
	return false;
}

void cl_requests_ask(struct cl_engine *engine)
{
	size_t header_bytes = cl_wire_header_bytes(engine->remote.version), bytes;
	uint8_t out[REQUESTS_A_SEND * CL_WIRE_MAX_BYTES];
	struct cl_pick pick;
	bool byte_ahead;
	int ret;

	engine->sending = true;
	while (!engine->stopping && !engine->lost) {
		for (bytes = 0; bytes + header_bytes <= sizeof(out) && next_request(engine, &pick); bytes += header_bytes) {
			struct cl_request request = { .image = pick.image,
						      .index = pick.index,
						      .nr_pages = (uint32_t)pick.nr_pages };

			cl_remote_ask(&engine->remote, &request, out + bytes);
			cl_flow_asked(&engine->flow, pick.nr_pages * CL_PAGE_SIZE + header_bytes, cl_now_us());
			engine->stats.requests++;
		}
		if (!bytes)
			break;
		/* As long as no task runs here: whatever kills this process, the source's task lives. */
		byte_ahead = !engine->restored;
		cl_engine_work_is_there(engine);
		pthread_mutex_unlock(&engine->lock);
		ret = cl_remote_send(&engine->remote, out, bytes, byte_ahead);
		pthread_mutex_lock(&engine->lock);
		if (ret < 0)
			cl_engine_send_failed(engine, ret);
	}
	engine->sending = false;
	if (engine->lost) /* whoever is to connect again waits for us */
		pthread_cond_signal(&engine->work);
	if (cl_remote_idle(&engine->remote)) /* cl_requests_wait_until_idle() waits for both */
		pthread_cond_broadcast(&engine->gate);
}

/* Before anything is asked: protect the source's tasks (source_stock.h). 0 or -errno. */
int cl_requests_byte_ahead(struct cl_engine *engine)
{
	if (!engine->has_remote || !cl_requests_first_image(engine))
		return 0;
	return cl_remote_send(&engine->remote, NULL, 0, true);
}

/* Nothing was asked since: end the request that was begun, for a page that nobody needs. Lock held. */
void cl_requests_complete_byte_ahead(struct cl_engine *engine)
{
	struct cl_image *image = cl_requests_first_image(engine);
	const struct cl_extent *extent = image->extents;

	while (cl_extent_source(extent) != CL_REMOTE)
		extent++;
	/* As a demand page it is asked for at once. It is in no bitmap of missing pages: it will be dropped. */
	cl_image_set_todo(image, CL_REMOTE, extent->first, extent->first + 1, true);
	if (cl_schedule_fault(&engine->schedule, image, extent->first) > 0)
		cl_engine_ask(engine);
}

void cl_requests_wait_until_idle(struct cl_engine *engine, uint64_t until_us)
{
	int ret = 0;

	while (ret == 0 && !engine->stopping &&
	       (engine->sending || engine->receiving || engine->lost || !cl_remote_idle(&engine->remote)))
		ret = cl_cond_wait(&engine->gate, &engine->lock, until_us);
}

static int close_requests(struct cl_engine *engine, struct cl_error *error)
{
	int ret;

	engine->receiving = engine->sending = true;
	pthread_mutex_unlock(&engine->lock);
	ret = cl_remote_close(&engine->remote, error);
	pthread_mutex_lock(&engine->lock);
	engine->receiving = engine->sending = false;
	return ret;
}

/* ---- what a source that answers requests has no need of ---- */

static void nothing(struct cl_engine *engine)
{
	(void)engine;
}

static int nothing_to_start(struct cl_engine *engine)
{
	(void)engine;
	return 0;
}

static int nothing_to_say(struct cl_engine *engine, struct cl_error *error)
{
	(void)engine;
	(void)error;
	return 0;
}

static void nobody_to_tell(struct cl_engine *engine, int32_t pid, uint64_t nr_pages, int signal)
{
	(void)engine;
	(void)pid;
	(void)nr_pages;
	(void)signal;
}

static void nothing_to_put_back(struct cl_engine *engine, struct cl_image *image, uint64_t index)
{
	(void)engine; /* cl_remote_forget() has put all requests back */
	(void)image;
	(void)index;
}

static bool always_parked(const struct cl_engine *engine)
{
	(void)engine;
	return true;
}

static unsigned int no_streams(const struct cl_engine *engine)
{
	(void)engine;
	return 0;
}

static void each_of_none(struct cl_engine *engine, void (*each)(const struct cl_engine *engine, int fd))
{
	(void)engine;
	(void)each;
}

const struct cl_page_source cl_requests_source = {
	.keeps_tasks = false,
	.ask = cl_requests_ask,
	.tell_missing = nothing,
	.tell_lost = nobody_to_tell,
	.close = close_requests,
	.begin_again = nothing_to_say,
	.put_back = nothing_to_put_back,
	.is_parked = always_parked,
	.nr_streams = no_streams,
	.each_stream = each_of_none,
	.shut_down = nothing,
	.start = nothing_to_start,
	.join = nothing,
	.free = nothing,
};
