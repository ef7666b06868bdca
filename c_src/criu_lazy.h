/* SPDX-License-Identifier: Apache-2.0 */
/*
 * criu_lazy.h: the C API: all that Python sees of C (cffi reads the part between the CFFI markers as it stands: plain C
 * declarations, no directives but #define NAME NUMBER and #define NAME "TEXT"). In criu_lazy_ext/_engine.pyi the same
 * is told to mypy; tests/unit/test_border.py compares.
 *
 * An engine serves the page faults of one restore: it takes the restored tasks' userfaultfds from
 * `criu restore --lazy-pages` over a connected unix socket, fetches the pages that the images mark lazy,
 * from local images or from a page server, and returns when every task has all of its pages.
 *
 * Units: addresses and sizes in bytes unless a name says _pages; times in microseconds (_us).
 * Errors: functions that can fail take a struct cl_error, never NULL, and return 0 or the negative errno that they set
 * there, or NULL; its text is one line saying what failed, on what, and why. On success it is as it was. The engine never
 * exits the process and installs no signal handler.
 * Threads: cl_engine_run() blocks in its caller until the end; cl_engine_stats(), cl_engine_stop() may be
 * called from any other thread meanwhile. Everything else belongs to one thread, before or after run().
 */
#ifndef CRIU_LAZY_H
#define CRIU_LAZY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* CFFI-BEGIN */
#define CL_LATENCY_BUCKETS 64
#define CL_MAP_SLICES 64
#define CL_WITHOUT_LIMIT -1
#define CL_IF_IT_PUSHES -2
#define CL_PUSH_MAX_STREAMS 16
/* In a daemon's working directory: its guardian listens here once the daemon was killed (destination/uffd_guardian.h). */
#define CL_GUARDIAN_SOCKET "lazy-pages-hold.socket"
/*
 * So many such bytes, wherever they begin in what a stock dump reads, are no command that it knows: it gives up, and its
 * tasks run on.
 */
#define CL_ROLL_BACK_BYTE 0x55
#define CL_ROLL_BACK_BYTES 32
#define CL_ERROR_TEXT_BYTES 512

/* Why something failed (base/error.h). */
struct cl_error {
	int code;                       /* a negative errno */
	char text[CL_ERROR_TEXT_BYTES]; /* one line, without the newline; ends in "..." if it was too long */
};

struct cl_engine;

/* One VMA of a task, as in mm-PID.img: [start, end), page aligned. All fields are uint64_t. */
struct cl_vma {
	uint64_t start;
	uint64_t end;
	uint64_t wiped_on_fork; /* 1: a forked child has zeroes there (MADV_WIPEONFORK), 0: it has its parent's pages */
};

struct cl_config {
	int images_fd;                /* directory with the images; borrowed for the engine's life */
	int log_fd;                   /* log lines go here, or -1; borrowed */
	int log_level;                /* 0 none, 1 errors, 2 warnings, 3 info, 4 debug: as criu -v */
	uint64_t log_start_us;        /* log lines tell CLOCK_MONOTONIC since then; 0: since cl_engine_new */
	int wire_version;             /* 1 or 2 as the source speaks, 0: as the pagemap images tell */
	int auto_dedup;               /* punch local images' pages out once they are filled in */
	unsigned int nr_workers;      /* receiving and copying threads; 0: by the number of CPUs */
	uint64_t max_in_flight_bytes; /* cap on what is asked of the page server at once; 0: the default */
	unsigned int push_streams; /* ask the page server to push, by 1..CL_PUSH_MAX_STREAMS background streams; 0: don't */
	int precopied_fd;          /* directory of the store that pre-copy left (precopy_receiver.h), or -1; borrowed */
	int64_t reconnect_us;      /* once the restored task runs: how long to connect to a lost page server again; 0: not;
	                             * CL_WITHOUT_LIMIT; CL_IF_IT_PUSHES: without limit if it pushes, else not */
};

/* TLS, by x509 on both sides, as criu's options. Paths; NULL: criu's default place. */
struct cl_tls_config {
	const char *ca_cert;    /* NULL: criu's default place; and, to a client, the system's authorities too */
	const char *ca_crl;     /* NULL: criu's default place, if there is one */
	const char *cert, *key; /* ours */
	const char *host;       /* whom the server's certificate must name, or NULL */
	int no_cn_verify;       /* whatever name it has will do */
	const char *key_hex;    /* not NULL: instead of certificates, this key, in hexadecimal, which both sides know */
	int server;             /* this side is the server */
};

