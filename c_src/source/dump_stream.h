/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dump_stream: the one connection to a lazy dump, in CRIU's page-server protocol. Requests go out; answers come into the
 * ring in shared memory (dump_guardian.h), and are understood header by header, so that of each byte it is known whether
 * the present client is to have it. What another page server must know to go on here, should this process die, is in the
 * shared state at any moment.
 *
 * The byte sent ahead: a dump that reads the end of its connection *between* two headers kills the task, but in the
 * middle of a header it gives up and the task runs on. So the first byte of the next header is always sent ahead:
 * should every process of ours die at once, the kernel itself closes the connection in the middle of a header. The
 * byte is the first one of a GET. So each request is sent from its second byte on, followed by the first byte of the
 * next. Before the first GET it is PARENT's (a question without effect); to commit, the last GET is repeated for one
 * page, and then CLOSE fits. All this needs the protocol version; until that is known only the guardian protects the task.
 *
 * One thread, but where it is said.
 */
#ifndef CL_DUMP_STREAM_H
#define CL_DUMP_STREAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "source/dump_guardian.h"
#include "wire/page_protocol.h"

enum {
	/*
	 * Requests not answered yet. Their headers (32 KiB) fit any socket's send buffer, so that sending one never blocks.
	 */
	CL_DUMP_MAX_OWED = 1024,
	CL_DUMP_BATCH_BYTES = 16384, /* of requests that are sent at once */
};

enum cl_dump_answer {
	CL_DUMP_ANSWER_PARENT, /* a bare u32 */
	CL_DUMP_ANSWER_PAGES,  /* ADD_F header and pages */
	CL_DUMP_ANSWER_STATUS, /* a bare u32: the dump's last word */
};

struct cl_dump_owed {
	enum cl_dump_answer kind;
	uint64_t client; /* whose request it was: serial number; 0 for our own */
	uint64_t nr_pages;
	uint64_t vaddr;
	uint64_t dst_id;
};

/* What the dump has of the next header already. */
enum cl_dump_ahead { CL_DUMP_AHEAD_NONE, CL_DUMP_AHEAD_PARENT, CL_DUMP_AHEAD_GET };

struct cl_dump_stream {
	int fd;                                /* owned */
	struct cl_dump_guardian_state *shared; /* owned; NULL: not yet */
	size_t header_bytes;                   /* 0 until the version is known */
	enum cl_dump_ahead ahead;
	/* The stream of answers, as offsets: forwarded <= consumed, and next_header is where understanding ends. */
	uint64_t consumed, forwarded, next_header;
	bool wanted; /* [forwarded, next_header) is for the present client; otherwise dropped */
	struct cl_dump_guardian_progress progress;
	struct cl_dump_owed owed[CL_DUMP_MAX_OWED];
	size_t owed_head, nr_owed;
	bool close_sent, status_received;
	uint32_t status;
	_Atomic uint64_t discarded_bytes; /* answers whose client was lost */
};

/* Requests for pages, to be sent at once. */
struct cl_dump_batch {
	uint8_t bytes[CL_DUMP_BATCH_BYTES + 2 * CL_WIRE_MAX_BYTES]; /* PARENT and the byte ahead may come on top */
	size_t used;
};

/* Nothing was sent on this connection yet; `shared` tells so. The version may be 0: not known. 0 or -errno. */
int cl_dump_stream_begin(struct cl_dump_stream *stream, int wire_version, struct cl_error *error);

/* Go on where a dead page server was, whose shared state this is; what it was owed is dropped. 0 or -errno. */
int cl_dump_stream_resume(struct cl_dump_stream *stream, struct cl_error *error);

/* Close it, unmap what is shared. */
void cl_dump_stream_free(struct cl_dump_stream *stream);

/* Whether the dump's end of the connection stands: if not, it holds its tasks no more, or not for long. Any thread. */
bool cl_dump_stream_stands(const struct cl_dump_stream *stream);

int cl_dump_stream_version(const struct cl_dump_stream *stream);
void cl_dump_stream_set_version(struct cl_dump_stream *stream, int version);

/* ---- requests ---- */

/* Whether one more GET may be added: the dump owes not too many answers. */
bool cl_dump_stream_takes_get(const struct cl_dump_stream *stream);

/* Add a client's GET to a batch. */
void cl_dump_stream_add_get(struct cl_dump_stream *stream, struct cl_dump_batch *batch, const struct cl_wire_header *get,
			    uint64_t client);

/* Send it, if there is anything in it: in one call, so that there is never an instant without a byte ahead. 0 or -errno. */
int cl_dump_stream_send(struct cl_dump_stream *stream, struct cl_dump_batch *batch, struct cl_error *error);

/* CLOSE, with nothing owed any more: the dump kills its tasks. Its answer is `status`. 0 or -errno. */
int cl_dump_stream_send_close(struct cl_dump_stream *stream, struct cl_error *error);

/* ---- answers ---- */

/* Room for answers in the ring. */
bool cl_dump_stream_has_room(const struct cl_dump_stream *stream);

/* Read what is there. 1: something; 0: nothing; -ENODATA: the dump has hung up, or another -errno. */
int cl_dump_stream_receive(struct cl_dump_stream *stream, struct cl_error *error);

/* Understand answers as far as they have come and are for the same reader. client: the present one; 0: none. 0 or -errno. */
int cl_dump_stream_understand(struct cl_dump_stream *stream, uint64_t client, struct cl_error *error);

/*
 * Give the client, a socket, what is there for it; drop what nobody waits for. How many bytes were sent (0: dropped),
 * -ENODATA: there was nothing to do, -EAGAIN: its socket is full, or another -errno: it is lost.
 */
int64_t cl_dump_stream_forward(struct cl_dump_stream *stream, int client_fd);

/* Whether answers for the present client wait to be forwarded. */
bool cl_dump_stream_waits_for_client(const struct cl_dump_stream *stream);

/* The client was lost: what was for it is dropped. */
void cl_dump_stream_drop_client(struct cl_dump_stream *stream);

/* Nothing is owed, and nothing on its way to a client. */
bool cl_dump_stream_is_settled(const struct cl_dump_stream *stream);

#endif
