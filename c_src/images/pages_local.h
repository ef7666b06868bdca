/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pages_local: a task's images on disk: builds the table of its lazy pages from pagemap-PID.img, and gives access
 * to the pages that lie in local files: its own pages-N.img, or a parent's (the `parent` link of an images
 * directory leads to the pre-dump before it), mapped, never copied.
 *
 * Which pagemap entries are lazy and where their pages are, by flags:
 *   LAZY            at the page server
 *   LAZY|PRESENT    in this directory's pages image
 *   LAZY|PARENT     in the parent directory's pages image, or in that of its parent, and so on
 * Entries without LAZY are criu restore's business.
 *
 * Errors: -EBADMSG for a damaged image, or what the system said; the text says which image, and why.
 */
#ifndef CL_PAGES_LOCAL_H
#define CL_PAGES_LOCAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "images/image.h"

#define CL_MAX_LAYERS 64 /* pre-dumps before the dump */

struct cl_pages_file {
	int fd; /* -1: not open */
	const uint8_t *map;
	uint64_t size;
};

/* Which task's images. */
struct cl_image_files {
	int images_fd; /* the directory; borrowed */
	int32_t pid;
	const struct cl_vma *vmas; /* copied; sorted, they don't overlap */
	size_t nr_vmas;
	bool punch;                        /* the files will be punched: open them for writing */
	struct cl_chunk_pool *todo_chunks; /* cl_image_seal()'s */
};

struct cl_pages_local {
	struct cl_pages_file files[CL_MAX_LAYERS];
	int wire_version; /* as the task's own pagemap tells; 0 if it is empty */
};

/*
 * A task's lazy pages. *image is sealed; `pages` is closed by cl_pages_local_close(). 0 or error->code: then neither is
 * there.
 */
int cl_image_load(const struct cl_image_files *files, struct cl_image **image, struct cl_pages_local *pages,
		  struct cl_error *error);

void cl_pages_local_close(struct cl_pages_local *pages);

/* The bytes of page `index`, and of those after it in its extent. The extent must be local. */
const uint8_t *cl_pages_local_at(const struct cl_pages_local *pages, const struct cl_image *image, uint64_t index);

/* Pages [index, index + nr_pages) of one local extent are used: give their disk (or tmpfs) space back. 0, -errno. */
int cl_pages_local_punch(const struct cl_pages_local *pages, const struct cl_image *image, uint64_t index,
			 uint64_t nr_pages);

#endif