/*
 * Counters since start. fault_wait_us: from reading a fault's event to waking its thread, by bucket: bucket i
 * holds waits below 2^(i/4) us (four to an octave), the last one all the rest. More than 25 fields: each is a counter of its
 * own, and Python reads them by their names.
 */
struct cl_stats {
	uint64_t total_pages;     /* lazy pages of all address spaces at start */
	uint64_t remaining_pages; /* still missing somewhere */
	uint64_t copied_pages;    /* installed by UFFDIO_COPY */
	uint64_t zero_pages;      /* installed by UFFDIO_ZEROPAGE */
	uint64_t same_pages;      /* of those copied: from the store, on the page server's word */
	uint64_t dropped_pages;   /* not needed any more: unmapped, removed, or the task called execve or exit */
	uint64_t lost_pages;      /* missing when a restored task was killed, or ended nobody knows how */
	uint64_t demand_faults;   /* fault events on pages that had to be fetched */
	uint64_t zero_faults;     /* fault events on pages that are zero */
	uint64_t merged_faults;   /* fault events on a page asked for already */
	uint64_t received_bytes;  /* from the page server, headers included */
	uint64_t requests;        /* GETs sent */
	uint64_t in_flight_bytes; /* now */
	uint64_t window_bytes;    /* cap on in_flight_bytes now */
	uint64_t delivery_rate;   /* bytes per second, as estimated */
	uint64_t min_rtt_us;      /* to the page server, as the flow control takes it */
	uint64_t address_spaces;  /* alive now */
	uint64_t events_fork, events_remap, events_unmap, events_remove;
	uint64_t again;        /* UFFDIO_COPY answered EAGAIN */
	uint64_t push_streams; /* by which the page server pushes; 0: it doesn't */
	uint64_t reconnects;
	uint64_t paused_us;      /* since the connection to the page server was lost; 0 while there is one */
	uint64_t no_memory_us;   /* since there is no memory for a task's pages; 0 while there is */
	uint64_t waiting_faults; /* threads that wait for a page now */
	uint64_t oldest_wait_us; /* of these, the one that waits longest */
	uint64_t fault_wait_sum_us;
	uint64_t fault_wait_max_us;
	uint64_t fault_wait_us[CL_LATENCY_BUCKETS];
	uint8_t missing_map[CL_MAP_SLICES]; /* now, by part of memory: 0 nothing .. 255 all (destination/missing_map.h) */
	uint64_t demand_map[CL_MAP_SLICES]; /* of demand_faults, by the same parts */
	uint64_t same_map[CL_MAP_SLICES];   /* of same_pages */
};

/* A restored task that ended while pages of it were missing; or, not by exit, while pages of others were. */
struct cl_ended {
	int32_t pid;            /* as in the images */
	char how[44];           /* "exit 3", "killed by SIGKILL" or "unknown" */
	uint64_t missing_pages; /* 0: all of its own had arrived */
};

/* A new engine, or NULL. Frees nothing it borrows. */
struct cl_engine *cl_engine_new(const struct cl_config *config, struct cl_error *error);
void cl_engine_free(struct cl_engine *engine);

/*
 * Announce a task of the image directory: reads pagemap-PID.img (and, for pages held locally, pages-N.img
 * and the parent images). vmas: sorted, non-overlapping; copied. A pid announced twice: -EEXIST; an image that
 * is missing: -ENOENT, or damaged: -EBADMSG.
 */
int cl_engine_add_task(struct cl_engine *engine, int32_t pid, const struct cl_vma *vmas, size_t nr_vmas,
		       struct cl_error *error);

/* The pagemap images announced so far tell the protocol: 1, 2, or 0 where they have no entry. */
int cl_engine_wire_version(const struct cl_engine *engine);

/*
 * The page server is to be spoken to by TLS: loads the files. Before cl_engine_set_remote. -ENOSYS if the engine
 * was built without OpenSSL, -EBADF for a file that can't be used.
 */
