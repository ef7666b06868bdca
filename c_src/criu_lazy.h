/* SPDX-License-Identifier: Apache-2.0 */
/*
 * criu_lazy.h: the engine's public interface, the only header Python sees (cffi reads the part between
 * the CFFI markers as it stands: plain C declarations, no directives but simple #define NAME NUMBER).
 *
 * An engine serves the page faults of one restore: it takes the restored tasks' userfaultfds from
 * `criu restore --lazy-pages` over a connected unix socket, fetches the pages that the images mark lazy,
 * from local images or from a page server, and returns when every task has all of its pages.
 *
 * Units: addresses and sizes in bytes unless a name says _pages; times in microseconds (_us).
 * Errors: functions that can fail return 0 or a negative errno; cl_engine_error() gives one line of text
 * saying what failed, on what, and why. The engine never exits the process and installs no signal handler.
 * Threads: cl_engine_run() blocks in its caller until the end; cl_engine_stats(), cl_engine_stop() may be
 * called from any other thread meanwhile. Everything else belongs to one thread, before or after run().
 */
#ifndef CRIU_LAZY_H
#define CRIU_LAZY_H

#include <stdint.h>
#include <stddef.h>

/* CFFI-BEGIN */
#define CL_LATENCY_BUCKETS 64
#define CL_WITHOUT_LIMIT -1
#define CL_IF_IT_PUSHES -2
#define CL_ERROR_TEXT_BYTES 512

/* Why something failed (base/error.h). */
struct cl_error {
	int code;                   /* a negative errno */
	char text[CL_ERROR_TEXT_BYTES]; /* one line, without the newline; ends in "..." if it was too long */
};

struct cl_engine;

/* One VMA of a task, as in mm-PID.img: [start, end), page aligned. */
struct cl_vma {
	uint64_t start;
	uint64_t end;
	uint64_t wiped_on_fork; /* 1: a forked child has zeroes there (MADV_WIPEONFORK), 0: it has its parent's pages */
};

struct cl_config {
	int images_fd;              /* directory with the images; borrowed for the engine's life */
	int remote_fd;              /* connected stream socket to a page server, or -1; owned by the engine */
	int log_fd;                 /* log lines go here, or -1; borrowed */
	int log_level;              /* 0 none, 1 errors, 2 warnings, 3 info, 4 debug: as criu -v */
	uint64_t log_start_us;      /* log lines tell CLOCK_MONOTONIC since then; 0: since cl_engine_new */
	int wire_version;           /* 1 or 2 as the source speaks, 0: as the pagemap images tell */
	int auto_dedup;             /* punch local images' pages out once they are filled in */
	unsigned int nr_workers;    /* receiving and copying threads; 0: by the number of CPUs */
	uint64_t max_in_flight_bytes; /* cap on what is asked of the page server at once; 0: the default */
	unsigned int push_streams;  /* ask the page server to push, by 1..16 background connections; 0: don't */
	int precopied_fd;           /* directory of the store that pre-copy left (precopy_receiver.h), or -1; borrowed */
	int64_t reconnect_us;       /* once the restored task runs: how long to connect to a lost page server again; 0: not;
	                             * CL_WITHOUT_LIMIT; CL_IF_IT_PUSHES: without limit if it pushes, else not */
};

/* TLS, by x509 on both sides, as criu's options. Paths; NULL: criu's default place. */
struct cl_tls_config {
	const char *ca_cert;        /* NULL: criu's default place; and, to a client, the system's authorities too */
	const char *ca_crl;         /* NULL: criu's default place, if there is one */
	const char *cert, *key;     /* ours */
	const char *host;           /* whom the server's certificate must name, or NULL */
	int no_cn_verify;           /* whatever name it has will do */
	const char *key_hex;        /* not NULL: instead of certificates, this key, in hexadecimal, which both sides know */
	int server;                 /* this side is the server */
};

/*
 * Counters since start. fault_wait_us: from reading a fault's event to waking its thread, by bucket: bucket i
 * holds waits below 2^(i/4) us (four to an octave), the last one all the rest.
 */
struct cl_stats {
	uint64_t total_pages;       /* lazy pages of all address spaces at start */
	uint64_t remaining_pages;   /* still missing somewhere */
	uint64_t copied_pages;      /* installed by UFFDIO_COPY */
	uint64_t zero_pages;        /* installed by UFFDIO_ZEROPAGE */
	uint64_t same_pages;        /* of those copied: from the store, on the page server's word */
	uint64_t dropped_pages;     /* not needed any more: unmapped, removed, or the task called execve or exit */
	uint64_t lost_pages;        /* missing when a restored task was killed, or ended nobody knows how */
	uint64_t demand_faults;     /* fault events on pages that had to be fetched */
	uint64_t zero_faults;       /* fault events on pages that are zero */
	uint64_t merged_faults;     /* fault events on a page asked for already */
	uint64_t received_bytes;    /* from the page server, headers included */
	uint64_t requests;          /* GETs sent */
	uint64_t in_flight_bytes;   /* now */
	uint64_t window_bytes;      /* cap on in_flight_bytes now */
	uint64_t delivery_rate;     /* bytes per second, as estimated */
	uint64_t min_rtt_us;        /* of the page server's connection */
	uint64_t address_spaces;    /* alive now */
	uint64_t events_fork, events_remap, events_unmap, events_remove;
	uint64_t again;             /* UFFDIO_COPY answered EAGAIN */
	uint64_t push_streams;      /* by which the page server pushes; 0: it doesn't */
	uint64_t reconnects;
	uint64_t paused_us;         /* since the connection to the page server was lost; 0 while there is one */
	uint64_t no_memory_us;      /* since there is no memory for a task's pages; 0 while there is */
	uint64_t waiting_faults;    /* threads that wait for a page now */
	uint64_t oldest_wait_us;    /* of these, the one that waits longest */
	uint64_t fault_wait_sum_us;
	uint64_t fault_wait_max_us;
	uint64_t fault_wait_us[CL_LATENCY_BUCKETS];
};

