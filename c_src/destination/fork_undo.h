/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork_undo: the kernel tells of a fork after it was made; what other threads of the parent remapped or unmapped meanwhile
 * was applied to the parent first. The child has its memory as it was before. And it tells of an unmap that failed, too
 * (Linux 6.12 and later put all back: after munmap(2) of something that is sealed further on, or mmap(2) over something
 * without memory for it). Pure data, as address_space.h.
 */
#ifndef CL_FORK_UNDO_H
#define CL_FORK_UNDO_H

#include <stdint.h>

struct cl_image;
struct cl_space;

typedef void (*cl_again)(void *context, struct cl_image *image, uint64_t from, uint64_t to);

/*
 * Undo in a child that was just forked (cl_space_fork()) what the parent did later. has: whether the child has all of this
 * memory, as one VMA (1 or 0; negative: unknown). `again` is called for pages [from, to), of one extent, that the child misses
 * after all; they are on the image's todo list again. 0 or -ENOMEM.
 */
int cl_fork_undo(struct cl_space *child, const struct cl_space *parent,
		 int (*has)(int uffd, uint64_t address, uint64_t length), cl_again again, void *context);

/*
 * The unmaps in space->undo of which `has_failed` is set. First the regions are there again: 0 or -ENOMEM. That must be in
 * the resume state before their pages are missing again, by the second.
 */
int cl_failed_undo_regions(struct cl_space *space);
void cl_failed_undo_pages(struct cl_space *space, cl_again again, void *context);

#endif