int cl_engine_set_tls(struct cl_engine *engine, const struct cl_tls_config *tls, struct cl_error *error);

/*
 * Give the engine its page server connection after cl_engine_new (owned by the engine from then on, on failure
 * too). With TLS this is the handshake: it waits up to 10 s, and ends with -EINTR at a caught signal; a server
 * that is not the one meant is left before it can take the end of the connection for success: -EACCES. A stock server
 * gets as much time again to refuse us: -EPROTO. One connection already: -EEXIST.
 */
int cl_engine_set_remote(struct cl_engine *engine, int remote_fd, struct cl_error *error);

/* Between that and cl_engine_run: 0, or -EPROTO if the server has hung up. Without TLS it isn't known: 0. */
int cl_engine_check_remote(struct cl_engine *engine, struct cl_error *error);

/*
 * Between these, after cl_engine_add_task: ask the page server now, and not in cl_engine_run, whether it pushes, which
 * tells whether it serves us at all: 0, -EBUSY or -ESHUTDOWN if it refuses, or another -errno. Waits up to 10 s. A server
 * that doesn't push is left in the middle of a request from then on: one of CRIU's that loses us rolls back.
 */
int cl_engine_greet(struct cl_engine *engine, struct cl_error *error);

/*
 * Instead of a restore: go on where a daemon was that was killed once the restored tasks ran. guardian_fd is connected to
 * the guardian's socket (CL_GUARDIAN_SOCKET, seqpacket, in that daemon's working directory), owned by the engine from then
 * on. After cl_engine_add_task of the same images, before cl_engine_set_remote. On failure the tasks go on waiting for
 * another to take over: -ESTALE (other images), -EPERM (another user's), -EPROTO, -EBADMSG or another errno.
 */
int cl_engine_take_over(struct cl_engine *engine, int guardian_fd, struct cl_error *error);

/*
 * Serve the restore that is connected at restore_fd (owned by the engine from then on). Returns 0 when every
 * page of every task arrived (the page server was told CLOSE) or there was nothing to do; -ECANCELED after
 * cl_engine_stop(); -EPIPE when the restore failed or its connection ended early; -EIO when the page server
 * was lost, and can't come back or did not in time (reconnect_us), or before the restored tasks ran. After
 * cl_engine_take_over, restore_fd is -1; and if it fails before any page came, the tasks go on waiting for another to
 * take over. -ESRCH when all was served, but a restored task was killed, or ended nobody knows how, with pages missing
 * (lost_pages, cl_engine_ended): the page server was not told CLOSE, unless it is a stock one's and another restored task
 * lives.
 */
int cl_engine_run(struct cl_engine *engine, int restore_fd, struct cl_error *error);

/* Make cl_engine_run() return -ECANCELED soon. Any thread. */
void cl_engine_stop(struct cl_engine *engine);

/* A snapshot, consistent in itself. Any thread. */
void cl_engine_stats(struct cl_engine *engine, struct cl_stats *out);

/* The index-th restored task that ended so: 1, or 0 if there are fewer. Any thread. */
int cl_engine_ended(struct cl_engine *engine, uint64_t index, struct cl_ended *out);

/* ---- the page server's connection to a stock dump (source/dump_proxy.h) ---- */

#define CL_DUMP_PROXY_TEXT_BYTES 256

struct cl_dump_proxy;

enum cl_dump_proxy_state {
	CL_DUMP_PROXY_WAITING = 0,   /* no client yet */
	CL_DUMP_PROXY_SERVING = 1,   /* a client is connected */
	CL_DUMP_PROXY_PAUSED = 2,    /* the client was lost; the next one goes on */
	CL_DUMP_PROXY_DRAINED = 3,   /* the client said CLOSE: it has every page */
	CL_DUMP_PROXY_COMMITTED = 4, /* the dump was told CLOSE and has ended */
	CL_DUMP_PROXY_ABORTED = 5,   /* the dump was told to give up: the source task runs on */
	CL_DUMP_PROXY_FAILED = 6     /* as its end tells */
};

