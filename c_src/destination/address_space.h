/* SPDX-License-Identifier: Apache-2.0 */
/*
 * address_space: which pages of which address space are missing, and where they belong now. Pure data: no system
 * call, no lock of its own; the engine calls everything here under its one mutex.
 *
 * Of an *image* (images/image.h) every page has an index. A *space* (struct cl_space) is one living address space with
 * its own userfaultfd: the restored task's, and one for every child forked while pages were missing. It knows which
 * pages of the image it misses, and for every stretch of its memory the address that it had at the dump (regions:
 * mremap moves them).
 *
 * The rules (where "missing" changes):
 *   created      every page of the image that lies in a VMA is missing.
 *   filled       UFFDIO_COPY installed it, or said EEXIST: no longer missing.
 *   unmapped     no longer missing; the region is gone. (The kernel tells of an unmap that failed, too: it is undone when
 *                the kernel is quiet, fork_undo.h.)
 *   removed      (MADV_DONTNEED, MADV_FREE...) no longer missing: it reads as zeroes from now on; the region stays.
 *   guarded      (MADV_GUARD_INSTALL) the same: zeroes are left when the guards go. Not an event: madvise_watch.h tells.
 *   doubted      still missing, but poisoned instead of filled: it can't be known what it must be.
 *   remapped     still missing, at its new address.
 *   forked       the child misses what the parent misses at that moment. The kernel refuses copies (EAGAIN)
 *                from the fork until its event is read, and the engine holds copies back while it reads
 *                events (the gate, engine.h), so "that moment" is exact as to copies: what was filled before is in
 *                the child by copy-on-write, what was not is in its bitmap. What the task itself declared to be wiped
 *                on fork is not missing there: it reads as zeroes. What another thread remaps, unmaps or guards between the
 *                fork and the fork's event was applied to the parent first: it is kept (`undo`, `guards`) until the
 *                kernel is quiet, and undone (fork_undo.h) in a child whose memory is as it was before. Two gaps
 *                are known: a remap that was made before the fork, and whose event is read after the fork's,
 *                is not applied to the child; and what is removed between is missing in the child no more, as
 *                nothing tells it from what was removed before the fork.
 *
 * Events in the wrong order. The kernel tells of a change after it was made, when the changing thread gets to it:
 * two threads' events may come the other way round. What one thread gives up (mremap away, munmap) another may get
 * for its own mremap at once. So a remap may come to where something lies still, and an unmap to what was moved
 * there meanwhile; besides, every mremap is followed by an unmap event for the old place. The kernel is *quiet* when
 * all events so far have been read and their threads know it (it refuses copies until then). So:
 *   a remap onto something       it has left, and the event is on its way: it waits in `limbo` for the event that
 *                                tells where to. What its remap or unmap names is looked for there first.
 *   an unmap of what was moved   (since the kernel was last quiet) told of what had lain there before, or came later:
 *   there                        `suspect`, kept, until the kernel is quiet and says whether it is there.
 * As long as either is open the space is unsettled, and no copy is made. (Kernels before 6.17 give the old length,
 * where mremap shrinks and moves at once with MREMAP_FIXED; pages in the cut-off tail then have a place until copying
 * finds that it isn't there.)
 *
 * A page that is not missing anywhere is not asked for (but for a moment after much was dropped at once:
 * cl_image_check_todo()), and a page that is missing somewhere is todo or on its way: nothing is lost, nothing is fetched
 * twice.
 */
#ifndef CL_ADDRESS_SPACE_H
#define CL_ADDRESS_SPACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/shared_bits.h"
#include "criu_lazy.h"
#include "destination/fork_advice.h"
#include "destination/regions.h"
#include "destination/undo_log.h"
#include "images/image.h"

/* A thread of the task waits for this page since then. */
struct cl_waiter {
	uint64_t index;
	uint64_t since_us;
};

struct cl_waiters {
	struct cl_waiter *at;
	size_t nr, max;
};

struct cl_resume_entry;
struct cl_restored;

/* Copies of the space's own that outlive the process: resume_state.h's; all NULL where there is none. */
struct cl_space_mirror {
	struct cl_resume_entry *entry;
	_Atomic uint32_t *doubtful; /* for the bitmap's table; `missing` has its own there */
	_Atomic uint64_t *quiet;
};

