/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls_pump: a client of CRIU's protocol that speaks TLS: between it and the dump's proxy, which knows nothing of TLS.
 *
 * Each header goes in a record of its own, none together with pages: criu receives the two separately, and waits on
 * the socket, though its GnuTLS may already hold the rest of a record.
 */
#ifndef CL_TLS_PUMP_H
#define CL_TLS_PUMP_H

#include <stddef.h>
#include <stdint.h>

#include "source/dump_proxy.h"
#include "wire/conn.h"

struct cl_tls_pump {
	struct cl_conn client;
	int proxy_fd;                /* a stream socket, whose other end the proxy has as its client's; borrowed */
	struct cl_dump_proxy *proxy; /* knows the protocol's version once the first answer is there */
};

/* Until either hangs up; then both are shut down. `first`: what was read of the client already. */
void cl_tls_pump_run(struct cl_tls_pump *pump, const uint8_t *first, size_t first_bytes);

#endif
