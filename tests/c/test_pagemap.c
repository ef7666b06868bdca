/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pagemap: reads what criu 4.1 and 4.2 write, refuses what is damaged, and survives anything: argument 1 is an image
 * to start from (a real one), argument 2 how many mutations of it to try.
 */
#include <errno.h>
#include <string.h>

#include "check.h"
#include "images/pagemap.h"
#include "wire/page_protocol.h"

static size_t put_u32(uint8_t *out, uint32_t value)
{
	memcpy(out, &value, 4);
	return 4;
}

static size_t put_head(uint8_t *out)
{
	size_t at = put_u32(out, 0x54564319);

	at += put_u32(out + at, 0x56084025);
	at += put_u32(out + at, 2);
	out[at++] = 1 << 3;
	out[at++] = 9; /* pages_id */
	return at;
}

static size_t put_entry(uint8_t *out, int field, uint64_t vaddr, uint64_t nr_pages, uint32_t flags)
{
	uint8_t body[64];
	size_t at = 0;

	body[at++] = 1 << 3;
	at += put_varint(body + at, vaddr);
	if (field == 5) { /* criu 4.2 writes the old, required field too */
		body[at++] = 2 << 3;
		at += put_varint(body + at, 0);
	}
	body[at++] = (uint8_t)(field << 3);
	at += put_varint(body + at, nr_pages);
	body[at++] = 4 << 3;
	at += put_varint(body + at, flags);
	put_u32(out, (uint32_t)at);
	memcpy(out + 4, body, at);
	return at + 4;
}

/* The number of entries read, or the error. */
static int read_all(const uint8_t *file, size_t size)
{
	struct cl_pagemap_entry entry;
	struct cl_pagemap pagemap;
	struct cl_error error;
	uint64_t end = 0;
	int ret, nr = 0;

	ret = cl_pagemap_from_memory(&pagemap, file, size, &error);
	if (ret == 0) {
		while ((ret = cl_pagemap_next(&pagemap, &entry, &error)) > 0) {
			CHECK(entry.nr_pages > 0 && entry.vaddr >= end && entry.vaddr % CL_PAGE_SIZE == 0);
			end = entry.vaddr + entry.nr_pages * CL_PAGE_SIZE;
			CHECK(end > entry.vaddr);
			nr++;
		}
	}
	CHECK(ret == 0 || (ret == -EBADMSG && error.code == ret && error.text[0]));
	return ret < 0 ? ret : nr;
}

static void right_ones(void)
{
	struct cl_pagemap_entry entry;
	struct cl_pagemap pagemap;
	struct cl_error error;
	uint8_t file[256];
	int field;

	for (field = 2; field <= 5; field += 3) {
		size_t size = put_head(file);

		size += put_entry(file + size, field, 0x400000, 3, CL_PE_LAZY);
		size += put_entry(file + size, field, 0x7f0000000000, 1 << 20, CL_PE_PRESENT | CL_PE_LAZY);
		CHECK(cl_pagemap_from_memory(&pagemap, file, size, &error) == 0);
		CHECK(pagemap.pages_id == 9 && pagemap.wire_version == 0);
		CHECK(cl_pagemap_next(&pagemap, &entry, &error) == 1);
		CHECK(entry.vaddr == 0x400000 && entry.nr_pages == 3 && entry.flags == CL_PE_LAZY);
		CHECK(pagemap.wire_version == (field == 5 ? 2 : 1));
		CHECK(cl_pagemap_next(&pagemap, &entry, &error) == 1);
		CHECK(entry.vaddr == 0x7f0000000000 && entry.nr_pages == 1 << 20 && entry.flags == 6);
		CHECK(cl_pagemap_next(&pagemap, &entry, &error) == 0);
		/* Cut anywhere but between records, it is damaged. */
		while (--size > 8)
			CHECK(read_all(file, size) <= 1);
	}
}

static void wrong_ones(void)
{
	uint8_t file[256];
	size_t head = put_head(file);

	CHECK(read_all(file, 0) == -EBADMSG && read_all(file, 8) == -EBADMSG);
	CHECK(read_all(file, head) == 0);
	CHECK(read_all(file, head + put_entry(file + head, 2, 0x400001, 1, 2)) == -EBADMSG);
	CHECK(read_all(file, head + put_entry(file + head, 2, 0x400000, 0, 2)) == -EBADMSG);
	CHECK(read_all(file, head + put_entry(file + head, 5, 0x400000, UINT64_MAX, 2)) == -EBADMSG);
	CHECK(read_all(file, head + put_entry(file + head, 5, 0x400000, 1ull << 52, 2)) == -EBADMSG);
	CHECK(read_all(file, head + put_entry(file + head, 2, UINT64_MAX - 4095, 1, 2)) == -EBADMSG);
	head += put_entry(file + head, 2, 0x400000, 4, 2);
	CHECK(read_all(file, head + put_entry(file + head, 2, 0x403000, 1, 2)) == -EBADMSG);
	put_u32(file + head, UINT32_MAX);
	CHECK(read_all(file, head + 4) == -EBADMSG);
	file[0] ^= 1;
	CHECK(read_all(file, head) == -EBADMSG);
}

static void mutations(const uint8_t *image, size_t size, uint64_t count)
{
	uint8_t *copy = malloc(size + 8);
	uint64_t seed = 1;

	CHECK(copy && read_all(image, size) > 0);
	while (count--) {
		size_t length = size;
		int changes = 1 + (int)(next_random(&seed) % 8);

		memcpy(copy, image, size);
		while (changes--)
			copy[next_random(&seed) % size] = (uint8_t)next_random(&seed);
		if (next_random(&seed) % 4 == 0)
			length = next_random(&seed) % (size + 1);
		/* A buffer of just that length: ASan sees any byte read beyond. */
		uint8_t *exact = malloc(length ? length : 1);
		CHECK(exact);
		memcpy(exact, copy, length);
		read_all(exact, length);
		free(exact);
	}
	free(copy);
}

int main(int argc, char **argv)
{
	right_ones();
	wrong_ones();
	if (argc == 3) {
		static uint8_t image[1 << 20];
		FILE *file = fopen(argv[1], "rb");
		size_t size;

		CHECK(file);
		size = fread(image, 1, sizeof(image), file);
		fclose(file);
		mutations(image, size, strtoull(argv[2], NULL, 10));
	}
	return 0;
}
