/* SPDX-License-Identifier: Apache-2.0 */
#include "source/tls_pump.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/io.h"
#include "base/thread.h"
#include "wire/page_protocol.h"

enum { PUMP_BYTES = 16 << 10 }; /* a TLS record */

/* All `bytes`, or what came before the proxy hung up. */
static size_t receive_answer(struct cl_tls_pump *pump, uint8_t *data, size_t bytes)
{
	int64_t got = cl_receive(pump->proxy_fd, data, bytes, MSG_WAITALL);

	return got > 0 ? (size_t)got : 0;
}

/*
 * A header, or what the client hears last: the status that answers its CLOSE. Returns its size; *pages_bytes are to
 * follow. *version is 0 until it is known: the proxy is asked when the first answer is there, it knows by then.
 */
static size_t receive_header(struct cl_tls_pump *pump, uint8_t *data, int *version, uint64_t *pages_bytes)
{
	size_t got = receive_answer(pump, data, sizeof(uint32_t)), bytes;
	struct cl_wire_header header;
	struct cl_dump_proxy_info info;

	if (got && !*version) {
		cl_dump_proxy_info(pump->proxy, &info);
		*version = info.wire_version;
	}
	bytes = cl_wire_header_bytes(*version);
	if (got < sizeof(uint32_t) || !bytes)
		return got;
	got += receive_answer(pump, data + got, bytes - got);
	if (got == bytes) {
		(void)cl_wire_unpack(*version, data, &header); /* the proxy has checked it */
		*pages_bytes = header.nr_pages * CL_PAGE_SIZE;
	}
	return got;
}

static void *pump_answers(void *argument)
{
	struct cl_tls_pump *pump = argument;
	uint8_t *data = malloc(PUMP_BYTES);
	uint64_t pages_bytes = 0;
	size_t got = data ? 1 : 0;
	int version = 0;

	while (got > 0) {
		if (pages_bytes) {
			got = receive_answer(pump, data, pages_bytes < PUMP_BYTES ? pages_bytes : PUMP_BYTES);
			pages_bytes -= got;
		} else {
			got = receive_header(pump, data, &version, &pages_bytes);
		}
		if (got > 0 && cl_conn_send(pump->client, data, got) < 0)
			got = 0;
	}
	free(data);
	(void)shutdown(pump->client.fd, SHUT_RDWR);
	(void)shutdown(pump->proxy_fd, SHUT_RDWR);
	return NULL;
}

void cl_tls_pump_run(struct cl_tls_pump *pump, const uint8_t *first, size_t first_bytes)
{
	struct cl_error error;
	uint8_t data[4096];
	pthread_t thread;
	int64_t got;

	if (cl_thread_start(&thread, "cl-pump", pump_answers, pump) < 0)
		return;
	if (cl_send_all(pump->proxy_fd, first, first_bytes, 0) == 0)
		while ((got = cl_conn_receive(pump->client, data, sizeof(data), &error)) > 0 &&
		       cl_send_all(pump->proxy_fd, data, (size_t)got, 0) == 0)
			;
	/* What the client hears last has been sent, or nobody hears it. */
	(void)shutdown(pump->proxy_fd, SHUT_RDWR);
	(void)shutdown(pump->client.fd, SHUT_RDWR);
	pthread_join(thread, NULL);
}
