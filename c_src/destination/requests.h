/* SPDX-License-Identifier: Apache-2.0 */
/*
 * requests: the page source that answers requests and no more, a stock `criu dump --lazy-pages` or what stands in for
 * one: what is asked for when. The connection itself is source_stock.h's.
 *
 * As long as no task runs here, the first byte of the next request is always sent ahead: should this process be killed,
 * the dump reads half a header, gives up, and the source's tasks run on.
 */
#ifndef CL_REQUESTS_H
#define CL_REQUESTS_H

#include "destination/page_source.h"

extern const struct cl_page_source cl_requests_source;

/* Ask for what the schedule wants and the window allows: cl_page_source's ask. */
void cl_requests_ask(struct cl_engine *engine);

/* An image some of whose pages are at the page server, needed or not; NULL if there is none. */
struct cl_image *cl_requests_first_image(struct cl_engine *engine);

/* Before anything is asked: send the byte ahead. No other thread yet. 0 or -errno. */
int cl_requests_byte_ahead(struct cl_engine *engine);

/* Nothing was asked since: end the request that was begun, for a page that nobody needs. Lock held. */
void cl_requests_complete_byte_ahead(struct cl_engine *engine);

/* Wait until nothing is in flight, on a connection that stands; no longer than until_us, if it isn't 0. Lock held. */
void cl_requests_wait_until_idle(struct cl_engine *engine, uint64_t until_us);

#endif
