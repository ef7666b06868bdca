/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page_store: the destination's end of pre-copy (docs/protocol.md): receives what the page server sends of a running
 * task, and keeps it in a store (precopy_store.h), until the server says that it is complete.
 *
 * What a hostile server can do: fill the disk, with pages that it must send; nothing that is used before a daemon is told
 * to use it.
 */
#ifndef CL_PAGE_STORE_H
#define CL_PAGE_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "criu_lazy.h"

/* CFFI-BEGIN */
struct cl_page_store;

struct cl_page_store_config {
	int remote_fd;           /* connected to the page server; owned, on failure too */
	int directory_fd;        /* gets the files `pages` and `index`; borrowed */
	int log_fd;              /* log lines go here, or -1; borrowed */
	int log_level;           /* 1 errors, 2 warnings, 3 info, 4 debug: as criu -v */
	const struct cl_tls_config *tls; /* NULL: in plain */
};

/*
 * Agree with the page server; waits up to 10 s for each of its answers. NULL on error with one line in error_out; then
 * there may be an empty file `pages`.
 */
struct cl_page_store *cl_page_store_new(const struct cl_page_store_config *config, char *error_out, size_t error_bytes);

/*
 * Receive until the store is complete and the server knows: 0. Or -errno with one line in error_out: -ECANCELED after
 * cl_page_store_stop().
 */
int cl_page_store_run(struct cl_page_store *store, char *error_out, size_t error_bytes);

/* Make cl_page_store_run() return soon. Any thread. */
void cl_page_store_stop(struct cl_page_store *store);

void cl_page_store_free(struct cl_page_store *store);
/* CFFI-END */

#endif
