/* SPDX-License-Identifier: Apache-2.0 */
/*
 * precopied: pages that came before the dump (precopy_store.h) and are unchanged, as the page server says of them, and
 * those that it sends while the tasks are restored: from then on they are to be had here, a fault's at once, the others in
 * the background.
 *
 * All functions: engine's lock held; dropped while reading and copying.
 */
#ifndef CL_PRECOPIED_H
#define CL_PRECOPIED_H

#include <stdbool.h>
#include <stdint.h>

struct cl_engine;
struct cl_error;
struct cl_image;
struct cl_push_run;

/* The server says of all pages of this run that they are as in the store. 0, or error->code: -ESTALE. */
int cl_precopied_note(struct cl_engine *engine, struct cl_push_run *run, struct cl_error *error);

/*
 * These pages, of one extent, have come while the tasks are restored: into the store, instead of what is there of them. Those
 * for which there is no place are missing as before.
 */
void cl_precopied_store(struct cl_engine *engine, struct cl_image *image, uint64_t index, uint64_t nr_pages,
			const uint8_t *data);

/*
 * Install the next page for which a thread waits, or some of those that nobody waits for; buffer: CL_COPY_BYTES, aligned as a
 * page is. False: there is nothing to do. A store that can't be read is left: the server is connected to anew, without one.
 */
bool cl_precopied_demand(struct cl_engine *engine, uint8_t *buffer);
bool cl_precopied_background(struct cl_engine *engine, uint8_t *buffer);

/* Why a session ends whose store can no longer be read. Returns error->code: -ESTALE. */
int cl_precopied_stale(struct cl_error *error);

/* These pages have come, from wherever: the store's are not needed any more. Of them, those of cl_precopied_store(). */
uint64_t cl_precopied_drop(struct cl_engine *engine, const struct cl_image *image, uint64_t index, uint64_t nr_pages);

#endif
