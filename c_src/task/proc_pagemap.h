/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proc_pagemap: which pages a task has, by /proc/PID/pagemap: in memory or swapped out, and where. Nothing is touched.
 *
 * Of a mapping that is reserved and mostly empty only what is there is looked at, where the kernel can tell (PAGEMAP_SCAN,
 * Linux 6.7): reading 8 bytes for each page that isn't there costs 0.2 s per TiB.
 */
#ifndef CL_PROC_PAGEMAP_H
#define CL_PROC_PAGEMAP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* A pagemap entry's bits. */
#define CL_ENTRY_PRESENT (1ULL << 63)
#define CL_ENTRY_SWAPPED (1ULL << 62)
#define CL_ENTRY_FILE (1ULL << 61)
#define CL_ENTRY_GUARD (1ULL << 58)     /* a guard region's (MADV_GUARD_INSTALL), counts as swapped; Linux 6.15 tells */
#define CL_ENTRY_EXCLUSIVE (1ULL << 56) /* no other task has it, too */
#define CL_ENTRY_SOFT_DIRTY (1ULL << 55)
#define CL_ENTRY_FRAME ((1ULL << 55) - 1) /* number of the frame, or of type and place in swap */

/* Whether the page is the task's own: in memory or swapped out, no file's, and no guard. */
static inline bool cl_entry_is_anonymous(uint64_t entry)
{
	return entry & (CL_ENTRY_PRESENT | CL_ENTRY_SWAPPED) && !(entry & (CL_ENTRY_FILE | CL_ENTRY_GUARD));
}

/* A task's /proc/PID/pagemap, which all the following take: a descriptor or -errno. */
int cl_proc_pagemap_open(pid_t pid);

/* The entries of nr pages from vaddr on. How many were read: fewer, or none, if the address space has gone. */
uint64_t cl_proc_pagemap_read(int pagemap_fd, uint64_t vaddr, uint64_t *entries, uint64_t nr);

/*
 * The frame or swap slot of each of these pages. 0: of no matter, or not shown (it takes CAP_SYS_ADMIN). *shared, unless
 * NULL: whether another task may have one of them, too. 0, or -ESRCH: the address space has gone.
 */
int cl_proc_pagemap_frames(int pagemap_fd, uint64_t vaddr, uint64_t *frames, uint64_t nr, bool *shared);

/*
 * The first address from `from` on, below `to`, where a page is that is no file's; `to` if there is none. -ENOTTY: this
 * kernel can't tell; or another -errno.
 */
int cl_proc_pagemap_next(int pagemap_fd, uint64_t from, uint64_t to, uint64_t *next);

/*
 * Of these entries, as they were just read: whether the pages' own soft-dirty bits are set. pagemap says that too, and of
 * each page of a mapping of which a part is new. -ENOTTY or -EINVAL: this kernel can't tell (Linux 6.7 can; entries stay).
 */
int cl_proc_pagemap_soft_dirty(int pagemap_fd, uint64_t vaddr, uint64_t *entries, uint64_t nr);

#endif
