/* SPDX-License-Identifier: Apache-2.0 */
/*
 * push_batch: how pages go out, to a push client and to a store: a batch in runs of zero, same and other
 * pages, packed where that pays (compression.h), and no faster than a rate. No lock of its own but the one that it is given.
 */
#ifndef CL_PUSH_BATCH_H
#define CL_PUSH_BATCH_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "wire/compression.h"
#include "wire/conn.h"
#include "wire/push_protocol.h"

enum {
	CL_PUSH_BATCH_PAGES = CL_PUSH_PACKED_PAGES,
	CL_PUSH_BATCH_BYTES = CL_PUSH_BATCH_PAGES * CL_PAGE_SIZE,
	CL_PUSH_HEAD_BYTES = CL_PAGE_SIZE, /* room for headers; the pages behind it begin where a page does */
};

/* ---- a rate ---- */

struct cl_push_pace {
	uint64_t rate;          /* bytes per second; 0: no limit */
	uint64_t busy_until_us; /* by that rate, with all that was sent */
};

/* What was sent before counts: a rate that is told often is kept, too. */
void cl_push_pace_set(struct cl_push_pace *pace, uint64_t bytes_per_s);

/* So much that was to be sent before is still on its way, at least. */
void cl_push_pace_owe(struct cl_push_pace *pace, uint64_t bytes);

/* It was sent: the link is busy for so much longer. */
void cl_push_pace_charge(struct cl_push_pace *pace, uint64_t bytes);

/* Until when (cl_now_us()) the next batch has to wait; 0: it need not. */
uint64_t cl_push_pace_held_until(const struct cl_push_pace *pace);

/* How many pages a batch may have: few under a low rate. */
uint64_t cl_push_pace_batch_pages(const struct cl_push_pace *pace);

/* ---- a thread that sends ---- */

struct cl_push_batch {
	struct cl_conn conn;
	pthread_mutex_t *sending;  /* held for each message; NULL: nobody else sends there */
	struct cl_packing packing; /* what the client unpacks, and what pays */
	struct cl_packer packer;
	uint8_t *buffer; /* room for headers, then the batch's pages */
	uint8_t *packed; /* the same, packed */
	/*
	 * Of each page that goes whole, in which of these other tasks it is, too, at its address: a bit each. Zero by
	 * itself.
	 */
	uint16_t also[CL_PUSH_BATCH_PAGES];
	uint64_t also_ids[CL_PUSH_MAX_ALSO];
	uint8_t told[CL_PUSH_BATCH_PAGES * CL_PUSH_HEADER_BYTES]; /* headers that wait for what comes after them */
	size_t told_bytes;
	uint64_t told_us; /* since when the first of them waits */
	struct cl_push_header last_told;
	uint64_t sent_bytes, zero_pages, same_pages, packed_pages, also_pages; /* of the last batch */
};

/* 0 or -ENOMEM; free it in any case. conn, sending and packing are the caller's to set. */
int cl_push_batch_init(struct cl_push_batch *out);
void cl_push_batch_free(struct cl_push_batch *out);

/* Where the batch's pages belong: CL_PUSH_BATCH_BYTES. */
static inline uint8_t *cl_push_batch_pages(const struct cl_push_batch *out)
{
	return out->buffer + CL_PUSH_HEAD_BYTES;
}

/* As many bytes, of no use to anybody until the batch is sent. */
static inline uint8_t *cl_push_batch_scratch(const struct cl_push_batch *out)
{
	return out->packed + CL_PUSH_HEAD_BYTES;
}

/*
 * Send the batch in the buffer, which it spoils: batch->nr_pages from batch->vaddr on, of task batch->dst_id. kinds:
 * of each page as what it goes, CL_PUSH_PAGES, _ZERO, _SAME, or 0: not at all. began_us: when reading them began;
 * held_us: how long the rate had held it back before. 0 or -errno.
 */
int cl_push_batch_send(struct cl_push_batch *out, const struct cl_push_header *batch, const uint8_t *kinds,
		       uint64_t began_us, uint64_t held_us);

/*
 * A header that says that pages are zero, or the same, has no pages with it: it is told with the next that have, or when it is
 * flushed, and may be one with the last: a packet of its own for each is dear. May_wait: it needn't be flushed yet, if more
 * is to be sent at once. 0 or -errno.
 */
int cl_push_batch_tell(struct cl_push_batch *out, const struct cl_push_header *header);
int cl_push_batch_flush(struct cl_push_batch *out);
bool cl_push_batch_may_wait(const struct cl_push_batch *out);

/* One header alone, of which nothing waits. 0 or -errno. */
int cl_push_batch_header(struct cl_push_batch *out, const struct cl_push_header *header);

#endif