struct cl_dump_proxy_config {
	int upstream_fd;  /* TCP connection to the dump; owned by the proxy */
	int takeover_fd;  /* listening unix socket: the guardian hands the connection over there, or -1; borrowed */
	char **resume;    /* the command that the guardian starts to take over (dump_guardian.h), or NULL; borrowed */
	int log_fd;       /* log lines go here, or -1; borrowed */
	int log_level;    /* 1 errors, 2 warnings, 3 info, 4 debug: as criu -v */
	int wire_version; /* 1, 2, or 0: as the first client's first request tells */
	int hold_close;   /* a client's CLOSE is answered at once; the dump hears it only by cl_dump_proxy_commit() */
	uint64_t max_request_pages; /* larger GETs are refused */
};

struct cl_dump_proxy_info {
	int state;                /* enum cl_dump_proxy_state */
	int running;              /* the restored task runs at the destination */
	int alone;                /* the dump has died, and the fence holds the source task: see cl_dump_proxy_run_alone() */
	int held;                 /* should this process end now, the guardian holds on and another may resume */
	int wire_version;         /* 0 until known */
	uint64_t requests;        /* GETs forwarded */
	uint64_t bytes;           /* forwarded to clients, headers included */
	uint64_t discarded_bytes; /* answers whose client was lost */
	uint64_t clients;         /* accepted so far */
	uint64_t silent_ms;       /* since the client's host last answered at all; 0 without a client */
	char client[CL_DUMP_PROXY_TEXT_BYTES]; /* address, "" without one */
};

/*
 * A proxy on a fresh connection to a dump, which may still be to come, with its guardian started: call it in a process
 * with one thread. NULL on error; then the connection is closed and the dump was rolled back.
 */
struct cl_dump_proxy *cl_dump_proxy_new(const struct cl_dump_proxy_config *config, struct cl_error *error);

/*
 * A proxy on the connection that the guardian of a dead proxy holds, reached by lifeline_fd (a unix socket connected
 * to its takeover socket; owned). config->upstream_fd, resume and wire_version are ignored.
 */
struct cl_dump_proxy *cl_dump_proxy_resume(const struct cl_dump_proxy_config *config, int lifeline_fd,
					   struct cl_error *error);

/*
 * Only these pids (in the dump's namespace) may be asked for; copied. None: any, though an unknown one makes a stock
 * dump crash (its task runs on). Before cl_dump_proxy_run(). 0 or -ENOMEM.
 */
int cl_dump_proxy_set_tasks(struct cl_dump_proxy *proxy, const uint64_t *tasks, size_t nr_tasks);

/* If the proxy did not end in CL_DUMP_PROXY_COMMITTED or _ABORTED, its guardian takes over now. */
void cl_dump_proxy_free(struct cl_dump_proxy *proxy);

/*
 * Serve until the end. 0: committed. -ECANCELED: rolled back. -EOWNERDEAD: the dump ended by itself, and the restored task
 * runs: cl_dump_proxy_run_alone() is due, until which no page is sent. Otherwise failed: -EPIPE when the dump ended by
 * itself. The error is set only then, and after -EOWNERDEAD.
 */
int cl_dump_proxy_run(struct cl_dump_proxy *proxy, struct cl_error *error);

/*
 * After -EOWNERDEAD. `held`: something else keeps the source task as the dump left it: go on without a dump: push clients
 * are served, nobody else. 0: commit: the caller now kills the source task. -ECANCELED: it lets it run on.
 * Both: then cl_dump_proxy_end_alone(). Otherwise failed, with an error: it is not held, or not any more.
 */
int cl_dump_proxy_run_alone(struct cl_dump_proxy *proxy, int held, struct cl_error *error);

/*
 * The caller has done so: `state` is CL_DUMP_PROXY_COMMITTED or _ABORTED: 0; or CL_DUMP_PROXY_FAILED: -EBUSY, the source
 * task was sent SIGKILL and is not gone; then another proxy may try.
 */
int cl_dump_proxy_end_alone(struct cl_dump_proxy *proxy, int state, struct cl_error *error);

/* Any thread: what kept the source task without a dump does so no more. why: for the log, once; NULL: it was said. */
void cl_dump_proxy_source_lost(struct cl_dump_proxy *proxy, const char *why);

/*
 * Any thread: the restored task runs, so nothing but a commit or a forced abort may end the dump from now on. With 0:
 * it is known not to, after all.
 */
