/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pull_client: the client of CRIU's page-server protocol that is served just now: what it sends is checked, request by
 * request, before the dump hears any of it. What would make a stock dump crash, or break the stream, is refused.
 *
 * One thread, but where it is said.
 */
#ifndef CL_PULL_CLIENT_H
#define CL_PULL_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"
#include "source/dump_stream.h"

struct cl_pull_client {
	int fd;          /* -1: none; owned */
	uint64_t serial; /* of this client, and, once there is none, of the last one; 0: before the first */
	uint8_t input[CL_DUMP_BATCH_BYTES]; /* not understood yet */
	size_t input_bytes;
	bool closing; /* it said CLOSE and waits for our answer */
	bool blocked; /* its socket is full */
};

/* What it may ask for. */
struct cl_pull_rules {
	uint64_t max_request_pages;
	uint64_t *tasks; /* pids in the dump's namespace; owned */
	size_t nr_tasks; /* 0: any */
};

/* It begins: a connected socket, owned from now on. */
void cl_pull_client_begin(struct cl_pull_client *client, int fd);

/* Close it. */
void cl_pull_client_end(struct cl_pull_client *client);

/* Whether more of what it sends is wanted just now. */
bool cl_pull_client_may_read(const struct cl_pull_client *client, const struct cl_dump_stream *stream);

/* Read what is there. NULL, or why it is lost. */
const char *cl_pull_client_read(struct cl_pull_client *client);

/*
 * The protocol's version, from the first bytes of the first client, for the stream to know. 1: it is known; 0: more bytes
 * are needed, or it said CLOSE at once (`closing`); -EPROTO: they don't tell.
 */
int cl_pull_client_tell_version(struct cl_pull_client *client, struct cl_dump_stream *stream, const struct cl_log *log);

/*
 * Put the requests at hand into a batch, as many as the stream takes; *nr_requests of them. NULL, or why the next one is
 * refused, and with it the client; the batch is to be sent all the same.
 */
const char *cl_pull_client_requests(struct cl_pull_client *client, struct cl_dump_stream *stream,
				    const struct cl_pull_rules *rules, const struct cl_log *log, struct cl_dump_batch *batch,
				    uint64_t *nr_requests);

/* Milliseconds since the host of a client on this socket last answered at all; 0: not known, or fd is -1. Any thread. */
uint64_t cl_pull_client_silent_ms(int fd);

#endif
