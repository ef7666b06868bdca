/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/precopy_receiver.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "wire/compression.h"
#include "wire/conn.h"
#include "base/log.h"
#include "destination/precopy_store.h"
#include "wire/page_protocol.h"
#include "wire/push_hello.h"

enum { MAX_BYTES = CL_PUSH_MAX_PAGES * CL_PAGE_SIZE }; /* of one message */

struct cl_precopy_receiver {
	struct cl_precopy_receiver_config config;
	struct cl_log log;
	struct cl_tls_credentials *credentials;
	struct cl_conn conn;
	struct cl_precopy_store *store;
	uint8_t token[CL_PUSH_TOKEN_BYTES];
	uint8_t *buffer, *unpacked;
	struct cl_packer packer;
	uint64_t rounds; /* complete */
	uint64_t pages, received_bytes;
	atomic_bool stopping;
};

/* ---- life ---- */

void cl_precopy_receiver_free(struct cl_precopy_receiver *receiver)
{
	if (!receiver)
		return;
	cl_conn_close(&receiver->conn);
	cl_tls_credentials_free(receiver->credentials);
	cl_precopy_store_free(receiver->store);
	free(receiver->buffer);
	free(receiver->unpacked);
	cl_packer_free(&receiver->packer);
	free(receiver);
}

/* 0 or error->code. */
static int agree(struct cl_precopy_receiver *receiver, struct cl_error *error)
{
	struct cl_push_hello hello = { .stores = true, .nr_streams = 1, .unpacks = cl_compression_ways() };
	struct cl_push_answer answer;
	int ret = cl_push_say_hello(receiver->conn, 1, &hello, &answer, error);

	if (ret == 0)
		return cl_error_set(error, -EPROTO, "it is a stock one, which has nothing to store");
	if (ret < 0)
		return ret;
	memcpy(receiver->token, answer.token, sizeof(receiver->token));
	return 0;
}

/* All but the memory of the store itself. 0 or error->code. */
static int set_up(struct cl_precopy_receiver *receiver, struct cl_error *error)
{
	const struct cl_precopy_receiver_config *config = &receiver->config;
	int ret;

	receiver->buffer = cl_pages_alloc(CL_PUSH_MAX_PAGES);
	receiver->unpacked = cl_pages_alloc(CL_PUSH_PACKED_PAGES);
	if (!receiver->buffer || !receiver->unpacked)
		return cl_error_set(error, -ENOMEM, "no memory");
	ret = cl_precopy_store_create(config->directory_fd, &receiver->store);
	if (ret < 0)
		return cl_error_set(error, ret, "making the file `pages`: %s", strerror(-ret));
	if (config->tls) {
		ret = cl_tls_load(config->tls, &receiver->credentials, error);
		if (ret == 0)
			ret = cl_tls_start(receiver->credentials, receiver->conn.fd, &receiver->conn.tls, error);
		if (ret < 0)
			return ret;
	}
	return agree(receiver, error) < 0 ? cl_error_prefix(error, "page server: ") : 0;
}

struct cl_precopy_receiver *cl_precopy_receiver_new(const struct cl_precopy_receiver_config *config, struct cl_error *error)
{
	struct cl_precopy_receiver *receiver = calloc(1, sizeof(*receiver));
	struct cl_conn conn = { .fd = config->remote_fd };

	if (!receiver) {
		cl_conn_close(&conn);
		cl_error_set(error, -ENOMEM, "no memory");
		return NULL;
	}
	receiver->config = *config;
	receiver->conn = conn;
	receiver->log = (struct cl_log){
		.fd = config->log_fd, .level = config->log_level, .from = "store", .start_us = cl_now_us()
	};
	if (set_up(receiver, error) < 0) {
		cl_precopy_receiver_free(receiver);
		return NULL;
	}
	return receiver;
}

void cl_precopy_receiver_stop(struct cl_precopy_receiver *receiver)
{
	atomic_store(&receiver->stopping, true);
	(void)shutdown(receiver->conn.fd, SHUT_RDWR);
}

/* ---- what comes ---- */

