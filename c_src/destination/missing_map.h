/* SPDX-License-Identifier: Apache-2.0 */
/*
 * missing_map: where in memory pages are missing, for a progress display: CL_MAP_SLICES slices of as many pages each, of all
 * images one after the other, by address at the dump. Pure data; it costs the same however large memory is.
 */
#ifndef CL_MISSING_MAP_H
#define CL_MISSING_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "images/image.h"

/*
 * How much of each slice the restored tasks miss: 0 nothing, 255 all. (Of forked children nothing is said.) Of a slice of
 * many pages some are looked at, evenly spread. `restored`: a task without an address space has ended.
 */
void cl_missing_map(const struct cl_image *images, bool restored, uint8_t map[CL_MAP_SLICES]);

/* Count pages [from, to) of `image`, of whose list all have `total`, by slice. */
void cl_map_count(uint64_t total, const struct cl_image *image, uint64_t from, uint64_t to, uint64_t map[CL_MAP_SLICES]);

#endif
