/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn: a connected stream socket, with TLS over it or without: send all, receive what comes. Blocking; one thread at a
 * time sends, one receives, both at once is fine (tls.h). shutdown(2) of the socket wakes whoever waits.
 */
#ifndef CL_CONN_H
#define CL_CONN_H

#include <stddef.h>
#include <stdint.h>

#include "wire/tls.h"

struct cl_conn {
	int fd;             /* -1: none */
	struct cl_tls *tls; /* NULL: a plain stream */
};

/* All of it. 0 or -errno. */
int cl_conn_send(struct cl_conn conn, const uint8_t *data, size_t bytes);

/* What has arrived, up to size bytes; waits for the first. Their number or error->code: -ECONNRESET at the end. */
int64_t cl_conn_receive(struct cl_conn conn, uint8_t *data, size_t size, struct cl_error *error);

/* Exactly `bytes` bytes; each wait for some takes at most timeout_s (0: for ever). 0, or error->code: -ETIMEDOUT. */
int cl_conn_receive_exactly(struct cl_conn conn, uint8_t *data, size_t bytes, unsigned int timeout_s,
			    struct cl_error *error);

/* What a failed send means: sets a text, returns code, which is cl_conn_send()'s. */
int cl_conn_error(int code, struct cl_error *error);

/* Close it; *conn is none then. */
void cl_conn_close(struct cl_conn *conn);

#endif
