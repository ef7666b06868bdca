/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine (internal): the one context that holds everything, and the protocol between its threads. The public
 * interface is criu_lazy.h.
 *
 * Threads
 *   events   (the caller of cl_engine_run) waits on the userfaultfds, the restore's socket and a wake-up; reads
 *            and applies the kernel's events, gives zero pages, asks for demand pages. One.
 *   workers  take turns at receiving from the page server; who received installs what it received while the next
 *            one receives. With local images they copy from the mapped files, in parallel.
 *
 * One mutex, `lock`, guards all of the engine's data: spaces, images, schedule, flow, stats. It is never held
 * across a system call that can wait for the task, the network or memory. What those need is claimed under it:
 *   receiving        this worker alone reads from the connection.
 *   sending          this thread alone writes to it; whoever has a request while another sends leaves it to that one.
 *   space->copying   copies into this address space in progress (the gate, below).
 *   space->reading   the events thread reads this space's events.
 *
 * The gate: copies and the reading of events exclude each other, per address space. Why: the kernel refuses
 * UFFDIO_COPY (EAGAIN) from a fork, unmap, remap or remove until its event has been *read*; but a copy that
 * starts after the read and before the event is applied to `space` would go to the old address, bring back a page
 * that MADV_DONTNEED just dropped, or be missing in a forked child whose bitmap says it has it. So:
 *   - a copy starts only while !reading, with copying + 1; its addresses were looked up in the same critical
 *     section; it ends with copying - 1 and its pages marked, in one critical section;
 *   - the events thread sets reading, waits for copying == 0, reads and applies all that it read, resolves what
 *     came in a doubtful order (address_space.h), and ends with !reading.
 * Zero pages are given by the events thread alone, which therefore needs no gate.
 * A copy is at most CL_COPY_BYTES, so neither waits long. Waiting is on the condition `gate`. No deadlock: a copy
 * never waits for the events thread while it counts in `copying` (on EAGAIN it leaves the gate first).
 */
#ifndef CL_ENGINE_H
#define CL_ENGINE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "criu_lazy.h"
#include "destination/ended.h"
#include "destination/flow.h"
#include "destination/uffd_guardian.h"
#include "destination/resume_state.h"
#include "base/log.h"
#include "destination/madvise_watch.h"
#include "destination/source_push.h"
#include "destination/source_stock.h"
#include "destination/schedule.h"
#include "destination/address_space.h"

#define CL_COPY_BYTES (256U << 10)
#define CL_RECEIVE_BYTES (256U << 10)
#define CL_MAX_WORKERS 16

struct cl_engine {
	struct cl_config config;
	struct cl_log log;
	pthread_mutex_t lock;
	pthread_cond_t work;    /* workers: something to receive or to copy, or the end */
	pthread_cond_t gate;    /* a space's copying or reading changed; or the connection is idle */
	struct cl_schedule schedule;
	struct cl_flow flow;
	struct cl_remote remote;
	struct cl_push push;    /* off with a stock server */
	struct cl_store *store; /* of pages that came before the dump; NULL: there is none */
	bool store_is_bad;      /* and not to be spoken of */
	struct cl_holder holder; /* these two: the events thread's */
	struct cl_ledger ledger;
	bool no_ledger;         /* it was warned of */
	bool short_of_fds;      /* the same; the events thread's */
	struct cl_tls_credentials *tls; /* NULL: the page server is spoken to in plain */
	struct cl_stats stats;
	struct cl_restored *restored_tasks; /* ended.h; the events thread's */
	bool look_at_ends;      /* at these, as one may have ended */
	struct cl_madvise_watch madvise; /* the lock's, as all that advice.c does with it */
	bool fork_advice_changed; /* by a restored task or its children, since the dump; or it isn't watched */
	bool lost_madvise;      /* it was warned of */
	bool reading_forks;     /* a child may run whose fork isn't applied yet: its calls wait */
	struct cl_madvise_call *later; /* these; nobody fills forked children meanwhile */
	size_t nr_later, max_later;
	struct cl_image *images;
	int wire_version;       /* as the images tell */
	pthread_t workers[CL_MAX_WORKERS];
	unsigned int nr_workers;
	int epoll_fd, wake_fd, restore_fd;
	bool has_remote;
	bool was_asked;         /* the page server, whether it pushes */
	bool is_refused;        /* by the page server, from the start: it is another daemon's */
	bool remote_hung_up;    /* before any task runs: a worker is to find out why */
	bool receiving, sending;
	struct sockaddr_storage remote_address; /* whom to call again */
	socklen_t remote_address_bytes; /* 0: not known */
	bool lost;              /* the connection broke: nobody sends or receives until there is a new one */
	uint64_t lost_us;       /* when; 0: something came since */
	unsigned int calls;     /* made since then */
	uint64_t client;        /* as which the page server knows this daemon (push_protocol.h) */
	bool source_is_gone;    /* for good, as far as this engine is concerned: what is missing will never come */
	unsigned int busy_workers; /* not waiting for work */
	unsigned int filling;   /* threads inside cl_engine_fill() */
	bool resumed;           /* an heir: it took over from a daemon that was killed */
	bool restored;          /* criu restore is done: background transfer may run */
	bool ending;            /* every page arrived: workers only drain the connection */
	bool stopping;          /* failed, stopped or done: all threads leave */
	int failure;            /* the first error, as negative errno */
	char error[256];
};