/* There is no memory for its pages: uffd_fill.h's. */
struct cl_no_memory {
	uint64_t since_us; /* 0: there is */
	uint64_t last_us;  /* when it was last seen */
	unsigned int tries;
};

struct cl_space {
	struct cl_image *image;
	struct cl_space *next; /* in the image's list */
	int uffd;              /* -1 once finished */
	int32_t pid;
	struct cl_shared_bits missing; /* over the image's pages; what a forked child has not changed since, it shares */
	uint64_t nr_missing;
	struct cl_shared_bits doubtful; /* the same: of these pages it can't be known what they are. No bitmap: none */
	struct cl_space_mirror mirror;
	uint64_t key;                    /* by which guardian and resume state know it */
	struct cl_restored *restored;    /* the restored task whose it is (ended.h); NULL: a forked child's */
	uint64_t guarded;                /* missing pages that guards were put on: advice.c's */
	struct cl_fork_advice advice;    /* what its next fork leaves out; advice.c's */
	struct cl_fork_advice inherited; /* what the fork left out that made it, and its forks do if no more is known */
	struct cl_region_map regions;
	uint64_t changes, quiet;    /* remaps applied so far; and up to when the kernel was last seen quiet */
	struct cl_regions limbo;    /* moved away: the event that tells where to is on its way */
	struct cl_regions suspects; /* ranges (at_dump unused) of which an unmap may have told something older */
	struct cl_undo_log undo;    /* the latest remaps and unmaps: what the kernel says of them isn't known yet */
	struct cl_undo_log guards;  /* and guards since the kernel was last seen quiet, when it seemed to be forked */
	struct cl_waiters waiters;
	struct cl_no_memory no_memory;
	/* The gate: see engine.h. */
	unsigned int copying; /* copies in progress */
	bool reading;         /* events are being read: no copy may start */
	bool retired;         /* complete, or its task exited */
};

/* Free all spaces of an image. */
void cl_image_free_spaces(struct cl_image *image);

/* Take off the todo list what no space misses. */
void cl_image_only_missing(struct cl_image *image);

/*
 * The same, in steps of a few us, of what spaces have dropped much at once of: until then it may be asked for, though nobody
 * needs it. False: nothing is left to be checked.
 */
bool cl_image_check_todo(struct cl_image *image);

/* Put back on the todo list what of pages [from, to) (of one extent) is missing in some space, and not to come from the store. */
void cl_image_ask_again(struct cl_image *image, uint64_t from, uint64_t to);

/* Pages of [index, end) that some space misses, from the first one on: [*from, *to). False if there is none. */
bool cl_image_next_missing(const struct cl_image *image, uint64_t index, uint64_t end, uint64_t *from, uint64_t *to);

/* What takes most time, without a lock, of making the restored task's space; for cl_space_new(). NULL: -ENOMEM. */
struct cl_space *cl_space_prepare(struct cl_image *image, int32_t pid, int uffd);

/*
 * The restored task's space, `prepared` by the above (NULL: -ENOMEM), appended to the image's list. Its uffd is owned by it
 * from now on. NULL: -ENOMEM, and `prepared` is gone.
 */
struct cl_space *cl_space_new(struct cl_space *prepared);

/*
 * What a fork of `parent` takes most time for, to be passed on to cl_space_fork(). It needs no lock: of a whole space only the
 * regions are looked at, which its own thread alone changes. NULL: -ENOMEM.
 */
struct cl_space *cl_space_prepare_fork(const struct cl_space *parent, int uffd);

/*
 * A forked child of `parent`, `prepared` by the above (NULL: -ENOMEM). What parent->advice says isn't there; if that isn't known, what parent->inherited says, or
 * else what was advised at the dump. NULL: -ENOMEM, and `prepared` is gone.
 */
struct cl_space *cl_space_fork(struct cl_space *parent, struct cl_space *prepared);

/* Take from a forked child what it doesn't have, as said above. 0 or -ENOMEM. */
int cl_space_follow_advice(struct cl_space *child, const struct cl_space *parent);

/* What makes up a space, as it was saved by its owner. */
struct cl_space_memory {
	struct cl_regions regions, limbo, suspects;
	uint64_t changes, quiet;
	struct cl_shared_bits missing, doubtful;
};

/*
 * A space as it was, appended to the image's list; `memory` is copied, and its bitmaps are the space's from then on (memory
 * has none then). 0, -ENOMEM, or -EBADMSG if it contradicts itself.
 * When all are back, cl_image_only_missing() is to be called.
 */
