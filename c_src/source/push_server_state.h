/* SPDX-License-Identifier: Apache-2.0 */
/*
 * push_server_state: what a push_server.h has, shared by its sessions (push_session.c), their demand connection
 * (push_demand.c), their streams (push_stream.c), and the reading of pages for both (push_pages.c). Nobody else's.
 */
#ifndef CL_PUSH_SERVER_STATE_H
#define CL_PUSH_SERVER_STATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "source/push_batch.h"
#include "source/push_in_flight.h"
#include "source/push_server.h"
#include "source/push_tasks.h"

/* The present one, or the last: there is one while fds[0] is there. */
struct cl_push_session {
	uint64_t number;
	uint8_t token[CL_PUSH_TOKEN_BYTES];
	int fds[1 + CL_PUSH_MAX_STREAMS]; /* connections, -1: none; [0], demand: without it there is none */
	struct cl_push_in_flight sent[1 + CL_PUSH_MAX_STREAMS]; /* by the streams; not used of [0] */
	unsigned int unpacks;                                   /* of its client: ways, a bit each */
	bool shares;
	bool stores; /* it has the store whose pages' hashes we have */
	bool going;  /* it said GO: push */
};

enum { CL_PUSH_COMPARE_THREADS = 8 };

struct cl_push_compare {
	pthread_t threads[CL_PUSH_COMPARE_THREADS];
	unsigned int nr_threads;
	/*
	 * The words of all tasks' bitmaps, one after the other, are compared in two passes: first those of which pages were
	 * sent in the last round, then the others.
	 */
	uint64_t nr_words;
	atomic_uint_fast64_t next;  /* of both passes */
	_Atomic uint64_t *compared; /* 1 + the number of each word, in the order in which they were; 0: none yet */
	atomic_uint_fast64_t nr_compared;
	atomic_uint nr_working;                /* threads that go on comparing */
	uint64_t told_early, told_early_pages; /* so many of these, and pages of the next one, were sent before GO */
	atomic_bool over;
	bool may_leave;
};

struct cl_push_server {
	struct cl_push_server_config config;
	struct cl_push_tasks tasks;
	pthread_mutex_t lock;
	pthread_cond_t work; /* there is something to push, or a session is over, or the rate has changed */
	struct cl_push_session session;
	bool closed;     /* for ever */
	bool over;       /* committed or rolled back: told to who still asks */
	bool gone;       /* a task, while there is a dump: no push clients any more */
	bool alone;      /* there is no dump; set while `frozen` answers to nobody */
	uint64_t client; /* whose session it is, or the last one was; 0: nobody's */
	bool restored;   /* it said GO, ever */
	bool done;       /* it said last that it misses nothing */
	bool told_over;  /* it was refused with that word */
	size_t near;     /* the task of the last demand page: goes first */
	struct cl_push_compare compare;
	struct cl_push_pace pace;
	struct cl_push_server_info info;
};

/* End the session; its threads return soon. Lock held. */
void cl_push_session_end(struct cl_push_server *server);

/* Whether two tokens are the same, in the same time whatever they are. */
bool cl_push_same_token(const uint8_t *a, const uint8_t *b);

/* ---- pages (push_pages.c) ---- */

/* shared: other tasks may have these pages, too, and are to keep them. 0 or -errno: no push clients any more. */
int cl_push_read_pages(struct cl_push_server *server, const struct cl_push_task *task, const struct cl_push_header *header,
		       bool shared, uint8_t *out);

/*
 * What was read so far was read of a frozen task: 0. Should nobody hold it any more it runs on, and what is read then is not
 * what the restored one lacks: -EOWNERDEAD, and nobody gets anything any more.
 */
int cl_push_still_frozen(struct cl_push_server *server, const struct cl_push_task *task);

/* As what each of these pages goes, as they were read: CL_PUSH_ZERO, to a client with a store _SAME, else _PAGES. */
void cl_push_find_kinds(struct cl_push_server *server, const struct cl_push_header *header, const uint8_t *pages,
			bool client_stores, uint8_t *kinds);

/* It was sent. Lock held. */
void cl_push_charge(struct cl_push_server *server, uint64_t bytes);

/* Of the pages that were to go whole, as they were read: those that are in the store need not. How many. */
uint64_t cl_push_find_same(struct cl_push_server *server, const struct cl_push_header *header, const uint8_t *pages,
			   uint8_t *kinds);

/*
 * ---- comparing (push_compare.c) ----
 *
 * Which pages are still as in a client's store (page_hashes.h): threads read and hash them from the moment that the tasks are
 * dumped until they are to run elsewhere, while nothing else is to be done here. The client is told of them then, and
 * reads none of them from the network. What they don't get to is compared when it is pushed.
 *
 * Why not from the freeze on: until criu's parasite has left a task, its memory changes.
 */

/* Start comparing. Without memory or threads for it nothing is known. No other thread yet. */
void cl_push_compare_start(struct cl_push_server *server);

/* Compare no more: what the threads have begun ends soon. */
void cl_push_compare_end(struct cl_push_server *server);

/* The same, and wait for them. Lock not held. */
void cl_push_compare_stop(struct cl_push_server *server);

/* Whether all these pages are known to be as in the store. Lock held. */
bool cl_push_compare_is_same(const struct cl_push_task *task, uint64_t index, uint64_t nr_pages);

/*
 * The next run of the task's pages, of one extent, that are wanted and known to be as in the store: wanted no more. 0 pages:
 * none so far, ask again. False: there is none. Lock held.
 */
bool cl_push_compare_take(struct cl_push_task *task, uint64_t *index, uint64_t *nr_pages);

/*
 * Before the client says what it misses, once a dump: the next run of pages, of one extent, of which it is known whether they
 * are as in the store, where that has room for them; at most max_pages. Whose; NULL: none so far. *later: there may be more later. Lock held.
 */
struct cl_push_task *cl_push_compare_take_early(struct cl_push_server *server, uint64_t max_pages, uint64_t *index,
						uint64_t *nr_pages, bool *is_same, bool *later);

/* ---- connections ---- */

/* Serve the session's demand connection (push_demand.c); out: room for CL_PUSH_MAX_PAGES pages, and in front of it for a
 * header. 0 or -errno. */
int cl_push_serve_demand(struct cl_push_server *server, struct cl_conn conn, uint64_t session, uint8_t *out);

/* Serve the background stream of this hello (push_stream.c). 0 or -errno. */
int cl_push_serve_stream(struct cl_push_server *server, struct cl_conn conn, uint64_t session,
			 const struct cl_push_hello *hello);

#endif