void cl_dump_proxy_set_running(struct cl_dump_proxy *proxy, int running);

/* Any thread: end the dump with success, which kills the source task. -EBUSY unless drained or forced. */
int cl_dump_proxy_commit(struct cl_dump_proxy *proxy, int force);

/* Any thread: make the dump give up; the source task runs on. -EBUSY if the restored task runs, unless forced. */
int cl_dump_proxy_abort(struct cl_dump_proxy *proxy, int force);

/* Any thread: close the connection to the client, as if it had been lost. */
void cl_dump_proxy_drop_client(struct cl_dump_proxy *proxy);

/* Any thread. */
void cl_dump_proxy_info(struct cl_dump_proxy *proxy, struct cl_dump_proxy_info *out);

/* ---- pre-copy, at the source (source/precopy_sender.h) ---- */

struct cl_precopy;

enum cl_precopy_state {
	CL_PRECOPY_NONE = 0, /* no store came yet */
	CL_PRECOPY_CONNECTED = 1,
	CL_PRECOPY_LOST = 2,    /* its connection broke; another may come */
	CL_PRECOPY_COMPLETE = 3 /* it has said that it has everything */
};

struct cl_precopy_config {
	int log_fd;              /* log lines go here, or -1; borrowed */
	int log_level;           /* 1 errors, 2 warnings, 3 info, 4 debug: as criu -v */
	unsigned int nr_threads; /* that read and hash in a round, 1.. */
	uint64_t rate;           /* bytes per second that pages may take; 0: no limit */
};

struct cl_precopy_round {
	uint64_t number;        /* 1.. */
	uint64_t scanned_pages; /* read */
	uint64_t unread_pages;  /* sent before, and not written since, as the kernel knows */
	uint64_t sent_pages;    /* changed or new, zero ones among them */
	uint64_t zero_pages, packed_pages;
	uint64_t sent_bytes; /* of pages, as sent, and headers */
	uint64_t elapsed_us; /* until the store had everything */
	bool was_cut;        /* cl_precopy_cut() was called: it may have left something out */
};

/* NULL on error: -ENOSYS if the build has no xxHash. */
struct cl_precopy *cl_precopy_new(const struct cl_precopy_config *config, struct cl_error *error);

/* After the listener.h that it was given to. */
void cl_precopy_free(struct cl_precopy *precopy);

/*
 * One round over these tasks: pids[i] is, as we see it, the one that the images will name ids[i]. Blocks until the store
 * has confirmed it. 0; -EBUSY (another is under way), -ENOTCONN (no store is connected, or it was lost meanwhile),
 * -ECANCELED (stopped) or another -errno.
 */
int cl_precopy_round(struct cl_precopy *precopy, const int32_t *ids, const int32_t *pids, size_t nr_tasks,
		     struct cl_precopy_round *out, struct cl_error *error);

/* Any thread: the round under way, if one is, ends soon as if nothing were left to send. What it sent stays valid. */
void cl_precopy_cut(struct cl_precopy *precopy);

/* Any thread: what the round under way has done so far; zeroes if none is. */
void cl_precopy_under_way(struct cl_precopy *precopy, struct cl_precopy_round *out);

/* The store is to be completed. Blocks until it has confirmed that. Errors as above. */
int cl_precopy_finish(struct cl_precopy *precopy, struct cl_error *error);

/* Any thread: no more rounds; one under way ends soon, and an incomplete store is lost. */
void cl_precopy_stop(struct cl_precopy *precopy);

/* Any thread. */
void cl_precopy_set_rate(struct cl_precopy *precopy, uint64_t bytes_per_s);

/* Any thread: enum cl_precopy_state. */
int cl_precopy_state(struct cl_precopy *precopy);

/* ---- the network side of the page server (source/listener.h) ---- */

#define CL_LISTENER_CONNECTIONS 64
#define CL_LISTENER_STRANGERS 16

struct cl_listener;

