/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dump_guardian: keeps the connection to a lazy dump alive, or ends it rightly, when the proxy that uses it dies.
 *
 * To `criu dump --lazy-pages` the end of its connection means success, and it kills the source task. So a second,
 * tiny process, the guardian, holds the same connection. When the proxy's lifeline (a unix socket) ends, the
 * guardian acts on the phase which the proxy keeps in shared memory: rolls back (the source task runs on), holds on
 * (the restored task runs elsewhere: the source stays frozen, its memory intact, until another proxy takes
 * over, even if the dump is dead by then: it may be held in another way), or finishes a commit already sent. It can start
 * that other proxy itself, and does so until one stays; a roll back, too, is left to another for some seconds, as there
 * may be more to undo than the dump.
 *
 * What the next proxy must know is exact at any moment, even after SIGKILL in mid-answer: how many bytes were
 * sent and consumed is the kernel's own count (TCP_INFO), and every byte that was consumed but not yet understood lies
 * in the ring below, at its offset in the stream modulo the ring's size.
 */
#ifndef CL_DUMP_GUARDIAN_H
#define CL_DUMP_GUARDIAN_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { CL_DUMP_GUARDIAN_RING_BYTES = 1 << 20 };

enum cl_dump_guardian_phase {
	CL_DUMP_GUARDIAN_ROLLBACK, /* the restored task does not run: on death, the source task must run on */
	CL_DUMP_GUARDIAN_HOLD,     /* it runs: on death, keep the source frozen */
	CL_DUMP_GUARDIAN_COMMIT,   /* every page arrived, CLOSE is being sent: on death, finish it; hold if it wasn't sent */
	CL_DUMP_GUARDIAN_DONE,     /* nothing left to guard */
};

/* The stream of answers, understood up to next_header. */
struct cl_dump_guardian_progress {
	uint64_t next_header; /* stream offset at which the next answer starts */
	uint64_t answers;     /* answers whose header was understood */
	uint64_t gets;        /* those of them that answered a GET; the last one's range began at: */
	uint64_t vaddr;
	uint64_t dst_id;
};

/* Shared between proxy and guardian (memfd). One writer: the proxy. */
struct cl_dump_guardian_state {
	_Atomic uint32_t phase;           /* enum cl_dump_guardian_phase */
	_Atomic uint32_t running;         /* the restored task was seen to run */
	_Atomic uint32_t drained;         /* the last client said CLOSE */
	_Atomic uint32_t wire_version;    /* 0 until known */
	_Atomic uint32_t parent_first;    /* the first request is PARENT (see dump_proxy.h), not a GET */
	_Atomic uint64_t restored_client; /* the push client that has restored everything; 0: nobody */
	uint64_t sent_base_bytes;         /* what cl_dump_guardian_counts gave on the fresh connection */
	uint64_t consumed_base_bytes;
	/* The slot in use is complete: written first, then switched to. */
	_Atomic uint32_t slot;
	struct cl_dump_guardian_progress progress[2];
	_Alignas(4096) uint8_t ring[CL_DUMP_GUARDIAN_RING_BYTES];
};

/*
 * A new shared state for a connection on which nothing was sent yet; *memfd_out is owned by the caller.
 * 0 or a negative errno.
 */
int cl_dump_guardian_state_new(int upstream_fd, struct cl_dump_guardian_state **state_out, int *memfd_out);

/* Map the state that a guardian handed over. NULL with errno set. */
struct cl_dump_guardian_state *cl_dump_guardian_state_map(int memfd);
void cl_dump_guardian_state_unmap(struct cl_dump_guardian_state *state);

/*
 * Start the guardian: a child of the caller, in its own session, deaf to SIGINT, SIGTERM and SIGHUP. takeover_fd: a
 * listening unix socket on which the next proxy is handed the connection, or -1. resume: the command which starts that one
 * (argv, with a path in [0], NULL at the end), or NULL. Returns the proxy's end of the lifeline, or a negative errno.
 * To be called while the process has one thread.
 */
int cl_dump_guardian_start(int upstream_fd, int memfd, int takeover_fd, char *const *resume);

/*
 * Take a connection over from the guardian behind `lifeline_fd` (connected to its takeover socket). 0 or -errno; -EPIPE if
 * another proxy has it, -EPERM if it is another user's.
 */
int cl_dump_guardian_take_over(int lifeline_fd, int *upstream_fd_out, int *memfd_out);

/* Bytes sent to and consumed from a TCP connection, counted from an arbitrary start. 0 or a negative errno. */
int cl_dump_guardian_counts(int fd, uint64_t *sent_bytes_out, uint64_t *consumed_bytes_out);

/*
 * Make the dump behind `upstream_fd` give up: send what no page server understands, read on until it hangs up.
 * 0; -ETIMEDOUT if it did not hang up in time (it will read what was sent when it can); or a negative errno.
 */
int cl_dump_guardian_roll_back(int upstream_fd);

#endif
