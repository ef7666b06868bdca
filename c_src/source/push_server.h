/* SPDX-License-Identifier: Apache-2.0 */
/*
 * push_server: the server of the push protocol (docs/protocol.md): one session at a time, with one demand connection and
 * some background streams, each served by the thread that calls in with it. It reads the frozen tasks' memory itself,
 * and gives nothing but what the images mark lazy.
 *
 * A demand page is read and sent by the demand connection's own thread, at once; unless it has just left by a background
 * stream (push_in_flight.h). Background streams take what the client
 * told missing, next to the last demand pages first, leave little unsent in their sockets, pack it where that pays
 * (push_batch.h), and keep to a rate if there is one. What another task has at the same address is sent for both, as long
 * as that is found often enough: forked tasks share what neither has written to since. To a client with a store goes,
 * instead of a page whose hash is the stored one's, that it is the same: hashed when it is read, so after the freeze,
 * whatever was written before.
 *
 * Who was served once is served again, whoever else comes: a client that said GO has restored the tasks. When a task's
 * memory can't be read any more, as something has killed it, there are no push clients any more: the dump still has its pages.
 *
 * Should the dump die, tasks that a stop signal then holds can be served on (cl_push_server_stand_alone()): it is looked
 * at each task, after each read, that it has stayed stopped.
 *
 * Its parts: push_session.c (sessions and connections), push_demand.c, push_stream.c (the background), push_pages.c
 * (reading), push_compare.c (with a store), with push_tasks.h and push_sharing.h.
 *
 * Locks: one, over what is wanted and who is connected; never held while reading memory, sending or receiving.
 * `told` is called with it held.
 */
#ifndef CL_PUSH_SERVER_H
#define CL_PUSH_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "wire/conn.h"
#include "task/page_hashes.h"
#include "base/error.h"
#include "base/log.h"
#include "wire/push_protocol.h"

struct cl_push_server;

enum cl_push_told {
	CL_PUSH_TOLD_BEGUN,   /* a client opened a session */
	CL_PUSH_TOLD_MISSING, /* it misses something */
	CL_PUSH_TOLD_DONE,    /* it misses nothing any more */
	CL_PUSH_TOLD_ENDED,   /* its session is over; no other has begun */
	CL_PUSH_TOLD_LOST,    /* without the dump: a task was killed, or runs on; nothing is given any more */
};

struct cl_push_server_config {
	int images_fd;       /* directory; borrowed until cl_push_server_new() returns */
	const int32_t *ids;  /* tasks, as the images name them */
	const int32_t *pids; /* the same, as we see them */
	size_t nr_tasks;
	const struct cl_hashes *stored; /* of the pages in the store `store_token`; NULL: there is none. Borrowed */
	uint8_t store_token[CL_PUSH_TOKEN_BYTES];
	struct cl_log log;
	bool gone;       /* a task was killed: there are no push clients */
	uint64_t client; /* whose tasks run, by its hello; 0: nobody's yet */
	void (*told)(void *context, enum cl_push_told what, const char *name, uint64_t client);
	/* Whether the tasks are held still; asked after pages were read, before they are sent. May wait. Any thread. */
	bool (*frozen)(void *context);
	void *context;
};

struct cl_push_server_info {
	uint64_t sessions;       /* so far */
	unsigned int nr_streams; /* background streams of the present one */
	uint64_t asked_pages, pushed_pages, zero_pages, packed_pages, same_pages;
	uint64_t known_pages;            /* of the same ones: compared before they were missing, and not read again */
	uint64_t left_pages;             /* of those asked: left to a background stream on which they were on their way */
	uint64_t also_pages;             /* that went with another task's: not among those pushed */
	uint64_t sent_bytes;             /* of pages and headers */
	uint64_t lost_tasks, lost_pages; /* restored tasks that ended at the client, and what they missed */
	uint64_t lost_task;              /* the first of them, as the images name it */
	unsigned int lost_signal;        /* which killed it; 0: it isn't known how it ended */
};

/* Reads the pagemaps, opens the tasks' memory. 0 or -errno, and *out is NULL. */
int cl_push_server_new(const struct cl_push_server_config *config, struct cl_push_server **out, struct cl_error *error);

enum cl_push_admission {
	CL_PUSH_ADMITTED,
	CL_PUSH_REFUSED_BUSY,
	CL_PUSH_REFUSED_OVER,
	CL_PUSH_PLAIN,   /* it is served, but is no push client */
	CL_PUSH_NOT_NOW, /* nobody is served here any more, and pages may come elsewhere yet: close without a word */
};

/* What ends. */
enum cl_push_end {
	CL_PUSH_END_SESSION, /* the session, as if it had been lost */
	CL_PUSH_END_OVER,    /* all: committed or rolled back, so that no page comes any more */
	CL_PUSH_END_LOST,    /* all that this server can give; another may come, or an operator decides */
};

/* How a client is served that would open a session, by its hello; 0: not as a push client. Any thread. */
enum cl_push_admission cl_push_server_admits(struct cl_push_server *server, uint64_t client);

/* No thread may be inside. */
void cl_push_server_free(struct cl_push_server *server);

/*
 * Serve a connection whose hello has been read: until it ends, or its session does. Its owner closes it afterwards; the
 * socket may be shut down meanwhile. `name` is passed on to `told`. Any thread.
 */
void cl_push_server_serve(struct cl_push_server *server, struct cl_conn conn, const struct cl_push_hello *hello,
			  const char *name);

/* End the session, if there is one: its threads return soon. No other can begin but after END_SESSION. Any thread. */
void cl_push_server_end(struct cl_push_server *server, enum cl_push_end end);

/*
 * The dump has died, and `frozen` answers to nobody yet: from now on the tasks' stop signal holds them. 0; -ENOENT: there
 * is no client that it could serve; -ESRCH: pages of a killed task are missing; -EBUSY: a task is not stopped; or another
 * -errno.
 */
int cl_push_server_stand_alone(struct cl_push_server *server);

/*
 * All is over, END_OVER: a client whose restored task misses pages waits for them, and is to hear so when it connects again,
 * which it does at once if it can: it is waited for. Who refuses it says that it was told. Any thread.
 */
void cl_push_server_tell_over(struct cl_push_server *server, uint64_t wait_us);
void cl_push_server_told_over(struct cl_push_server *server, uint64_t client);

/* Bytes per second that all pages together may take from now on; 0: no limit. Demand pages are never held back. */
void cl_push_server_set_rate(struct cl_push_server *server, uint64_t bytes_per_s);

void cl_push_server_info(struct cl_push_server *server, struct cl_push_server_info *out);

#endif
