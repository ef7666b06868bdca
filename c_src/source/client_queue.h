/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client_queue: clients of CRIU's protocol whose turn will come, in order: one is served at a time. A client that waits
 * while the served one's host is alive can't be that one reconnecting: it is closed after a while.
 *
 * No lock: its owner's, over all calls.
 */
#ifndef CL_CLIENT_QUEUE_H
#define CL_CLIENT_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"

enum { CL_CLIENT_QUEUE_MAX = 8, CL_CLIENT_NAME_BYTES = 256 };

struct cl_client_queue {
	struct cl_client_waiting {
		int fd;
		uint64_t since_us;
		char name[CL_CLIENT_NAME_BYTES];
	} waiting[CL_CLIENT_QUEUE_MAX];
	size_t nr;
};

/* Takes fd over, a connected socket. 0, or -EBUSY: too many wait, and fd is still the caller's. */
int cl_client_queue_add(struct cl_client_queue *queue, int fd, const char *name);

/* The next one, the caller's from now on. False: nobody waits. */
bool cl_client_queue_take(struct cl_client_queue *queue, int *fd_out, char name_out[CL_CLIENT_NAME_BYTES]);

/* Close those that have waited too long, while `served` is. */
void cl_client_queue_refuse(struct cl_client_queue *queue, const char *served, const struct cl_log *log);

/* Close all. */
void cl_client_queue_clear(struct cl_client_queue *queue);

#endif
