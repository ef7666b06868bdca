/* SPDX-License-Identifier: Apache-2.0 */
/* stress_source: where the stressed task's pages come from: a page server on a socket, or images. */
#ifndef STRESS_SOURCE_H
#define STRESS_SOURCE_H

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stress.h"

/* ---- the page server ---- */

struct server {
	int socket;
	bool client_may_die;
	uint64_t bytes_a_second;
};

/* False: the client is gone. */
static bool send_fully(const struct server *server, const void *data, size_t size)
{
	bool sent = send(server->socket, data, size, MSG_NOSIGNAL) == (ssize_t)size;

	CHECK(sent || server->client_may_die);
	return sent;
}

static void *serve(void *argument)
{
	uint64_t page[WORDS];
	struct server *server = argument;
	uint8_t raw[CL_WIRE_MAX_BYTES];
	struct cl_wire_header header;
	uint64_t base = 0;
	unsigned int word;
	int32_t status = 0;

	for (;;) {
		if (recv(server->socket, raw, cl_wire_header_bytes(2), MSG_WAITALL) != (ssize_t)cl_wire_header_bytes(2)) {
			CHECK(server->client_may_die);
			return NULL;
		}
		CHECK(cl_wire_unpack(2, raw, &header) == 0);
		if (header.cmd == CL_WIRE_CLOSE)
			break;
		CHECK(header.cmd == CL_WIRE_GET && header.dst_id == PID && header.nr_pages > 0);
		header.cmd = CL_WIRE_ADD_F;
		header.flags = CL_WIRE_FLAG_PRESENT;
		if (header.nr_pages > 3 && header.vaddr % 5 == 0)
			header.nr_pages /= 2; /* short answers */
		cl_wire_pack(2, &header, raw);
		if (!send_fully(server, raw, cl_wire_header_bytes(2)))
			return NULL;
		for (base = header.vaddr / CL_PAGE_SIZE; header.nr_pages; header.nr_pages--, base++) {
			for (word = 0; word < WORDS; word++)
				page[word] = word_at_dump(base % (1 << 20), word);
			if (!send_fully(server, page, CL_PAGE_SIZE))
				return NULL;
			usleep((useconds_t)(CL_PAGE_SIZE * 1000000ull / server->bytes_a_second));
		}
	}
	(void)send_fully(server, &status, sizeof(status));
	return NULL;
}

/* ---- images ---- */

static void put_record(FILE *file, const uint8_t *body, size_t size)
{
	uint32_t length = (uint32_t)size;

	CHECK(fwrite(&length, 4, 1, file) == 1 && fwrite(body, size, 1, file) == 1);
}

static void write_images(const char *directory, bool local)
{
	static const uint32_t magics[] = { 0x54564319, 0x56084025 };
	char path[256];
	uint8_t body[64];
	uint64_t page;
	FILE *file;

	snprintf(path, sizeof(path), "%s/pagemap-%d.img", directory, PID);
	file = fopen(path, "wb");
	CHECK(file && fwrite(magics, sizeof(magics), 1, file) == 1);
	body[0] = 1 << 3;
	body[1] = 3;
	put_record(file, body, 2);
	for (page = 0; page < PAGES; page += 8) {
		size_t at = 0;

		body[at++] = 1 << 3;
		at += put_varint(body + at, (uintptr_t)BASE + page * CL_PAGE_SIZE);
		body[at++] = 5 << 3;
		body[at++] = 7;
		body[at++] = 4 << 3;
		body[at++] = local ? 6 : 2;
		put_record(file, body, at);
	}
	CHECK(fclose(file) == 0);
	if (!local)
		return;
	snprintf(path, sizeof(path), "%s/pages-3.img", directory);
	file = fopen(path, "wb");
	CHECK(file);
	for (page = 0; page < PAGES; page++) {
		unsigned int word;

		for (word = 0; word < WORDS && is_lazy(page); word++) {
			uint64_t value = word_at_dump(page, word);

			CHECK(fwrite(&value, 8, 1, file) == 1);
		}
	}
	CHECK(fclose(file) == 0);
}

#endif
