/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pages_remote: the same answers, cut into pieces at every place, give the same pages; short answers are asked for
 * again; and whatever a hostile server sends, nothing but -EPROTO happens.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "destination/source_stock.h"

enum { BASE = 0x100000, PAGES = 40, BUFFER = 5 * CL_PAGE_SIZE };

static struct cl_image *make_image(void)
{
	static struct cl_chunk_pool chunks = CL_CHUNKS_IN_MEMORY, todo_chunks = CL_CHUNKS_IN_MEMORY;
	static const struct cl_vma vma = { BASE, BASE + PAGES * CL_PAGE_SIZE, 0 };
	struct cl_image *image = cl_image_new(7, &vma, 1);

	CHECK(image && cl_image_append(image, BASE, PAGES, NULL) == 0 && cl_image_seal(image, &todo_chunks) == 0);
	image->chunks = &chunks;
	CHECK(cl_space_new(cl_space_prepare(image, 7, -1)));
	return image;
}

static void ask(struct cl_remote *remote, struct cl_image *image, uint64_t from, uint32_t nr_pages)
{
	struct cl_request request = { .image = image };
	uint8_t out[CL_WIRE_MAX_BYTES];

	request.nr_pages = (uint32_t)cl_image_take(image, CL_REMOTE, from, false, nr_pages, &request.index);
	CHECK(request.index == from && request.nr_pages == nr_pages);
	cl_remote_ask(remote, &request, out);
}

static size_t answer(uint8_t *out, int version, uint64_t from, uint64_t nr_pages)
{
	struct cl_wire_header header = { .cmd = CL_WIRE_ADD_F,
					 .flags = CL_WIRE_FLAG_PRESENT,
					 .nr_pages = nr_pages,
					 .vaddr = BASE + from * CL_PAGE_SIZE,
					 .dst_id = 7 };
	size_t bytes = cl_wire_header_bytes(version);
	uint64_t page;

	cl_wire_pack(version, &header, out);
	for (page = from; page < from + nr_pages; page++, bytes += CL_PAGE_SIZE)
		memset(out + bytes, (int)page + 1, CL_PAGE_SIZE);
	return bytes;
}

/* Feed `stream` in pieces; note which pages came. Returns parse's last result. */
static int feed(struct cl_remote *remote, int peer, const uint8_t *stream, size_t size, size_t first_piece, size_t piece,
		bool *came)
{
	_Alignas(CL_PAGE_SIZE) uint8_t buffer[BUFFER];
	struct cl_segment segments[BUFFER / CL_PAGE_SIZE];
	struct cl_arrived arrived;
	struct cl_error error;
	uint64_t cancelled;
	size_t sent = 0;

	while (sent < size) {
		size_t now = sent ? piece : first_piece, received = 0;
		int nr, i;

		if (now > size - sent)
			now = size - sent;
		CHECK(send(peer, stream + sent, now, 0) == (ssize_t)now);
		while (received < now) {
			int64_t got = cl_remote_receive(remote, buffer, sizeof(buffer), &arrived, &error);

			CHECK(got > 0);
			received += (size_t)got;
			nr = cl_remote_parse(remote, &arrived, segments, &cancelled, &error);
			if (nr < 0)
				return nr;
			CHECK(nr <= (int)(arrived.bytes / CL_PAGE_SIZE));
			CHECK(!nr || (uintptr_t)segments[0].data % CL_PAGE_SIZE >= 32);
			for (i = 0; i < nr; i++) {
				uint32_t page;

				for (page = 0; page < segments[i].nr_pages; page++) {
					const uint8_t *data = segments[i].data + page * CL_PAGE_SIZE;
					uint64_t index = segments[i].index + page;

					CHECK(index < PAGES && !came[index]);
					came[index] = true;
					CHECK(data[0] == index + 1 && data[CL_PAGE_SIZE - 1] == index + 1);
				}
			}
		}
		sent += now;
	}
	return 0;
}