/* A restored task that ended while pages of it were missing; or, not by exit, while pages of others were. */
struct cl_ended {
	int32_t pid;                /* as in the images */
	char how[44];               /* "exit 3", "killed by SIGKILL" or "unknown" */
	uint64_t missing_pages;     /* 0: all of its own had arrived */
};

/* A new engine, or NULL with *error_out set to a static text. Frees nothing it borrows. */
struct cl_engine *cl_engine_new(const struct cl_config *config, const char **error_out);
void cl_engine_free(struct cl_engine *engine);

/*
 * Announce a task of the image directory: reads pagemap-PID.img (and, for pages held locally, pages-N.img
 * and the parent images). vmas: sorted, non-overlapping; copied. A pid announced twice: -EEXIST; an image that
 * is missing: -ENOENT, or damaged: -EBADMSG.
 */
int cl_engine_add_task(struct cl_engine *engine, int32_t pid, const struct cl_vma *vmas, size_t nr_vmas);

/* The pagemap images announced so far tell the protocol: 1, 2, or 0 where they have no entry. */
int cl_engine_wire_version(const struct cl_engine *engine);

/*
 * The page server is to be spoken to by TLS: loads the files. Before cl_engine_set_remote. -ENOSYS if the engine
 * was built without GnuTLS, -EBADF for a file that can't be used.
 */
int cl_engine_set_tls(struct cl_engine *engine, const struct cl_tls_config *tls);

/*
 * Give the engine its page server connection after cl_engine_new (owned by the engine from then on, on failure
 * too). With TLS this is the handshake: it waits up to 10 s, and ends with -EINTR at a caught signal; a server
 * that is not the one meant is left before it can take the end of the connection for success: -EACCES. A stock server
 * gets as much time again to refuse us: -EPROTO.
 */
int cl_engine_set_remote(struct cl_engine *engine, int remote_fd);

/* Between that and cl_engine_run: 0, or -EPROTO if the server has hung up. Without TLS it isn't known: 0. */
int cl_engine_check_remote(struct cl_engine *engine);

/*
 * Between these, after cl_engine_add_task: ask the page server now, and not in cl_engine_run, whether it pushes, which
 * tells whether it serves us at all: 0, -EBUSY or -ESHUTDOWN if it refuses, or another -errno. Waits up to 10 s. A server
 * that doesn't push is left in the middle of a request from then on: one of CRIU's that loses us rolls back.
 */
int cl_engine_greet(struct cl_engine *engine);

/*
 * Instead of a restore: go on where a daemon was that was killed once the restored tasks ran. holder_fd is connected to
 * the holder's socket (CL_HOLDER_SOCKET, seqpacket, in that daemon's working directory), owned by the engine from then
 * on. After cl_engine_add_task of the same images, before cl_engine_set_remote. On failure the tasks go on waiting for
 * another to take over: -ESTALE (other images), -EPERM (another user's), -EPROTO, -EBADMSG or another errno.
 */
int cl_engine_take_over(struct cl_engine *engine, int holder_fd);

/*
 * Serve the restore that is connected at restore_fd (owned by the engine from then on). Returns 0 when every
 * page of every task arrived (the page server was told CLOSE) or there was nothing to do; -ECANCELED after
 * cl_engine_stop(); -EPIPE when the restore failed or its connection ended early; -EIO when the page server
 * was lost, and can't come back or did not in time (reconnect_us), or before the restored tasks ran. After cl_engine_take_over,
 * restore_fd is -1; and if it fails before any page came, the tasks go on waiting for another to take over.
 * -ESRCH when all was served, but a restored task was killed, or ended nobody knows how, with pages missing (lost_pages,
 * cl_engine_ended): the page server was not told CLOSE, unless it is a stock one's and another restored task lives.
 */
int cl_engine_run(struct cl_engine *engine, int restore_fd);

/* Make cl_engine_run() return -ECANCELED soon. Any thread. */
void cl_engine_stop(struct cl_engine *engine);

/* A snapshot, consistent in itself. Any thread. */
void cl_engine_stats(struct cl_engine *engine, struct cl_stats *out);

/* The index-th restored task that ended so: 1, or 0 if there are fewer. Any thread. */
int cl_engine_ended(struct cl_engine *engine, uint64_t index, struct cl_ended *out);

/* What went wrong, as one line; "" if nothing did. Valid until the next call on this engine. */
const char *cl_engine_error(const struct cl_engine *engine);
/* CFFI-END */

#endif
