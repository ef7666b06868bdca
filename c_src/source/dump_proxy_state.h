/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dump_proxy_state: struct cl_dump_proxy, private to its own thread's work (dump_proxy.c) and to what other threads ask of
 * it and tell it (dump_proxy_control.c).
 */
#ifndef CL_DUMP_PROXY_STATE_H
#define CL_DUMP_PROXY_STATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/error.h"
#include "base/log.h"
#include "source/client_queue.h"
#include "source/dump_guardian.h"
#include "source/dump_stream.h"
#include "source/pull_client.h"

/* Who keeps the source's tasks as they were dumped. They change in this order only. */
enum cl_source_holder { HELD_BY_DUMP, HELD_BY_FENCE, HELD_BY_NOBODY };

struct cl_dump_proxy {
	struct cl_log log;
	int hold_close;
	struct cl_pull_rules rules;
	int wake, lifeline;
	struct cl_dump_stream dump;
	bool dump_is_dead; /* as this proxy found it */
	struct cl_pull_client client;
	struct cl_error error; /* what happened to the dump last; its own thread's */
	_Atomic int state, want_commit, want_abort, want_drop;
	_Atomic uint64_t requests, bytes, clients;

	pthread_mutex_t lock;          /* guards what follows, and `state`, which is also read without it */
	pthread_cond_t holder_changed; /* or the state is final */
	enum cl_source_holder holder;
	int client_fd_for_info;
	char client_text[CL_CLIENT_NAME_BYTES];
	struct cl_client_queue queue;
	bool pushing; /* there is a push client: */
	char push_text[CL_CLIENT_NAME_BYTES];
};

static inline struct cl_dump_guardian_state *cl_dump_proxy_shared(const struct cl_dump_proxy *r)
{
	return r->dump.shared;
}

/* Its own thread: to COMMIT or DONE, which no other thread takes back. */
static inline void cl_dump_proxy_set_phase(struct cl_dump_proxy *r, enum cl_dump_guardian_phase phase)
{
	atomic_store(&cl_dump_proxy_shared(r)->phase, phase);
}

/* Any thread. False: it was in another phase, as its own thread may have been quicker. */
static inline bool cl_dump_proxy_move_phase(struct cl_dump_proxy *r, enum cl_dump_guardian_phase from,
					    enum cl_dump_guardian_phase to)
{
	uint32_t expected = from;

	return atomic_compare_exchange_strong(&cl_dump_proxy_shared(r)->phase, &expected, to);
}

/* Any thread: it is over (enum cl_dump_proxy_state). Nothing that clients do changes that. */
void cl_dump_proxy_set_end(struct cl_dump_proxy *r, int state);

/* How things stand with the clients, after something of that has changed. Lock held. */
void cl_dump_proxy_update_state(struct cl_dump_proxy *r);

/*
 * Any thread: it is not the dump, any more. Nobody who waits for his turn will be served. False: it was this, or a later
 * one.
 */
bool cl_dump_proxy_set_holder(struct cl_dump_proxy *r, enum cl_source_holder holder);

#endif
