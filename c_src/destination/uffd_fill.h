/* SPDX-License-Identifier: Apache-2.0 */
/* uffd_fill: installing pages that arrived, through the gate (engine.h). */
#ifndef CL_UFFD_FILL_H
#define CL_UFFD_FILL_H

#include <stdint.h>

struct cl_engine;
struct cl_image;
struct cl_space;

/*
 * Pages [index, index + nr_pages) of one extent are at data: install them in every space that misses them. Lock held;
 * dropped while copying.
 */
void cl_engine_fill(struct cl_engine *engine, struct cl_image *image, uint64_t index, uint64_t nr_pages,
		    const uint8_t *data);

/* There is no memory for the space's pages: its first such moment is told of. Lock held. */
void cl_engine_no_memory(struct cl_engine *engine, struct cl_space *space);

#endif
