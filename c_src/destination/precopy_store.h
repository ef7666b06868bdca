/* SPDX-License-Identifier: Apache-2.0 */
/*
 * precopy_store: pages that came to the destination while the task still ran at the source (docs/protocol.md), in a file of
 * the destination's own: `pages`, sparse, in chunks of 2 MiB handed out in the order of first use, and `index`, written
 * when all is there. A zero page is a hole that the index says is held.
 *
 * Written by one process (precopy_receiver.h), then taken by another, the daemon, which unlinks both files at once: whatever
 * becomes of it, nothing stays. What it has read and installed it drops: a file in memory (tmpfs) gives it back, so that
 * a task never needs twice its memory here. One on a disk stays as it is until the end: a hole punched into what was
 * written just now makes the file system (ext4, xfs, btrfs) write it to the disk first, and whoever punches wait for it.
 *
 * The daemon writes to it, too, what comes late: after the dump, and before its task runs. Not into new chunks, and no page
 * that was dropped once.
 *
 * Memory: 280 bytes a chunk, at most CL_PRECOPY_STORE_CHUNKS chunks. Any number of threads may read, write and drop; nobody
 * writes a page that another thread reads or writes.
 */
#ifndef CL_PRECOPY_STORE_H
#define CL_PRECOPY_STORE_H

#include <stdint.h>
#include <stddef.h>

#include "wire/push_protocol.h"

enum {
	CL_PRECOPY_STORE_CHUNK_PAGES = 512,
	CL_PRECOPY_STORE_CHUNKS = 1 << 20, /* 2 TiB */
};

struct cl_error;
struct cl_precopy_store;

/* A new, empty one in this directory (borrowed); there may be none yet. 0 or -errno. */
int cl_precopy_store_create(int directory_fd, struct cl_precopy_store **out);

/*
 * Pages of task `id` from vaddr on, instead of what was there; data NULL: they are zero. 0; -ENOSPC (the file system's, or
 * more than CL_PRECOPY_STORE_CHUNKS); taken, -ESTALE: one has no place there, or none any more; or another -errno. Unless it
 * is -ESTALE some may be spoiled, and are to be dropped.
 */
int cl_precopy_store_write(struct cl_precopy_store *store, uint64_t id, uint64_t vaddr, uint64_t nr_pages,
			   const uint8_t *data);

/* All is there: write the index. 0 or -errno. */
int cl_precopy_store_finish(struct cl_precopy_store *store, int directory_fd, const uint8_t token[CL_PUSH_TOKEN_BYTES]);

/* Take the store in this directory: its files are unlinked. 0, or error->code: -EBADMSG if it is damaged. */
int cl_precopy_store_take(int directory_fd, struct cl_precopy_store **out, struct cl_error *error);

void cl_precopy_store_free(struct cl_precopy_store *store);

const uint8_t *cl_precopy_store_token(const struct cl_precopy_store *store);

/* 0; -ENODATA if one of the pages isn't held; or another -errno. */
int cl_precopy_store_read(struct cl_precopy_store *store, uint64_t id, uint64_t vaddr, uint64_t nr_pages, uint8_t *out);

/* These pages are not needed any more, whether they are held or not. How many were held that came late. */
uint64_t cl_precopy_store_drop(struct cl_precopy_store *store, uint64_t id, uint64_t vaddr, uint64_t nr_pages);

#endif
