/* SPDX-License-Identifier: Apache-2.0 */
/* page: the one page size that there is here. cl_engine_new() refuses a kernel with another. */
#ifndef CL_PAGE_H
#define CL_PAGE_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

enum { CL_PAGE_SIZE = 4096 };

/*
 * Room for so many pages, which begins where a page does; to be freed. NULL: no memory. Where pages are copied to matters:
 * the kernel's copy to a place 1 to 31 bytes further in its page than the source is in its own takes an AMD processor three
 * times as long as any other (2.2 instead of 7 GB/s). malloc() gives 16.
 */
static inline uint8_t *cl_pages_alloc(size_t nr_pages)
{
	return aligned_alloc(CL_PAGE_SIZE, nr_pages * CL_PAGE_SIZE);
}

#endif
