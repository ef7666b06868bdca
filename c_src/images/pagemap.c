/* SPDX-License-Identifier: Apache-2.0 */
#include "images/pagemap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/page.h"

enum {
	IMG_COMMON_MAGIC = 0x54564319, /* first word of an image since criu 2.0 */
	PAGEMAP_MAGIC = 0x56084025,
	RECORD_MAX = 4096, /* bytes; a real entry takes ~20 */
};

/* No user address reaches beyond 57 bits on x86_64 and aarch64. */
#define ADDRESS_MAX (1ULL << 57)

static int bad(struct cl_error *error, const char *why)
{
	return cl_error_set(error, -EBADMSG, "%s", why);
}

static uint32_t get_u32(const uint8_t *at)
{
	return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* One varint from *at, not beyond end; false if it is cut or longer than 64 bits. */
static bool get_varint(const uint8_t **at, const uint8_t *end, uint64_t *value)
{
	unsigned int shift = 0;

	*value = 0;
	while (*at < end) {
		uint8_t byte = *(*at)++;

		if (shift == 63 && byte > 1)
			return false;
		*value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return true;
		shift += 7;
		if (shift > 63)
			return false;
	}
	return false;
}

/*
 * The next field of a message: its number, and its value if it is a varint (others are passed over, as
 * protobuf wants for fields one doesn't know). 1, 0 at the end, -EBADMSG.
 */
static int next_field(const uint8_t **at, const uint8_t *end, uint64_t *number, uint64_t *value)
{
	uint64_t tag, length;

	for (;;) {
		if (*at == end)
			return 0;
		if (!get_varint(at, end, &tag))
			return -EBADMSG;
		*number = tag >> 3;
		switch (tag & 7) {
		case 0:
			return get_varint(at, end, value) ? 1 : -EBADMSG;
		case 1:
			length = 8;
			break;
		case 2:
			if (!get_varint(at, end, &length))
				return -EBADMSG;
			break;
		case 5:
			length = 4;
			break;
		default:
			return -EBADMSG;
		}
		if (length > (uint64_t)(end - *at))
			return -EBADMSG;
		*at += length;
	}
}

/* The next record's bytes: 1, 0 at the end of the file, or error->code. */
static int next_record(struct cl_pagemap *pagemap, const uint8_t **at, const uint8_t **end, struct cl_error *error)
{
	uint32_t length;

	if (pagemap->position == pagemap->size)
		return 0;
	if (pagemap->size - pagemap->position < 4)
		return bad(error, "the file ends within a record's length");
	length = get_u32(pagemap->file + pagemap->position);
	if (length > RECORD_MAX)
		return bad(error, "a record is longer than any pagemap entry");
	if (length > pagemap->size - pagemap->position - 4)
		return bad(error, "the file ends within a record");
	*at = pagemap->file + pagemap->position + 4;
	*end = *at + length;
	pagemap->position += 4 + (size_t)length;
	return 1;
}

int cl_pagemap_from_memory(struct cl_pagemap *pagemap, const uint8_t *file, size_t size, struct cl_error *error)
{
	const uint8_t *at, *end;
	uint64_t number, value;
	bool found = false;
	int ret;

	memset(pagemap, 0, sizeof(*pagemap));
	pagemap->file = file;
	pagemap->size = size;
	if (size < 8 || get_u32(file) != IMG_COMMON_MAGIC || get_u32(file + 4) != PAGEMAP_MAGIC)
		return bad(error, "not a pagemap image (wrong magic)");
	pagemap->position = 8;
	ret = next_record(pagemap, &at, &end, error);
	if (ret < 0)
		return ret;
	if (ret == 0)
		return bad(error, "the head is missing");
	while ((ret = next_field(&at, end, &number, &value)) > 0) {
		if (number != 1)
			continue;
		if (value > UINT32_MAX)
			return bad(error, "the head's pages_id is out of range");
		pagemap->pages_id = (uint32_t)value;
		found = true;
	}
	if (ret < 0 || !found)
		return bad(error, "the head is damaged");
	return 0;
}

int cl_pagemap_open(struct cl_pagemap *pagemap, int dirfd, int32_t pid, struct cl_error *error)
{
	CL_CLEANUP_FD int fd = -1;
	char name[32];
	struct stat status;
	void *map;
	int ret;

	memset(pagemap, 0, sizeof(*pagemap));
	snprintf(name, sizeof(name), "pagemap-%d.img", pid);
	fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &status) < 0)
		return cl_error_set(error, -errno, "%s", strerror(errno));
	if (!S_ISREG(status.st_mode) || status.st_size < 8)
		return bad(error, "not a pagemap image (too short)");
	map = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	if (map == MAP_FAILED)
		return cl_error_set(error, -errno, "%s", strerror(errno));
	ret = cl_pagemap_from_memory(pagemap, map, (size_t)status.st_size, error);
	pagemap->mapped = true;
	if (ret < 0)
		cl_pagemap_close(pagemap);
	return ret;
}

int cl_pagemap_next(struct cl_pagemap *pagemap, struct cl_pagemap_entry *entry, struct cl_error *error)
{
	const uint8_t *at, *end;
	uint64_t number, value, old_count = 0, new_count = 0;
	bool has_vaddr = false, has_flags = false, in_parent = false, is_new = false;
	int ret;

	ret = next_record(pagemap, &at, &end, error);
	if (ret <= 0)
		return ret;
	memset(entry, 0, sizeof(*entry));
	while ((ret = next_field(&at, end, &number, &value)) > 0) {
		switch (number) {
		case 1:
			entry->vaddr = value;
			has_vaddr = true;
			break;
		case 2:
			old_count = value;
			break;
		case 3:
			in_parent = value != 0;
			break;
		case 4:
			if (value > UINT32_MAX)
				return bad(error, "an entry's flags are out of range");
			entry->flags = (uint32_t)value;
			has_flags = true;
			break;
		case 5:
			new_count = value;
			is_new = true;
			break;
		}
	}
	if (ret < 0 || !has_vaddr)
		return bad(error, "an entry is damaged");
	if (!has_flags) /* images of criu before 3.0 */
		entry->flags = in_parent ? CL_PE_PARENT : CL_PE_PRESENT;
	entry->nr_pages = is_new ? new_count : old_count;
	pagemap->wire_version = is_new ? 2 : 1;
	if (entry->vaddr % CL_PAGE_SIZE || entry->vaddr < pagemap->last_end)
		return bad(error, "an entry's address is not aligned, or not above the one before");
	if (entry->nr_pages == 0 || entry->vaddr >= ADDRESS_MAX ||
	    entry->nr_pages > (ADDRESS_MAX - entry->vaddr) / CL_PAGE_SIZE)
		return bad(error, "an entry's page count is out of range");
	pagemap->last_end = entry->vaddr + entry->nr_pages * CL_PAGE_SIZE;
	return 1;
}

void cl_pagemap_close(struct cl_pagemap *pagemap)
{
	if (pagemap->mapped)
		munmap((void *)(uintptr_t)pagemap->file, pagemap->size);
	pagemap->mapped = false;
	pagemap->file = NULL;
}
