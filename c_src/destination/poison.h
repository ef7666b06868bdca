/* SPDX-License-Identifier: Apache-2.0 */
/*
 * poison: the end of the engine's care for an address space: let go of when it needs nothing any more, or poisoned where
 * pages are missing that will never come. The events thread's.
 */
#ifndef CL_POISON_H
#define CL_POISON_H

#include <stdbool.h>

struct cl_engine;

/* Let go of the spaces that need nothing any more; true if all are done. Lock held; dropped while closing. */
bool cl_spaces_retire_finished(struct cl_engine *engine);

/* The engine ends: poison what is missing, if the restored tasks run, and let go of all. No other thread is left. */
void cl_spaces_abandon(struct cl_engine *engine);

#endif