struct cl_listener_config {
	int listen_fd;       /* listening TCP socket; owned */
	int log_fd;          /* log lines go here, or -1; borrowed */
	int log_level;       /* 1 errors, 2 warnings, 3 info, 4 debug: as criu -v */
	int images_fd;       /* the dump's images, to push its pages, or -1: all clients are the proxy's; borrowed */
	const int32_t *ids;  /* its tasks, as the images name them; copied */
	const int32_t *pids; /* the same, as we see them; copied */
	size_t nr_tasks;
	int gone;                        /* some of them: no push clients any more; the proxy serves who was one */
	const struct cl_tls_config *tls; /* NULL: in plain */
	uint64_t rate;                   /* bytes per second that pages may take; 0: no limit */
	struct cl_precopy *precopy;      /* with a proxy: what its store has need not be pushed. NULL: none. Outlives it */
};

struct cl_listener_info {
	uint64_t sessions;    /* with push clients */
	unsigned int streams; /* background streams of the present one */
	uint64_t asked_pages; /* by demand */
	uint64_t left_pages;  /* of these: left to a stream on which they were on their way */
	uint64_t pushed_pages;
	uint64_t zero_pages; /* of those pushed */
	uint64_t packed_pages;
	uint64_t same_pages; /* not sent, the client's store has them; pushed and by demand */
	uint64_t also_pages; /* went with another task's, which has the same; not among those pushed */
	uint64_t sent_bytes; /* by pushing, demand pages included */
	uint64_t lost_tasks, lost_pages, lost_task; /* as the client tells: push_server.h */
	unsigned int lost_signal;
	uint64_t rate;
};

/*
 * Start to serve, in threads of its own. NULL on error. The proxy must outlive it; NULL: before the dump, for a
 * store alone. The listener is closed in any case.
 */
struct cl_listener *cl_listener_new(struct cl_dump_proxy *proxy, const struct cl_listener_config *config,
				    struct cl_error *error);

/* Close all connections, wait for their threads. */
void cl_listener_free(struct cl_listener *listener);

/*
 * The dump has died: from now on the tasks' stop signal holds them (see cl_push_server_stand_alone()). Between
 * cl_dump_proxy_run() and cl_dump_proxy_run_alone(). 0 or -errno: nobody can be served then.
 */
int cl_listener_stand_alone(struct cl_listener *listener);

/* Any thread. */
void cl_listener_set_rate(struct cl_listener *listener, uint64_t bytes_per_s);

/* Any thread: end the session of a push client, as if it had been lost. */
void cl_listener_drop_client(struct cl_listener *listener);

/* Any thread. */
void cl_listener_info(struct cl_listener *listener, struct cl_listener_info *out);

/* ---- pre-copy, at the destination (destination/precopy_receiver.h) ---- */

struct cl_precopy_receiver;

struct cl_precopy_receiver_config {
	int remote_fd;                   /* connected to the page server; owned, on failure too */
	int directory_fd;                /* gets the files `pages` and `index`; borrowed */
	int log_fd;                      /* log lines go here, or -1; borrowed */
	int log_level;                   /* 1 errors, 2 warnings, 3 info, 4 debug: as criu -v */
	const struct cl_tls_config *tls; /* NULL: in plain */
};

/*
 * Agree with the page server; waits up to 10 s for each of its answers. NULL on error; then there may be an
 * empty file `pages`.
 */
struct cl_precopy_receiver *cl_precopy_receiver_new(const struct cl_precopy_receiver_config *config, struct cl_error *error);

/*
 * Receive until the store is complete and the server knows: 0. Or -errno: -ECANCELED after cl_precopy_receiver_stop().
 */
int cl_precopy_receiver_run(struct cl_precopy_receiver *receiver, struct cl_error *error);

/* Make cl_precopy_receiver_run() return soon. Any thread. */
void cl_precopy_receiver_stop(struct cl_precopy_receiver *receiver);

void cl_precopy_receiver_free(struct cl_precopy_receiver *receiver);

/* ---- huge pages for a restored task (task/collapse.c) ---- */

/*
 * MADV_COLLAPSE on [start, start + size), aligned to huge pages, in the process that pidfd holds. 0; or -errno: -EAGAIN
 * and -EBUSY (its pages are in use), -ENOMEM (no free huge page, or nothing mapped there), -EINVAL (not allowed there,
 * or a kernel before 6.1), -ESRCH (the process is gone), -EPERM (CAP_SYS_NICE is missing).
 */
int cl_collapse(int pidfd, uint64_t start, uint64_t size);
/* CFFI-END */

#endif
