/* SPDX-License-Identifier: Apache-2.0 */
/*
 * precopy: brings pages of tasks that run to a store at the destination (docs/protocol.md), in rounds, before the dump.
 * Each round reads, from outside, what the tasks have in private anonymous memory, and sends what it has not sent yet
 * as it is now. It keeps a hash of every page sent (page_hashes.h): with it the page server finds, after the freeze, which
 * pages are still the store's, and need not be sent. What the kernel knows not to be written since (soft_dirty.h) later rounds
 * don't read. No page is touched: the tasks run on as ever.
 *
 * Whatever cannot be read (it went meanwhile, its task ended) is left out: it goes after the freeze, or is not needed.
 * Hashes are given away only once the store said that it has everything; they are dropped when its connection is lost.
 *
 * Locks: `lock` over all state, never held while sending or reading memory; `sending` around each message.
 */
#ifndef CL_PRECOPY_H
#define CL_PRECOPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* CFFI-BEGIN */
struct cl_precopy;

enum cl_precopy_state {
	CL_PRECOPY_NONE = 0,      /* no store came yet */
	CL_PRECOPY_CONNECTED = 1,
	CL_PRECOPY_LOST = 2,      /* its connection broke; another may come */
	CL_PRECOPY_COMPLETE = 3   /* it has said that it has everything */
};

struct cl_precopy_config {
	int log_fd;             /* log lines go here, or -1; borrowed */
	int log_level;          /* 1 errors, 2 warnings, 3 info, 4 debug: as criu -v */
	unsigned int nr_threads; /* that read and hash in a round, 1.. */
	uint64_t rate;          /* bytes per second that pages may take; 0: no limit */
};

struct cl_precopy_round {
	uint64_t number;        /* 1.. */
	uint64_t scanned_pages; /* read */
	uint64_t unread_pages;  /* sent before, and not written since, as the kernel knows */
	uint64_t sent_pages;    /* changed or new, zero ones among them */
	uint64_t zero_pages, packed_pages;
	uint64_t sent_bytes;    /* of pages, as sent, and headers */
	uint64_t elapsed_us;    /* until the store had everything */
	bool was_cut;           /* cl_precopy_cut() was called: it may have left something out */
};

/* NULL on error with one line in error_out: the build has no xxHash. */
struct cl_precopy *cl_precopy_new(const struct cl_precopy_config *config, char *error_out, size_t error_bytes);

/* After the listener.h that it was given to. */
void cl_precopy_free(struct cl_precopy *precopy);

/*
 * One round over these tasks: pids[i] is, as we see it, the one that the images will name ids[i]. Blocks until the store
 * has confirmed it. 0; -EBUSY (another is under way), -ENOTCONN (no store is connected, or it was lost meanwhile),
 * -ECANCELED (stopped) or another -errno, all with one line in error_out.
 */
int cl_precopy_round(struct cl_precopy *precopy, const int32_t *ids, const int32_t *pids, size_t nr_tasks,
		     struct cl_precopy_round *out, char *error_out, size_t error_bytes);

/* Any thread: the round under way, if one is, ends soon as if nothing were left to send. What it sent stays valid. */
void cl_precopy_cut(struct cl_precopy *precopy);

/* Any thread: pages that the round under way has read so far; 0 if none is. */
uint64_t cl_precopy_scanned(struct cl_precopy *precopy);

/* The store is to be completed. Blocks until it has confirmed that. Errors as above. */
int cl_precopy_finish(struct cl_precopy *precopy, char *error_out, size_t error_bytes);

/* Any thread: no more rounds; one under way ends soon, and an incomplete store is lost. */
void cl_precopy_stop(struct cl_precopy *precopy);

/* Any thread. */
void cl_precopy_set_rate(struct cl_precopy *precopy, uint64_t bytes_per_s);

/* Any thread: enum cl_precopy_state. */
int cl_precopy_state(struct cl_precopy *precopy);
/* CFFI-END */

#include "wire/conn.h"
#include "task/page_hashes.h"
#include "wire/push_protocol.h"

/*
 * Serve a store whose hello has been read: until it is complete, or its connection ends. Its owner closes it afterwards;
 * the socket may be shut down meanwhile. Any thread.
 */
void cl_precopy_serve(struct cl_precopy *precopy, struct cl_conn conn, const struct cl_push_hello *hello,
		      const char *name);

/* The hashes of what the complete store has, and its token; NULL if there is none. They live as long as precopy. */
const struct cl_hashes *cl_precopy_hashes(struct cl_precopy *precopy, uint8_t token[CL_PUSH_TOKEN_BYTES]);

#endif
