/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dump_proxy.h: stands between a stock `criu dump --lazy-pages` and its clients. It holds the dump's one connection for
 * the whole life, lets clients of the page-server protocol come and go, and alone decides what the dump hears at the
 * end: CLOSE (the source task is killed) or nonsense (the source task runs on). Clients are brought by listener.h, which
 * also serves those that are pushed to, past the relay: it is only told of them.
 *
 * The byte sent ahead: a dump that reads the end of its connection *between* two headers kills the task, but in the
 * middle of a header it gives up and the task runs on. So the first byte of the next header is always sent ahead:
 * should every process of ours die at once, the kernel itself closes the connection in the middle of a header. The
 * byte is GET's: each request is sent less its first byte, plus that of the next. Before the first GET it is
 * PARENT's (a question without effect); to commit, the last GET is repeated for one page, and then CLOSE fits.
 * It needs the protocol version; until that is known, only the guardian (dump_guardian.h) stands by.
 *
 * Errors: 0 or a negative errno; cl_relay_error() tells more. Threads: cl_relay_run() blocks in its caller; the calls
 * marked "any thread" may be made meanwhile.
 */
#ifndef CL_RELAY_H
#define CL_RELAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* CFFI-BEGIN */
#define CL_RELAY_TEXT_BYTES 256

struct cl_relay;

enum cl_relay_state {
	CL_RELAY_WAITING = 0,   /* no client yet */
	CL_RELAY_SERVING = 1,   /* a client is connected */
	CL_RELAY_PAUSED = 2,    /* the client was lost; the next one goes on */
	CL_RELAY_DRAINED = 3,   /* the client said CLOSE: it has every page */
	CL_RELAY_COMMITTED = 4, /* the dump was told CLOSE and has ended */
	CL_RELAY_ABORTED = 5,   /* the dump was told to give up: the source task runs on */
	CL_RELAY_FAILED = 6     /* see cl_relay_error() */
};

struct cl_relay_config {
	int upstream_fd;         /* TCP connection to the dump; owned by the relay */
	int takeover_fd;         /* listening unix socket: the guardian hands the connection over there, or -1; borrowed */
	char **resume;           /* the command that the guardian starts to take over (see dump_guardian.h), or NULL; borrowed */
	int log_fd;              /* log lines go here, or -1; borrowed */
	int log_level;           /* 1 errors, 2 warnings, 3 info, 4 debug: as criu -v */
	int wire_version;        /* 1, 2, or 0: as the first client's first request tells */
	int hold_close;          /* a client's CLOSE is answered at once, and the dump hears it only by cl_relay_commit() */
	uint64_t max_request_pages; /* larger GETs are refused */
};

struct cl_relay_info {
	int state;               /* enum cl_relay_state */
	int running;             /* the restored task runs at the destination */
	int alone;               /* the dump has died, and the fence holds the source task: see cl_relay_run_alone() */
	int held;                /* should this process end now, the guardian holds on and another may resume */
	int wire_version;        /* 0 until known */
	uint64_t requests;       /* GETs forwarded */
	uint64_t bytes;          /* forwarded to clients, headers included */
	uint64_t discarded_bytes; /* answers whose client was lost */
	uint64_t clients;        /* accepted so far */
	uint64_t silent_ms;      /* since the client's host last answered at all; 0 without a client */
	char client[CL_RELAY_TEXT_BYTES]; /* address, "" without one */
};

/*
 * A relay on a fresh connection to a dump, which may still be to come, with its guardian started: call it in a process
 * with one thread. NULL on error with a text in error_out; then the connection is closed and the dump was rolled back.
 */
struct cl_relay *cl_relay_new(const struct cl_relay_config *config, char *error_out, size_t error_bytes);

/*
 * A relay on the connection that the guardian of a dead relay holds, reached by lifeline_fd (a unix socket connected
 * to its takeover socket; owned). config->upstream_fd, resume and wire_version are ignored.
 */
struct cl_relay *cl_relay_resume(const struct cl_relay_config *config, int lifeline_fd, char *error_out,
				 size_t error_bytes);

/*
 * Only these pids (in the dump's namespace) may be asked for; copied. None: any, though an unknown one makes a stock
 * dump crash (its task runs on). Before cl_relay_run(). 0 or -ENOMEM.
 */
int cl_relay_set_tasks(struct cl_relay *relay, const uint64_t *tasks, size_t nr_tasks);

/* If the relay did not end in CL_RELAY_COMMITTED or _ABORTED, its guardian takes over now. */
void cl_relay_free(struct cl_relay *relay);

/*
 * Serve until the end. 0: committed. -ECANCELED: rolled back. -EOWNERDEAD: the dump ended by itself, and the restored task
 * runs: cl_relay_run_alone() is due, until which no page is sent. Otherwise failed: -EPIPE when the dump ended by itself.
 */
int cl_relay_run(struct cl_relay *relay);

/*
 * After -EOWNERDEAD. `held`: something else keeps the source task as the dump left it: go on without a dump; clients that are pushed
 * to are served, nobody else. 0: commit: the caller now kills the source task. -ECANCELED: it lets it run on. Both: then
 * cl_relay_end_alone(). Otherwise failed: it is not held, or not any more.
 */
int cl_relay_run_alone(struct cl_relay *relay, int held);

/* The caller has done so: `state` is CL_RELAY_COMMITTED, _ABORTED, or _FAILED, and then another relay may try. */
void cl_relay_end_alone(struct cl_relay *relay, int state);

/* Any thread: what kept the source task without a dump does so no more. */
void cl_relay_source_lost(struct cl_relay *relay);

/*
 * Any thread: the restored task runs, so nothing but a commit or a forced abort may end the dump from now on. With 0:
 * it is known not to, after all.
 */
void cl_relay_set_running(struct cl_relay *relay, int running);

/* Any thread: end the dump with success, which kills the source task. -EBUSY unless drained or forced. */
int cl_relay_commit(struct cl_relay *relay, int force);

/* Any thread: make the dump give up; the source task runs on. -EBUSY if the restored task runs, unless forced. */
int cl_relay_abort(struct cl_relay *relay, int force);

/* Any thread: close the connection to the client, as if it had been lost. */
void cl_relay_drop_client(struct cl_relay *relay);

/* Any thread. */
void cl_relay_info(struct cl_relay *relay, struct cl_relay_info *out);

/* What went wrong, one line; "" if nothing did. After cl_relay_run(). */
const char *cl_relay_error(const struct cl_relay *relay);
/* CFFI-END */

/*
 * A client, a connected stream socket from which nothing was read; `name` tells it in the log. It waits until it is its
 * turn. The relay owns it from now on. 0; or it is closed: -EBUSY if too many wait, -EPIPE if there is no dump. Any thread.
 */
int cl_relay_offer(struct cl_relay *relay, int fd, const char *name);

/*
 * Whether the source's tasks are as the dump froze them. While that is being found out, as the dump has just died, it waits. Any
 * thread.
 */
bool cl_relay_holds_source(struct cl_relay *relay);

/* Which client, by its hello, has said that it has restored everything: also to a relay before this one. 0: none. Any thread. */
uint64_t cl_relay_restored_client(const struct cl_relay *relay);

/*
 * A client that is pushed to has come, misses something, misses nothing, has gone. While there is one no other client is
 * served, and who was is dropped. Any thread.
 */
void cl_relay_push_begins(struct cl_relay *relay, const char *name);
void cl_relay_push_misses(struct cl_relay *relay, uint64_t client);
void cl_relay_push_is_done(struct cl_relay *relay);
void cl_relay_push_ends(struct cl_relay *relay);

#endif
