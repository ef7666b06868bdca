/* SPDX-License-Identifier: Apache-2.0 */
/*
 * precopy_sender: brings pages of tasks that run to a store at the destination (docs/protocol.md), in rounds, before the
 * dump. Each round reads, from outside, what the tasks have in private anonymous memory, and sends what it has not sent
 * yet as it is now. It keeps a hash of every page sent (page_hashes.h): with it the page server finds, after the freeze,
 * which pages are still the store's, and need not be sent. What the kernel knows not to be written since (soft_dirty.h)
 * later rounds don't read. No page is touched: the tasks run on as ever.
 *
 * Whatever cannot be read (it went meanwhile, its task ended) is left out: it goes after the freeze, or is not needed.
 * Hashes are given away only once the store said that it has everything; they are dropped when its connection is lost.
 *
 * Locks: `lock` over all state, never held while sending or reading memory; `sending` around each message.
 */
#ifndef CL_PRECOPY_SENDER_H
#define CL_PRECOPY_SENDER_H

#include <stdint.h>

#include "criu_lazy.h"
#include "task/page_hashes.h"
#include "wire/conn.h"
#include "wire/push_protocol.h"

/*
 * Serve a store whose hello has been read: until it is complete, or its connection ends. Its owner closes it afterwards;
 * the socket may be shut down meanwhile. Any thread.
 */
void cl_precopy_serve(struct cl_precopy *precopy, struct cl_conn conn, const struct cl_push_hello *hello, const char *name);

/* The hashes of what the complete store has, and its token; NULL if there is none. They live as long as precopy. */
const struct cl_hashes *cl_precopy_hashes(struct cl_precopy *precopy, uint8_t token[CL_PUSH_TOKEN_BYTES]);

#endif