static void cut_everywhere(int version)
{
	uint8_t stream[16 * CL_PAGE_SIZE];
	size_t size, first;

	for (first = 1; first < 2 * CL_PAGE_SIZE + 100; first += first < 100 || first > 4000 ? 1 : 97) {
		struct cl_image *image = make_image();
		struct cl_remote remote;
		bool came[PAGES] = { false };
		int pair[2];

		CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
		cl_remote_init(&remote, pair[0], NULL, version);
		ask(&remote, image, 0, 1);
		ask(&remote, image, 5, 4);
		ask(&remote, image, 20, 6);
		size = answer(stream, version, 0, 1);
		size += answer(stream + size, version, 5, 4);
		size += answer(stream + size, version, 20, 3); /* short: 23..25 are todo again */
		CHECK(feed(&remote, pair[1], stream, size, first, 5000, came) == 0);
		CHECK(cl_remote_idle(&remote));
		CHECK(came[0] && came[5] && came[8] && came[20] && came[22] && !came[23] && !came[4]);
		CHECK(image->nr_todo[CL_REMOTE] == PAGES - 8);
		close(pair[0]);
		close(pair[1]);
		cl_image_free_spaces(image);
		cl_image_free(image);
	}
}

/* Change bytes of a right stream's headers at random. */
static void hostile(int version, uint64_t seed)
{
	struct cl_image *image = make_image();
	uint8_t stream[16 * CL_PAGE_SIZE];
	struct cl_remote remote;
	struct cl_error error = { 0 };
	size_t size, at;
	int pair[2], ret, i;

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	cl_remote_init(&remote, pair[0], NULL, version);
	ask(&remote, image, 0, 2);
	ask(&remote, image, 5, 4);
	size = answer(stream, version, 0, 2);
	at = next_random(&seed) % 2 ? 0 : size;
	size += answer(stream + size, version, 5, 4);
	for (i = 0; i < 2; i++) {
		/* dst_id and version 2's padding are not looked at: spare them, they would change nothing. */
		size_t byte = next_random(&seed) % (cl_wire_header_bytes(version) - 8);

		if (version == 2 && byte >= 4 && byte < 8)
			byte = 0;
		stream[at + byte] ^= (uint8_t)(1 + next_random(&seed) % 255);
	}
	/* A header that still is right (fewer pages, or both changes cancelled) leads to data out of step. */
	ret = 0;
	{
		_Alignas(CL_PAGE_SIZE) uint8_t buffer[BUFFER];
		struct cl_segment segments[BUFFER / CL_PAGE_SIZE];
		struct cl_arrived arrived;
		uint64_t cancelled;
		size_t received = 0;

		CHECK(send(pair[1], stream, size, 0) == (ssize_t)size);
		while (ret >= 0 && received < size) {
			int64_t got = cl_remote_receive(&remote, buffer, sizeof(buffer), &arrived, &error);

			CHECK(got > 0);
			received += (size_t)got;
			ret = cl_remote_parse(&remote, &arrived, segments, &cancelled, &error);
			for (i = 0; i < ret; i++)
				CHECK(segments[i].index + segments[i].nr_pages <= PAGES &&
				      segments[i].data + segments[i].nr_pages * CL_PAGE_SIZE <=
					      arrived.data + arrived.bytes);
		}
	}
	CHECK(ret >= 0 || (ret == -EPROTO && error.text[0]));
	close(pair[0]);
	close(pair[1]);
	cl_image_free_spaces(image);
	cl_image_free(image);
}

/* A right answer and a damaged one come at once: what is not installed then is to be asked for again, all of it. */
static void damaged_behind_a_right_one(int version)
{
	struct cl_segment segments[BUFFER / CL_PAGE_SIZE];
	struct cl_image *image = make_image();
	_Alignas(CL_PAGE_SIZE) uint8_t buffer[BUFFER];
	uint8_t stream[BUFFER];
	struct cl_arrived arrived;
	struct cl_remote remote;
	struct cl_error error;
	size_t size;
	uint64_t cancelled;
	int pair[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	cl_remote_init(&remote, pair[0], NULL, version);
	ask(&remote, image, 0, 2);
	ask(&remote, image, 5, 4);
	size = answer(stream, version, 0, 2);
	size += answer(stream + size, version, 6, 1);
	CHECK(send(pair[1], stream, size, 0) == (ssize_t)size);
	CHECK(cl_remote_receive(&remote, buffer, sizeof(buffer), &arrived, &error) == (int64_t)size);
	CHECK(cl_remote_parse(&remote, &arrived, segments, &cancelled, &error) == -EPROTO);
	cl_remote_forget(&remote);
	CHECK(image->nr_todo[CL_REMOTE] == PAGES);
	close(pair[0]);
	close(pair[1]);
	cl_image_free_spaces(image);
	cl_image_free(image);
}

int main(void)
{
	uint64_t seed;
	int version;

	for (version = 1; version <= 2; version++) {
		cut_everywhere(version);
		damaged_behind_a_right_one(version);
		for (seed = 0; seed < 3000; seed++)
			hostile(version, seed);
	}
	return 0;
}