int cl_space_again(struct cl_image *image, int32_t pid, int uffd, struct cl_space_memory *memory,
		   struct cl_space **space_out);

/* Its task is gone or complete: nothing is missing any more; memory is given back, but for what others may be at. */
void cl_space_retire(struct cl_space *space);

/* Free the image's retired spaces. Nobody may be at one. */
void cl_image_forget_retired(struct cl_image *image);

/* What lies at address `addr` now: a page index if that page is missing, else CL_NO_PAGE. */
uint64_t cl_space_missing_at(const struct cl_space *space, uint64_t addr);

/* A run of missing pages that lie side by side, both at the dump and now. */
struct cl_run {
	uint64_t index;
	uint64_t nr_pages;
	uint64_t address; /* now */
	bool doubtful;    /* see cl_space_doubt() */
};

/* The first run within pages [from, to) of one extent; false if none of them is missing. */
bool cl_space_next_run(struct cl_space *space, uint64_t from, uint64_t to, struct cl_run *run);

/* Pages [from, to) arrived (or were there). Returns how many had been missing. */
uint64_t cl_space_filled(struct cl_space *space, uint64_t from, uint64_t to);

/* Pages [from, to) are not needed any more. Returns how many had been missing. */
uint64_t cl_space_drop(struct cl_space *space, uint64_t from, uint64_t to);

/* The same of all of them; what is missing in a forked child as in its parent costs nothing. */
void cl_space_drop_all(struct cl_space *space);

/* Whether no region lies in [start, end), by current addresses. */
bool cl_space_is_free(const struct cl_space *space, uint64_t start, uint64_t end);

/* Whether a page is missing in [start, end). */
bool cl_space_misses(const struct cl_space *space, uint64_t start, uint64_t end);

/*
 * What is missing in [start, end), by current addresses, is neither what it was at the dump nor zero, as far as can be
 * known: it is to be poisoned instead of filled, in this space, and in what it forks. How many pages that are; 0 without
 * memory.
 */
uint64_t cl_space_doubt(struct cl_space *space, uint64_t start, uint64_t end);

/* The kernel's events, by current addresses. unmap, remap: 0 or -ENOMEM. */
int cl_space_unmap(struct cl_space *space, uint64_t start, uint64_t end);
void cl_space_remove(struct cl_space *space, uint64_t start, uint64_t end);
int cl_space_remap(struct cl_space *space, uint64_t from, uint64_t to, uint64_t length);

/* A thread puts guards on [start, end): in a child that was forked before, what is to be removed there now is missing still. */
void cl_space_remember_guards(struct cl_space *space, uint64_t start, uint64_t end, pid_t thread);

/*
 * An unmap or a removal of [start, end) may take long if the space has many regions there: [start, result) is a part that
 * doesn't. Part by part it is the same.
 */
uint64_t cl_space_piece_end(const struct cl_space *space, uint64_t start, uint64_t end);

/* Events came in a doubtful order (see above): no copy may be made now. */
bool cl_space_unsettled(const struct cl_space *space);

/* A copy succeeded: the kernel is quiet as to all changes so far, and no batch of events is being applied. */
void cl_space_was_quiet(struct cl_space *space);

/*
 * The kernel is, or was just now, quiet: all events up to here have been read. What is in limbo still is gone. The
 * mirror's `quiet` is told later, with the regions that these events left (cl_resume_state_applied()): a successor that
 * finds the batch unapplied must doubt what it replays.
 */
void cl_space_quiet(struct cl_space *space);

/*
 * A range to ask the kernel about, now that it is quiet; false if there is none (left). What isn't there any more is
 * to be unmapped by cl_space_unmap(), which has no doubts now.
 */
bool cl_space_take_suspect(struct cl_space *space, uint64_t *start, uint64_t *end);

/* Put it back: the kernel wasn't quiet after all. 0 or -ENOMEM. */
int cl_space_add_suspect(struct cl_space *space, uint64_t start, uint64_t end);

/*
 * How many pages from `addr` on, at most `max_pages`, lie in the same region and are not missing: they may be
 * given zeroes (UFFDIO_ZEROPAGE never overwrites). At least 1.
 */
uint64_t cl_space_zero_span(const struct cl_space *space, uint64_t addr, uint64_t max_pages);

#endif
