/* SPDX-License-Identifier: Apache-2.0 */
/* push_images: the images that the tests of pushing use. */
#ifndef PUSH_IMAGES_H
#define PUSH_IMAGES_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "wire/page_protocol.h"

/* A pagemap of criu 4.2's in directory `fd`: of every 8 pages the first 7 are lazy. */
static inline void make_pagemap(int fd, int pid, uint64_t base, uint64_t nr_pages)
{
	static const uint8_t head[] = { 0x19, 0x43, 0x56, 0x54, 0x25, 0x40, 0x08, 0x56, 2, 0, 0, 0, 1 << 3, 1 };
	char name[32];
	FILE *file;

	snprintf(name, sizeof(name), "pagemap-%d.img", pid);
	file = fdopen(openat(fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600), "wb");
	CHECK(file && fwrite(head, sizeof(head), 1, file) == 1);
	for (uint64_t page = 0; page < nr_pages; page += 8) {
		uint8_t body[32] = { 1 << 3 };
		uint32_t size = 1;

		size += (uint32_t)put_varint(body + 1, base + page * CL_PAGE_SIZE);
		memcpy(body + size, (uint8_t[]){ 5 << 3, 7, 4 << 3, 2 }, 4);
		size += 4;
		CHECK(fwrite(&size, 4, 1, file) == 1 && fwrite(body, size, 1, file) == 1);
	}
	CHECK(fclose(file) == 0);
}

/* The same in `directory`, made from a mkdtemp() template. */
static inline int make_images(char *directory, int pid, uint64_t base, uint64_t nr_pages)
{
	int fd;

	CHECK(mkdtemp(directory));
	fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	make_pagemap(fd, pid, base, nr_pages);
	return fd;
}

static inline void remove_images(const char *directory, int pid, int fd)
{
	char name[32];

	snprintf(name, sizeof(name), "pagemap-%d.img", pid);
	CHECK(unlinkat(fd, name, 0) == 0 && rmdir(directory) == 0);
	close(fd);
}

#endif
