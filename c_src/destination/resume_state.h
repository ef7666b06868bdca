/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resume_state: what must be known of every address space to go on after the daemon is killed, in shared memory that
 * outlives it (the guardian has it open: uffd_guardian.h). It is right at any moment, even in the middle of anything:
 *
 *   missing pages  the space's own bitmap (base/shared_bits.h). Bits are only ever cleared, after the page was installed or
 *                  dropped. One that is set too long is harmless: the kernel says that the page is there.
 *   doubtful pages another, likewise: bits are only ever set, when it is found that a page can't be known.
 *   events         read by the kernel's hand straight into it, as a batch with a number. Reading takes an event
 *                  from the kernel, and the thread that caused it goes on, so none may be lost.
 *   regions        (and limbo, suspects) as of the last batch applied, in one of two slots. A batch that changes them
 *                  writes the other slot, then one word says which slot holds and which batch was applied.
 *
 * So a batch read and not applied is applied by whoever takes over, from the same regions: what it clears is the same.
 * Faults in it need nothing: whoever takes over wakes all threads, and they fault again. A forked child's userfaultfd
 * is known to the guardian by its key.
 *
 * No locks: the events thread's, but for the bitmaps, which are the engine's lock's, as the space itself is.
 */
#ifndef CL_RESUME_STATE_H
#define CL_RESUME_STATE_H

#include <linux/userfaultfd.h>
#include <stddef.h>
#include <stdint.h>

#include "destination/address_space.h"
#include "task/task_end.h"

enum { CL_RESUME_EVENTS = 64 }; /* in a batch */

struct cl_resume_state {
	int fd;            /* -1: there is none, and entries are not made */
	uint64_t nr_areas; /* given out so far */
	uint64_t client;   /* by which the page server knows this daemon, and whoever takes over from it */
};

/* What an area says of the restored task whose space it is (ended.h). */
struct cl_resume_task {
	bool is_task;  /* false: it is a forked child's, and the rest means nothing */
	pid_t process; /* 0: not known */
	uint64_t began;
	uint64_t gone_pages; /* that were missing when its address space was gone; 0: it wasn't seen to be */
	bool ended;          /* with these missing, as `end` tells */
	struct cl_end end;
};

#define CL_NO_RESUME_STATE ((struct cl_resume_state){ .fd = -1 })

/* A new, empty one; bitmaps that are made in `chunks` from now on lie in it. 0 or -errno: `chunks` is as it was. */
int cl_resume_state_new(struct cl_resume_state *state, uint64_t client, struct cl_chunk_pool *chunks);

/*
 * One that was handed over; fd is owned by it; `chunks`: where its bitmaps lie. 0, -EBADMSG (it is another version's) or
 * -errno. When all that is of use is loaded, cl_chunk_pool_free_unclaimed().
 */
int cl_resume_state_open(struct cl_resume_state *state, int fd, struct cl_chunk_pool *chunks);

/*
 * An area for a space, with its regions as they are; sets space->mirror. task: the restored task's process, NULL for a forked
 * child; *area_out: where it is. 0 or -errno: then it can't be taken over.
 */
int cl_resume_state_prepare(struct cl_resume_state *state, struct cl_space *space, const struct cl_task *task,
			    uint64_t *area_out);

/* Enter that space under its key, with its bitmaps: from now on a successor finds it. */
void cl_resume_state_enter(struct cl_space *space);

/* The restored task's address space is gone, with so many pages missing, which are going to be dropped. */
void cl_resume_state_gone(struct cl_space *space, uint64_t pages);

/* The same, found by whoever takes over; there is no space of it any more. */
void cl_resume_state_gone_before(struct cl_resume_state *state, uint64_t area, uint64_t pages);

/* How it ended with them: the area says so from now on, until all of this is gone, whatever becomes of the space. */
void cl_resume_state_ended(struct cl_resume_state *state, uint64_t area, const struct cl_end *end);

/* Nobody needs it any more. Harmless without an entry. */
void cl_resume_state_forget(struct cl_resume_state *state, struct cl_space *space);

/* Room for CL_RESUME_EVENTS events, to be read into: a batch of the daemon of that generation begins. */
struct uffd_msg *cl_resume_state_begin(struct cl_resume_entry *entry, uint64_t generation);

/*
 * The batch is applied; `changed`: regions, limbo or suspects may have been. 0, or -errno: then the space's entry is void.
 */
int cl_resume_state_applied(struct cl_resume_state *state, struct cl_space *space, bool changed);

/*
 * Go through the areas of a state that was opened, *area = 0 at first. 1: *key and the pid of its image are known, to be
 * loaded or ignored; 0: there are no more; or -errno.
 */
int cl_resume_state_next(const struct cl_resume_state *state, uint64_t *area, uint64_t *key, int32_t *image_pid);

/* Whose area that is; *missing: the pages that its space missed. 0, -ESTALE (these are other images) or -errno. */
int cl_resume_state_task(const struct cl_resume_state *state, uint64_t area, const struct cl_image *image,
			 struct cl_resume_task *task, uint64_t *missing);

/*
 * The space of the area that cl_resume_state_next() told of, appended to its image's list, its mirror set. uffd is owned
 * by the space. 0, -ENOMEM, -ESTALE (these are other images) or -EBADMSG (it makes no sense).
 */
int cl_resume_state_load(struct cl_resume_state *state, uint64_t area, struct cl_image *image, int uffd,
			 struct cl_space **space_out);

/* The batch that was read and not applied: copied to `events`; and which daemon read it. Their number. */
int cl_resume_state_pending(const struct cl_resume_entry *entry, struct uffd_msg events[CL_RESUME_EVENTS],
			    uint64_t *generation);

#endif