/* Note the first failure and make all threads leave. Lock held. */
void cl_engine_fail(struct cl_engine *engine, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Make the events thread look for finished spaces, or notice the end. */
void cl_engine_wake(struct cl_engine *engine);

/*
 * There is something to receive or to copy: wake a worker, unless one is at work and will see it by itself. (With two
 * hosts' worth of threads on few CPUs, needless wake-ups are what costs most.) Lock held.
 */
void cl_engine_work_is_there(struct cl_engine *engine);

/* Ask the page server for what the schedule wants and the window allows. Lock held; dropped while sending. */
void cl_engine_ask(struct cl_engine *engine);

/*
 * reconnect: the connection to the page server broke (`why`, not kept). True: it will be called again, `lost` is set;
 * demand faults wait. False if it can't be: the restored task doesn't run yet, or nobody wants it. Lock held.
 */
bool cl_engine_lose(struct cl_engine *engine, const char *why);

/*
 * reconnect: a connection broke, or the protocol was broken on it (-EPROTO, with `why`): it is lost, or the engine fails.
 * why: NULL where the error says it all. Sender and receiver call it, whoever is the first to see it. Lock held.
 */
void cl_engine_broken(struct cl_engine *engine, int error, const char *why);

/*
 * reconnect: put back what was in flight and call the page server until it answers, or time is up (then the engine
 * fails). For a worker, in the role of the receiver; nobody may be sending. Lock held; dropped while waiting.
 */
void cl_engine_reconnect(struct cl_engine *engine);

/* reconnect: the page server outlives its clients: it can be connected to again. Lock held, or no other thread. */
bool cl_engine_is_held(const struct cl_engine *engine);

/* reconnect: notice soon when the page server's host is gone, from now on. Lock held. */
void cl_engine_watch_connections(struct cl_engine *engine);

/*
 * reconnect: connect to the page server's address. *fd is the new socket from the start, on failure too, so that
 * cl_engine_fail() and cl_engine_lose() can shut it down; *tls is set where TLS is spoken. Lock held; dropped while
 * waiting. 0 or error->code.
 */
int cl_engine_call(struct cl_engine *engine, int *fd, struct cl_tls **tls, struct cl_error *error);

/* The pages missing in all spaces. Lock held. */
uint64_t cl_engine_remaining_pages(const struct cl_engine *engine);

/*
 * fill: pages [index, index + nr_pages) of one extent are at data: install them in every space that misses them.
 * Lock held; dropped while copying.
 */
void cl_engine_fill(struct cl_engine *engine, struct cl_image *image, uint64_t index, uint64_t nr_pages,
		    const uint8_t *data);

/* fill: there is no memory for the space's pages: its first such moment is told of. Lock held. */
void cl_engine_no_memory(struct cl_engine *engine, struct cl_space *space);

/*
 * events: read and apply what the kernel says of this space. False if events are on their way without which it is not
 * known where its pages belong (address_space.h): the gate stays closed; call again soon. Lock not held.
 */
bool cl_engine_read_events(struct cl_engine *engine, struct cl_space *space);

/*
 * events: go on where a killed daemon was: apply what it had read of this space and not applied. `held`: what its holder
 * handed over; forked children found there are taken from it. 0 or -errno. Before there are threads.
 */
int cl_engine_replay(struct cl_engine *engine, struct cl_space *space, struct cl_held *held, size_t nr_held);

/*
 * advice: follow what the tasks told the kernel by madvise(2) and no userfaultfd tells (madvise_watch.h). To be called
 * before it is looked up which pages are missing. Lock held.
 */
void cl_engine_follow_madvise(struct cl_engine *engine);

/* events: faults on pages that were just dropped are not waits for the page server any more. Lock held. */
void cl_engine_forget_dropped_waiters(struct cl_space *space);

/* advice: watch that from now on, if this host can. */
void cl_engine_watch_madvise(struct cl_engine *engine);

/*
 * advice: look at what forks of the space's process leave out, if it is to be known: before its events are read, when a
 * fork's may be among them (the forking thread waits till then), or too late, `forked`, when one came unawares.
 * space->advice has it. Lock not held.
 */
void cl_engine_look_at_fork_advice(struct cl_engine *engine, struct cl_space *space, bool forked);

/* takeover: enter a new space, which has its key, in the ledger; where that fails, it can't be taken over. */
void cl_engine_enter(struct cl_engine *engine, struct cl_space *space);

/* takeover: warn once that there will be nothing to take over. */
void cl_engine_no_ledger(struct cl_engine *engine, int error);

/* events: a new space's userfaultfd is watched from now on. 0 or -errno. */
int cl_engine_watch(struct cl_engine *engine, struct cl_space *space);

#endif