static int receive(struct cl_precopy_receiver *receiver, uint8_t *data, size_t bytes, struct cl_error *error)
{
	receiver->received_bytes += bytes;
	return cl_conn_receive_exactly(receiver->conn, data, bytes, 0, error);
}

static int confirm(struct cl_precopy_receiver *receiver, uint64_t round, struct cl_error *error)
{
	struct cl_push_header stored = { .type = CL_PUSH_STORED, .nr_pages = round };
	uint8_t out[CL_PUSH_HEADER_BYTES];
	int ret;

	cl_push_pack(&stored, out);
	ret = cl_conn_send(receiver->conn, out, sizeof(out));
	return ret < 0 ? cl_conn_error(ret, error) : 0;
}

/* Pages, in whatever form. 0 or error->code. */
static int take_pages(struct cl_precopy_receiver *receiver, const struct cl_push_header *header, struct cl_error *error)
{
	enum cl_packing_way way = cl_push_way(header->type);
	const uint8_t *data = NULL;
	int ret;

	if (header->type != CL_PUSH_ZERO) {
		ret = receive(receiver, receiver->buffer, header->bytes, error);
		if (ret < 0)
			return ret;
		data = receiver->buffer;
	}
	if (way != CL_AS_IT_IS) {
		if (cl_compression_unpack(&receiver->packer, way, data, header->bytes, receiver->unpacked,
					  header->nr_pages * CL_PAGE_SIZE) < 0)
			return cl_error_set(error, -EPROTO, "what it sent can't be unpacked");
		data = receiver->unpacked;
	}
	receiver->pages += header->nr_pages;
	ret = cl_precopy_store_write(receiver->store, header->dst_id, header->vaddr, header->nr_pages, data);
	if (ret < 0)
		cl_log(&receiver->log, CL_LOG_ERROR, "writing %llu pages: %s", (unsigned long long)header->nr_pages,
		       strerror(-ret));
	return ret < 0 ? cl_error_set(error, ret, "%s", strerror(-ret)) : 0;
}

/* Obey one message. 1: it was the last one; 0; or error->code. */
static int obey(struct cl_precopy_receiver *receiver, struct cl_error *error)
{
	uint8_t in[CL_PUSH_HEADER_BYTES];
	struct cl_push_header header;
	int ret = receive(receiver, in, sizeof(in), error);

	if (ret < 0)
		return ret;
	if (cl_push_unpack(in, &header) < 0)
		return cl_error_set(error, -EPROTO, "it sent a damaged message");
	switch (header.type) {
	case CL_PUSH_PAGES:
	case CL_PUSH_ZERO:
	case CL_PUSH_PACKED:
	case CL_PUSH_PACKED_ZSTD:
		if (!cl_compression_has(cl_push_way(header.type)))
			break;
		return take_pages(receiver, &header, error);
	case CL_PUSH_ROUND:
		if (header.nr_pages != receiver->rounds + 1)
			return cl_error_set(error, -EPROTO, "it miscounted its rounds");
		receiver->rounds++;
		cl_log(&receiver->log, CL_LOG_INFO, "round %llu is complete: %llu pages so far, in %llu bytes",
		       (unsigned long long)receiver->rounds, (unsigned long long)receiver->pages,
		       (unsigned long long)receiver->received_bytes);
		return confirm(receiver, header.nr_pages, error);
	case CL_PUSH_END:
		ret = cl_precopy_store_finish(receiver->store, receiver->config.directory_fd, receiver->token);
		if (ret < 0)
			return cl_error_set(error, ret, "%s", strerror(-ret));
		ret = confirm(receiver, 0, error);
		return ret < 0 ? ret : 1;
	default:
		break;
	}
	return cl_error_set(error, -EPROTO, "it sent what has no place here");
}

int cl_precopy_receiver_run(struct cl_precopy_receiver *receiver, struct cl_error *error)
{
	int ret;

	do
		ret = obey(receiver, error);
	while (ret == 0);
	if (ret == 1)
		return 0;
	if (atomic_load(&receiver->stopping))
		return cl_error_set(error, -ECANCELED, "stopped");
	if (ret == -ECONNRESET || ret == -EPIPE)
		return cl_error_set(error, ret, "the page server closed the connection, the store is not complete");
	return error->code;
}
