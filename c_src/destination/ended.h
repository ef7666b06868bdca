/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ended: what becomes of a restored task's missing pages when its address space, or its process, is gone.
 *
 * criu restore hands a task's userfaultfd over in the task's own name, so the socket tells which process it is
 * (SO_PASSCRED), and a pidfd tells when and how it ends. Its address space is gone when the userfaultfd says so (ESRCH):
 *   execve                the process lives, with another address space: the pages are not needed any more, dropped.
 *   it ended by exit()    dropped, too.
 *   killed by a signal    *lost*: nobody has the task any more, but the source. The engine then doesn't say CLOSE.
 *   unknown               lost, likewise.
 * What is killed once all of its pages are there, while others' still come, has lost none; it is told of all the same.
 * Of forked children the kernel tells nothing: theirs are dropped when their address space is gone.
 *
 * The list of restored tasks is the events thread's; what workers note of one (gone_*) is under the engine's lock. All of
 * it is in the resume state too: a daemon that takes over knows what was lost before.
 */
#ifndef CL_ENDED_H
#define CL_ENDED_H

#include <stdbool.h>
#include <stdint.h>

#include "destination/address_space.h"
#include "task/task_end.h"

struct cl_engine;

struct cl_restored {
	struct cl_restored *next;
	int32_t pid; /* as in the images */
	struct cl_task task;
	struct cl_space *space; /* NULL: it has let go of it */
	uint64_t area;          /* in the resume state, where has_area */
	bool has_area;
	bool settled;        /* nothing is to be found out any more */
	bool complete;       /* all of its pages came; how it ends is of interest still */
	uint64_t gone_pages; /* that were missing when the address space was gone */
	uint64_t gone_us;    /* when that was seen; 0: it wasn't */
	bool ended;          /* with pages missing, as `end` tells */
	struct cl_end end;
};

/* A restored task, of that process (0: not known); its space, or NULL. 0 or -ENOMEM. */
int cl_ended_add(struct cl_engine *engine, int32_t pid, struct cl_space *space, const struct cl_task *task,
		 struct cl_restored **restored_out);

/*
 * Enter a new space, which has its key, in the resume state, with its task; where that fails, it can't be taken over. Lock
 * held; dropped meanwhile.
 */
void cl_engine_enter(struct cl_engine *engine, struct cl_space *space);

/* The space's address space is gone, with all that was missing in it. Any thread; lock held. */
void cl_ended_gone(struct cl_engine *engine, struct cl_space *space);

/* A killed daemon's resume state said so. Before there are threads. */
void cl_ended_again(struct cl_engine *engine, struct cl_restored *restored, uint64_t pages, const struct cl_end *end);
void cl_ended_gone_again(struct cl_engine *engine, struct cl_restored *restored, uint64_t pages);

/* Let go of a space: whether it may be, yet; and that it is. Lock held. */
bool cl_ended_may_let_go(const struct cl_space *space);
void cl_ended_let_go(struct cl_space *space);

/* Find out about tasks that may have ended. In how many ms to look again, -1: when there is news. Lock not held. */
int cl_ended_look(struct cl_engine *engine);

/* Whether one of the restored tasks still runs, as far as is known. */
bool cl_ended_any_lives(const struct cl_engine *engine);

/* Tell a page server that pushes who lost what. Lock held; dropped while sending. */
void cl_ended_tell_source(struct cl_engine *engine);

/* One line for who lost what: of the first task that did, and how many others. Lock held. */
void cl_ended_describe(const struct cl_engine *engine, char *text, size_t bytes);

void cl_ended_free(struct cl_engine *engine);

#endif
