/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve: the network side of the page server: listens, speaks TLS where it is asked to, finds out what a client is, and
 * brings it to whom it wants: a client that speaks the push protocol to push_server.h, any other to the relay.
 *
 * Each connection has a thread, at most CL_SERVE_CONNECTIONS of them, and at most CL_SERVE_STRANGERS that have not shown
 * the key yet (without one: that have not said what they want). If more come, the oldest of the address that most
 * of those come from gives way; who was admitted never does. Until a client's first 24 bytes are there nothing is done
 * for it.
 *
 * Before the dump there is no relay, and only a store is served (precopy_sender.h); afterwards no store is.
 */
#ifndef CL_SERVE_H
#define CL_SERVE_H

#include <stddef.h>
#include <stdint.h>

#include "criu_lazy.h"
#include "source/precopy_sender.h"
#include "source/dump_proxy.h"

/* CFFI-BEGIN */
#define CL_SERVE_CONNECTIONS 64
#define CL_SERVE_STRANGERS 16

struct cl_serve;

struct cl_serve_config {
	int listen_fd;           /* listening TCP socket; owned */
	int log_fd;              /* log lines go here, or -1; borrowed */
	int log_level;           /* 1 errors, 2 warnings, 3 info, 4 debug: as criu -v */
	int images_fd;           /* the dump's images, to push its pages, or -1: all clients are the relay's; borrowed */
	const int32_t *ids;      /* its tasks, as the images name them; copied */
	const int32_t *pids;     /* the same, as we see them; copied */
	size_t nr_tasks;
	int gone;                /* some of them: nobody is pushed to any more, and who was is served by the relay */
	const struct cl_tls_config *tls; /* NULL: in plain */
	uint64_t rate;           /* bytes per second that pages may take; 0: no limit */
	struct cl_precopy *precopy; /* with a relay: what its store has need not be pushed. NULL: none. Outlives it */
};

struct cl_serve_info {
	uint64_t sessions;       /* with clients that are pushed to */
	unsigned int streams;    /* background streams of the present one */
	uint64_t asked_pages;    /* by demand */
	uint64_t left_pages;     /* of these: left to a stream on which they were on their way */
	uint64_t pushed_pages;
	uint64_t zero_pages;     /* of those pushed */
	uint64_t packed_pages;
	uint64_t same_pages;     /* not sent, the client's store has them; pushed and by demand */
	uint64_t also_pages;     /* went with another task's, which has the same; not among those pushed */
	uint64_t sent_bytes;     /* by pushing, demand pages included */
	uint64_t lost_tasks, lost_pages, lost_task; /* as the client tells: push_server.h */
	unsigned int lost_signal;
	uint64_t rate;
};

/*
 * Start to serve, in threads of its own. NULL on error with one line in error_out. The relay must outlive it; NULL: before
 * the dump, for a store alone. The listener is closed in any case.
 */
struct cl_serve *cl_serve_new(struct cl_relay *relay, const struct cl_serve_config *config, char *error_out,
			      size_t error_bytes);

/* Close all connections, wait for their threads. */
void cl_serve_free(struct cl_serve *serve);

/*
 * The dump has died: from now on the tasks' stop signal holds them (see cl_push_server_stand_alone()). Between cl_relay_run() and
 * cl_relay_run_alone(). 0 or -errno: nobody can be served then.
 */
int cl_serve_stand_alone(struct cl_serve *serve);

/* Any thread. */
void cl_serve_set_rate(struct cl_serve *serve, uint64_t bytes_per_s);

/* Any thread: end the session of a client that is pushed to, as if it had been lost. */
void cl_serve_drop_client(struct cl_serve *serve);

/* Any thread. */
void cl_serve_info(struct cl_serve *serve, struct cl_serve_info *out);
/* CFFI-END */

#endif
