/* SPDX-License-Identifier: Apache-2.0 */
/* receiving_store: the store's end of pre-copy, for tests: it keeps what the rounds send, and answers as a test wants it. */
#ifndef RECEIVING_STORE_H
#define RECEIVING_STORE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/page.h"
#include "check.h"
#include "precopy_task.h"
#include "source/precopy_sender.h"
#include "wire/compression.h"
#include "wire/push_protocol.h"

enum { ID = 77 }; /* of the task */

struct store {
	struct cl_precopy *precopy;
	int fd, their_fd;
	pthread_t server, reader;
	uint8_t token[CL_PUSH_TOKEN_BYTES];
	uint8_t *pages;
	bool have[PAGES], ended;
	int nr_sparse;       /* of SPARSE's pages, received right */
	uint64_t nr_pages;   /* received in this round, anywhere */
	uint16_t type;       /* what it answers ROUND and END with; 0: it hangs up */
	uint64_t number_off; /* its answers' numbers are wrong by so much */
};

static bool receive(int fd, void *data, size_t bytes)
{
	return !bytes || recv(fd, data, bytes, MSG_WAITALL) == (ssize_t)bytes;
}

static void *serve_store(void *argument)
{
	struct store *store = argument;
	const struct cl_push_hello hello = { .stores = true, .nr_streams = 1, .unpacks = cl_compression_ways() };

	cl_precopy_serve(store->precopy, (struct cl_conn){ .fd = store->their_fd }, &hello, "test");
	close(store->their_fd);
	return NULL;
}

static void keep(struct store *store, const struct cl_push_header *header, const uint8_t *data)
{
	CHECK(header->dst_id == ID);
	store->nr_pages += header->nr_pages;
	for (int i = 0; data && i < NR_SPARSE; i++)
		store->nr_sparse += header->vaddr == SPARSE + sparse[i] && data[0] == i + 1;
	if (header->vaddr < BASE || header->vaddr >= BASE + PAGES * CL_PAGE_SIZE)
		return;
	for (uint64_t i = 0, page = (header->vaddr - BASE) / CL_PAGE_SIZE; i < header->nr_pages; i++, page++) {
		CHECK(page < PAGES);
		store->have[page] = true;
		if (data)
			memcpy(store->pages + page * CL_PAGE_SIZE, data + i * CL_PAGE_SIZE, CL_PAGE_SIZE);
		else
			memset(store->pages + page * CL_PAGE_SIZE, 0, CL_PAGE_SIZE);
	}
}

static void *read_store(void *argument)
{
	struct store *store = argument;
	uint8_t raw[CL_PUSH_HEADER_BYTES], *data = malloc(2 * CL_PUSH_MAX_PAGES * CL_PAGE_SIZE);
	uint8_t *unpacked = data + CL_PUSH_MAX_PAGES * CL_PAGE_SIZE;
	struct cl_packer packer = { 0 };
	struct cl_push_header header;

	while (!store->ended && receive(store->fd, raw, sizeof(raw))) {
		CHECK(cl_push_unpack(raw, &header) == 0);
		if (!receive(store->fd, data, header.bytes))
			break;
		if (header.type == CL_PUSH_ROUND || header.type == CL_PUSH_END) {
			store->ended = header.type == CL_PUSH_END;
			header.type = store->type;
			header.nr_pages += store->number_off;
			cl_push_pack(&header, raw);
			if (!store->type)
				break;
			(void)send(store->fd, raw, sizeof(raw), MSG_NOSIGNAL);
		} else if (cl_push_way(header.type) != CL_AS_IT_IS) {
			CHECK(cl_compression_unpack(&packer, cl_push_way(header.type), data, header.bytes, unpacked,
						    header.nr_pages * CL_PAGE_SIZE) == 0);
			keep(store, &header, unpacked);
		} else {
			CHECK(header.type == CL_PUSH_PAGES || header.type == CL_PUSH_ZERO);
			keep(store, &header, header.type == CL_PUSH_PAGES ? data : NULL);
		}
	}
	shutdown(store->fd, SHUT_RDWR);
	cl_packer_free(&packer);
	free(data);
	return NULL;
}

/* False: it was refused. */
static bool open_store(struct cl_precopy *precopy, struct store *store, uint16_t type, uint64_t number_off)
{
	uint8_t raw[CL_PUSH_ANSWER_BYTES];
	struct cl_push_answer answer;
	int pair[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	*store = (struct store){ .precopy = precopy,
				 .fd = pair[0],
				 .their_fd = pair[1],
				 .type = type,
				 .number_off = number_off,
				 .pages = calloc(PAGES, CL_PAGE_SIZE) };
	CHECK(pthread_create(&store->server, NULL, serve_store, store) == 0);
	if (!receive(store->fd, raw, sizeof(raw))) {
		pthread_join(store->server, NULL);
		close(store->fd);
		free(store->pages);
		return false;
	}
	CHECK(cl_push_unpack_answer(raw, &answer) == 0 && answer.nr_streams == 1);
	memcpy(store->token, answer.token, sizeof(answer.token));
	CHECK(pthread_create(&store->reader, NULL, read_store, store) == 0);
	return true;
}

/* Its connection is over; its pages stay. */
static void end_store(struct store *store)
{
	shutdown(store->fd, SHUT_RDWR);
	pthread_join(store->server, NULL);
	pthread_join(store->reader, NULL);
	close(store->fd);
}

#endif
