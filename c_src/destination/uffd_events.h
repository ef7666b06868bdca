/* SPDX-License-Identifier: Apache-2.0 */
/* uffd_events: what the kernel says of an address space, read and applied inside the gate (engine.h). */
#ifndef CL_UFFD_EVENTS_H
#define CL_UFFD_EVENTS_H

#include <stdbool.h>
#include <stddef.h>

struct cl_engine;
struct cl_held;
struct cl_space;

/* A new space's userfaultfd is watched from now on. 0 or -errno. */
int cl_engine_watch(struct cl_engine *engine, struct cl_space *space);

/*
 * Read and apply what the kernel says of this space. False if events are on their way without which it is not known
 * where its pages belong (address_space.h): the gate stays closed; call again soon. Lock not held.
 */
bool cl_engine_read_events(struct cl_engine *engine, struct cl_space *space);

/*
 * The kernel tells of unmaps that failed, too: undo what was applied of them (fork_undo.h), and forget all that could be
 * undone. True: it isn't quiet yet; call again soon. Until then it isn't known what is missing. Lock not held.
 */
bool cl_engine_look_at_unmaps(struct cl_engine *engine, struct cl_space *space);

/*
 * Go on where a killed daemon was: apply what it had read of this space and not applied. `held`: what its guardian
 * handed over; forked children found there are taken from it. 0 or -errno. Before there are threads.
 */
int cl_engine_replay(struct cl_engine *engine, struct cl_space *space, struct cl_held *held, size_t nr_held);

#endif
