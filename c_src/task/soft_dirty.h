/* SPDX-License-Identifier: Apache-2.0 */
/*
 * soft_dirty: where the kernel tracks what tasks write (soft-dirty: CONFIG_MEM_SOFT_DIRTY; whether it does is tried out),
 * a round of pre-copy need not read what was not written since a round before it did.
 *
 * /proc/PID/clear_refs clears a task's bits once, before a round reads anything of it, and never again: to read bits and to
 * clear them is two steps, and what the running task writes in between would be lost. So bits only ever come, and a page
 * written once is read in each round.
 *
 * It spares work, and proves nothing: whole page tables moved by mremap(2), KSM, DMA that was under way, or somebody else
 * who clears bits change pages without a trace. After the freeze every page is read and hashed, as without it: what went
 * unseen is then sent.
 *
 * The price: after the clear, the first write to each page (huge page) of the task takes a page fault.
 * Not for more than one thread, but for cl_soft_dirty_read.
 */
#ifndef CL_SOFT_DIRTY_H
#define CL_SOFT_DIRTY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cl_soft_dirty;

/* NULL without memory. */
struct cl_soft_dirty *cl_soft_dirty_new(void);
void cl_soft_dirty_free(struct cl_soft_dirty *dirty);

/* Nothing is tracked any more; what is later begins anew. */
void cl_soft_dirty_forget(struct cl_soft_dirty *dirty);

/*
 * A round over these tasks begins: pids[i] is, as we see it, the one with ids[i]. Those whose address space is not
 * tracked yet are from now on. Nothing, where the kernel can't.
 */
void cl_soft_dirty_begin(struct cl_soft_dirty *dirty, const int32_t *ids, const int32_t *pids, size_t nr);

/* Whether the bits of this task tell what was written since a round before this one. */
bool cl_soft_dirty_is_tracked(const struct cl_soft_dirty *dirty, int32_t id);

/*
 * The entries (proc_pagemap.h) of nr pages from vaddr on of a task that is tracked, with the pages' own soft-dirty bits
 * as far as the kernel can tell. How many were read: fewer, or none, if the address space has gone.
 */
uint64_t cl_soft_dirty_read(int pagemap_fd, uint64_t vaddr, uint64_t *entries, uint64_t nr);

#endif
