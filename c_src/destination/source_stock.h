/* SPDX-License-Identifier: Apache-2.0 */
/*
 * source_stock: one connection to a page server, from the client's side. Requests are answered strictly in
 * order, each by a header and its pages; an answer may hold fewer pages than asked.
 *
 * Who may call what: cl_remote_ask(), cl_remote_parse() under the engine's mutex. cl_remote_send() by one
 * thread at a time, cl_remote_receive() by one thread at a time, both without the mutex: they block.
 * Between receive and the parse of what it received no other thread may receive.
 *
 * Every answer is checked against the request it should answer. Errors: -EPROTO when the server broke the protocol,
 * -ECONNRESET when it closed the connection, or another -errno.
 */
#ifndef CL_SOURCE_STOCK_H
#define CL_SOURCE_STOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "destination/address_space.h"
#include "wire/conn.h"
#include "wire/page_protocol.h"

#define CL_REMOTE_REQUESTS 4096 /* in flight at most; a power of two */

struct cl_request {
	struct cl_image *image;
	uint64_t index;    /* first page */
	uint32_t nr_pages; /* all of one extent */
};

/* Pages that arrived: nr_pages * 4096 bytes at data, inside the buffer given to cl_remote_receive(). */
struct cl_segment {
	struct cl_image *image;
	uint64_t index;
	uint32_t nr_pages;
	const uint8_t *data;
};

struct cl_remote {
	int fd;
	struct cl_tls *tls; /* NULL: a plain stream */
	int version;
	bool byte_ahead; /* the first byte of the next request is sent already; the sender's */
	struct cl_request requests[CL_REMOTE_REQUESTS]; /* ring: [answered, asked) are in flight */
	uint64_t asked, answered;
	struct cl_request answer;    /* being received: what is left of it */
	uint8_t carry[CL_PAGE_SIZE]; /* the last received bytes: less than a header or a page */
	size_t carried;
};

/* fd, and tls over it or NULL, are owned by the caller. version: 1 or 2. */
void cl_remote_init(struct cl_remote *remote, int fd, struct cl_tls *tls, int version);

static inline bool cl_remote_idle(const struct cl_remote *remote)
{
	return remote->asked == remote->answered && remote->answer.nr_pages == 0;
}

static inline bool cl_remote_full(const struct cl_remote *remote)
{
	return remote->asked - remote->answered == CL_REMOTE_REQUESTS;
}

/* Note a request as asked and write its header (cl_wire_header_bytes of them) to out. Not when full. */
void cl_remote_ask(struct cl_remote *remote, const struct cl_request *request, uint8_t *out);

/*
 * Write whole headers, `bytes` bytes of them or none, to the connection; byte_ahead: and the first byte of the GET
 * that comes next. 0 or -errno.
 *
 * The byte ahead. A stock source takes the end of its connection for success, and kills its task; but an end in the
 * middle of a header makes it give up, and its task runs on. With TLS any end without a good-bye does.
 */
int cl_remote_send(struct cl_remote *remote, const uint8_t *data, size_t bytes, bool byte_ahead);

/* What has arrived, in a part of somebody's buffer; its first bytes may be carried over from before. */
struct cl_arrived {
	const uint8_t *data;
	size_t bytes;
};

/*
 * Read what has arrived, waiting for the first byte, into `size` bytes of buffer (size > 2 * CL_PAGE_SIZE; it begins where a
 * page does: cl_pages_alloc()). Returns the number of new bytes or error->code.
 */
int64_t cl_remote_receive(struct cl_remote *remote, uint8_t *buffer, size_t size, struct cl_arrived *arrived,
			  struct cl_error *error);

/*
 * Acknowledge what was received at once. A stock server corks its socket: an answer's last segment leaves when all
 * before it is acknowledged, which a delayed acknowledgement would put off by up to 40 ms, if nothing follows it.
 */
void cl_remote_acknowledge(const struct cl_remote *remote);

/*
 * Make segments of what has arrived: at most arrived->bytes / CL_PAGE_SIZE of them. Returns their
 * number or error->code. *cancelled_bytes: what was asked for but not sent, because answers were short: those
 * pages are todo again.
 */
int cl_remote_parse(struct cl_remote *remote, const struct cl_arrived *arrived, struct cl_segment *segments,
		    uint64_t *cancelled_bytes, struct cl_error *error);

/* The connection is gone: what was asked for and did not come is todo again, and nothing is in flight. */
void cl_remote_forget(struct cl_remote *remote);

/* Tell the server that every page arrived, and wait for its word. Nothing may be in flight. 0 or error->code. */
int cl_remote_close(struct cl_remote *remote, struct cl_error *error);

/*
 * Make the server give up: a stock `criu dump` takes the mere end of the connection for success and kills the
 * source's tasks; a command it doesn't know makes it fail, and the tasks run on. 0 or -errno.
 */
int cl_remote_roll_back(struct cl_remote *remote);

/* The kernel's measure of the connection's shortest round trip; 0 where there is none. */
uint64_t cl_remote_min_rtt_us(const struct cl_remote *remote);

#endif
