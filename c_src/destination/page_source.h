/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page_source: the interface to the server of missing pages. An engine has one at a time: at first a
 * page server that answers requests and no more (requests.h); one that pushes (source_push.h) from the moment that it
 * agrees to, for good.
 *
 * All functions: engine's lock held unless they say otherwise. None is NULL.
 */
#ifndef CL_PAGE_SOURCE_H
#define CL_PAGE_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

struct cl_engine;
struct cl_error;
struct cl_image;

struct cl_page_source {
	/* It keeps the source's tasks, whatever becomes of this client, and can be connected to again. */
	bool keeps_tasks;

	/* Send what is to be asked for now. Nobody sends, the connection stands. Dropped while sending. */
	void (*ask)(struct cl_engine *engine);

	/* All tasks are restored, so it is known what is missing: tell, where it is to be told. Dropped while sending. */
	void (*tell_missing)(struct cl_engine *engine);

	/* A restored task was killed by `signal` (0: not known) with pages missing: tell, where there are ears for it. */
	void (*tell_lost)(struct cl_engine *engine, int32_t pid, uint64_t nr_pages, int signal);

	/* Nothing is missing: tell the server, and hear that it knows. Dropped while waiting. 0 or error->code. */
	int (*close)(struct cl_engine *engine, struct cl_error *error);

	/* A new connection stands in place of one that was lost. Dropped while waiting. 0 or error->code. */
	int (*begin_again)(struct cl_engine *engine, struct cl_error *error);

	/* Page `index` is waited for, and the session that may have had it under way is lost. */
	void (*put_back)(struct cl_engine *engine, struct cl_image *image, uint64_t index);

	/* No thread has a connection of a lost session in its hands. */
	bool (*is_parked)(const struct cl_engine *engine);

	/* Background connections that pages come by unasked now. */
	unsigned int (*nr_streams)(const struct cl_engine *engine);

	/* Call `each` for the socket of every connection beside the engine's own. */
	void (*each_stream)(struct cl_engine *engine, void (*each)(const struct cl_engine *engine, int fd));

	/* Whoever waits on such a connection returns. */
	void (*shut_down)(struct cl_engine *engine);

	/* Start the source's own threads: 0 or -errno; join them, once engine->stopping is set. Lock not held. */
	int (*start)(struct cl_engine *engine);
	void (*join)(struct cl_engine *engine);

	/* The engine ends. No other thread is left. */
	void (*free)(struct cl_engine *engine);
};

#endif
