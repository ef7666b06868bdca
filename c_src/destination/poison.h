/* SPDX-License-Identifier: Apache-2.0 */
/*
 * poison: ends the service of an address space: closes its userfaultfd when no page is missing, or poisons the pages that
 * are missing and will never come, so that touching one is SIGBUS and not a wait for ever. The events thread's.
 */
#ifndef CL_POISON_H
#define CL_POISON_H

#include <stdbool.h>

struct cl_engine;

/*
 * Let go of the spaces that need nothing any more; true if all are done. *look_again: set if one may be soon, which nothing
 * tells. Lock held; dropped while closing.
 */
bool cl_spaces_retire_finished(struct cl_engine *engine, bool *look_again);

/* The engine ends: poison what is missing, if the restored tasks run, and let go of all. No other thread is left. */
void cl_spaces_abandon(struct cl_engine *engine);

#endif
