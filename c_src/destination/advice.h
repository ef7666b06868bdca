/* SPDX-License-Identifier: Apache-2.0 */
/*
 * advice: what the tasks told the kernel by madvise(2) and no userfaultfd tells (madvise_watch.h), applied to their spaces.
 */
#ifndef CL_ADVICE_H
#define CL_ADVICE_H

#include <stdbool.h>

struct cl_engine;
struct cl_space;

/* Follow what they told. To be called before it is looked up which pages are missing. Lock held. */
void cl_engine_follow_madvise(struct cl_engine *engine);

/* Watch that from now on, if this host can. */
void cl_engine_watch_madvise(struct cl_engine *engine);

/*
 * Look at what forks of the space's process leave out, if it is to be known: before its events are read, when a fork's
 * may be among them (the forking thread waits till then), or too late, `forked`, when one came unawares. space->advice
 * has it. Lock not held.
 */
void cl_engine_look_at_fork_advice(struct cl_engine *engine, struct cl_space *space, bool forked);

/*
 * Before events are read, from which a fork's may be: what a thread that forks has put guards on came before that fork, and
 * is not to be put back in the child. Whether another's did can't be told; a child that has the guards finds its page there.
 * Inside the gate and engine->reading, lock not held.
 */
void cl_engine_forget_own_guards(struct cl_engine *engine, struct cl_space *space);

#endif
