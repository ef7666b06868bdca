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
 *   stored   with a store of pages that came before the dump (precopied.h): installs from there what a thread waits for. One.
 *   streams  one for each connection of a page server that pushes (source_push_streams.h): receive and install; 0 is the
 *            demand connection.
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
#include "destination/flow.h"
#include "destination/uffd_guardian.h"
#include "destination/resume_state.h"
#include "base/error.h"
#include "base/log.h"
#include "destination/madvise_watch.h"
#include "destination/source_stock.h"
#include "destination/schedule.h"
#include "destination/address_space.h"

#define CL_COPY_BYTES (256U << 10)
#define CL_RECEIVE_BYTES (256U << 10)
#define CL_MAX_WORKERS 16

struct cl_page_source;
struct cl_push;
struct cl_restored;
struct cl_precopy_store;

/* More than 25 fields, as it is what one mutex guards: several threads read and change them together. */
struct cl_engine {
	struct cl_config config;
	struct cl_log log;
	pthread_mutex_t lock;
	pthread_cond_t work;   /* workers: something to receive or to copy, or the end */
	pthread_cond_t stored; /* a thread waits for a page that is in the store; or the end */
	pthread_cond_t gate;   /* a space's copying or reading changed; or the connection is idle */
	struct cl_schedule schedule;
	struct cl_flow flow;
	struct cl_remote remote;
	const struct cl_page_source *source;
	struct cl_push *push;             /* source_push.c's; NULL: the page server never agreed to push */
	struct cl_precopy_store *store;   /* of pages that came before the dump; NULL: there is none */
	bool store_is_bad;                /* unreadable: do not announce it */
	bool store_is_full;               /* nothing more is written there */
	struct cl_uffd_guardian guardian; /* these two: the events thread's */
	struct cl_resume_state resume_state;
	struct cl_chunk_pool chunks;      /* of all spaces' bitmaps */
	struct cl_chunk_pool todo_chunks; /* and of all images' */
	bool warned_no_resume_state;      /* it was warned of */
	bool short_of_fds;                /* the same; the events thread's */
	struct cl_tls_credentials *tls;   /* NULL: the page server is spoken to in plain */
	struct cl_stats stats;
	struct cl_restored *restored_tasks; /* ended.h; the events thread's */
	bool look_at_ends;                  /* at these, as one may have ended */
	struct cl_madvise_watch madvise;    /* the lock's, as all that advice.c does with it */
	bool fork_advice_changed;           /* by a restored task or its children, since the dump; or it isn't watched */
	bool lost_madvise;                  /* it was warned of */
	bool reading; /* events that aren't applied yet: the tasks' calls, which may come after them, wait */
	struct cl_madvise_call *later; /* these; nobody fills meanwhile */
	size_t nr_later, max_later;
	struct cl_image *images;
	int wire_version; /* as the images tell */
	pthread_t workers[CL_MAX_WORKERS], stored_worker;
	unsigned int nr_workers;
	bool has_stored_worker;
	int epoll_fd, wake_fd, restore_fd;
	bool has_remote;
	bool was_asked;      /* the page server, whether it pushes */
	bool is_refused;     /* by the page server, from the start: it is another daemon's */
	bool remote_hung_up; /* before any task runs: a worker is to find out why */
	bool receiving, sending;
	struct sockaddr_storage remote_address; /* to connect to it again */
	socklen_t remote_address_bytes;         /* 0: not known */
	bool lost;                              /* the connection broke: nobody sends or receives until there is a new one */
	uint64_t lost_us;                       /* when; 0: something came since */
	unsigned int calls;                     /* made since then */
	uint64_t client;                        /* as which the page server knows this daemon (push_protocol.h) */
	bool source_is_gone;            /* for good, as far as this engine is concerned: what is missing will never come */
	unsigned int busy_workers;      /* not waiting for work */
	unsigned int nr_filling_stored; /* of them: in the background, from the store */
	unsigned int filling;           /* threads inside cl_engine_fill() */
	bool resumed;                   /* a successor: it took over from a daemon that was killed */
	bool restored;                  /* criu restore is done: background transfer may run */
	bool untold;                    /* more is missing than the page server knows, if it is one that pushes */
	bool ending;                    /* every page arrived: workers only drain the connection */
	bool stopping;                  /* failed, stopped or done: all threads leave */
	struct cl_error failure;        /* the first one; code 0: none */
};

/*
 * Note the first failure: as such (there is something to do yet), or make all threads leave, too. Lock held, or no other
 * thread.
 */
void cl_engine_note_failure(struct cl_engine *engine, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void cl_engine_fail(struct cl_engine *engine, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Make the events thread look for finished spaces, or notice the end. */
void cl_engine_wake(struct cl_engine *engine);

/*
 * There is something to receive or to copy: wake a worker, unless one is at work and will see it by itself. (With two
 * hosts' worth of threads on few CPUs, needless wake-ups are what costs most.) Lock held.
 */
void cl_engine_work_is_there(struct cl_engine *engine);

/* Ask the page source for what the schedule wants, if nobody does already. Lock held; dropped while sending. */
void cl_engine_ask(struct cl_engine *engine);

/* Watch a descriptor of the events thread's, which gets `tag` for it: 0 or -errno. And close it. */
int cl_engine_watch_fd(struct cl_engine *engine, int fd, uint32_t events, void *tag);
void cl_engine_unwatch(struct cl_engine *engine, int fd);

/* Warn once that there will be nothing to take over. */
void cl_engine_warn_no_resume_state(struct cl_engine *engine, int error);

/* Faults on pages that were just dropped are not waits for the page server any more. Lock held. */
void cl_engine_forget_dropped_waiters(struct cl_space *space);

/* The pages missing in all spaces. Lock held. */
uint64_t cl_engine_remaining_pages(const struct cl_engine *engine);

#endif
