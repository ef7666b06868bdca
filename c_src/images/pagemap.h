/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pagemap: reads CRIU's pagemap-PID.img, in C because a big task's table has a million entries and must be
 * read within the restore's downtime. Everything else of the images is read in Python.
 *
 * The file: two u32 magics, then records of u32 length + protobuf: one PagemapHead, then PagemapEntry by
 * ascending address. An entry's page count is its field 2 (criu <= 4.1) or field 5 (criu >= 4.2); the latter
 * also tells that the source speaks page-server protocol version 2.
 *
 * Every length is checked against the file. Errors: -EBADMSG for a damaged file, or what the system said; the text doesn't
 * name the file.
 */
#ifndef CL_PAGEMAP_H
#define CL_PAGEMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cl_error;

enum cl_pagemap_flags { CL_PE_PARENT = 1, CL_PE_LAZY = 2, CL_PE_PRESENT = 4 };

struct cl_pagemap_entry {
	uint64_t vaddr;
	uint64_t nr_pages;
	uint32_t flags; /* enum cl_pagemap_flags */
};

struct cl_pagemap {
	const uint8_t *file;
	size_t size;
	size_t position;
	uint64_t last_end; /* the last entry's end address */
	uint32_t pages_id; /* the pages are in pages-<pages_id>.img */
	int wire_version;  /* 1 or 2 as seen in the entries read so far, 0 before the first */
	bool mapped;       /* file is ours to unmap */
};

/* Open dirfd/pagemap-PID.img and read its head. 0 or error->code; close it after success. */
int cl_pagemap_open(struct cl_pagemap *pagemap, int dirfd, int32_t pid, struct cl_error *error);

/* The same on bytes in memory, borrowed. */
int cl_pagemap_from_memory(struct cl_pagemap *pagemap, const uint8_t *file, size_t size, struct cl_error *error);

/* The next entry: 1, at the end 0, or error->code. Entries are non-empty, aligned, ascending, disjoint. */
int cl_pagemap_next(struct cl_pagemap *pagemap, struct cl_pagemap_entry *entry, struct cl_error *error);

void cl_pagemap_close(struct cl_pagemap *pagemap);

#endif
