/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image: an *image* (struct cl_image) is one dumped task's lazy pages, as its pagemap lists them: a sorted table of
 * extents, in which every page has an index 0..nr_pages-1 by ascending address. The image knows which pages
 * are still `todo`: neither asked for nor needless. A page is fetched once, whatever the number of address
 * spaces that miss it.
 *
 * Pure data: no system call, no lock of its own.
 */
#ifndef CL_IMAGE_H
#define CL_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/shared_bits.h"
#include "criu_lazy.h"

struct cl_pages_local;
struct cl_space;

/*
 * Where a page is to be had: at the page server; in the images; in the store of pages that came before the dump, as the page
 * server has said that it is unchanged.
 */
enum cl_source { CL_REMOTE, CL_LOCAL, CL_STORED, CL_SOURCES };

/* A pagemap entry's pages, at most CL_EXTENT_MAX_PAGES; requests never cross an extent's end. */
struct cl_extent {
	uint64_t vaddr; /* at the dump */
	uint32_t first; /* index of its first page in the image */
	uint32_t local; /* 0: at the page server; else 1 + index of its place in cl_image.locals */
};

/* Where a local extent's pages are: byte offset in the pages image of layer `layer` (0 the images directory
 * itself, 1 its parent, ...). */
struct cl_local {
	uint64_t offset;
	uint32_t layer;
};

struct cl_image {
	int32_t pid;               /* in the dumpee's pid namespace: the page server's dst_id */
	struct cl_extent *extents; /* nr_extents of them, and a sentinel whose `first` is nr_pages */
	size_t nr_extents, max_extents;
	struct cl_local *locals;
	size_t nr_locals, max_locals;
	uint64_t nr_pages;
	uint64_t before;    /* pages of the images before it in the list */
	uint64_t nr_mapped; /* of its pages, those in a VMA */
	/* By enum cl_source: which pages are to be had there and still todo, and where background transfer
	 * goes on (page index). */
	struct cl_shared_bits todo[CL_SOURCES];
	uint64_t nr_todo[CL_SOURCES];
	uint64_t background[CL_SOURCES];
	uint64_t unchecked_from, unchecked_to; /* of these, some may be todo that no space misses: cl_image_check_todo() */
	struct cl_vma *vmas;
	size_t nr_vmas;
	uint64_t fingerprint;         /* of the extents: tells other images of the same pid apart */
	struct cl_pages_local *pages; /* where local pages are; the engine's */
	struct cl_chunk_pool *chunks; /* where its spaces' bitmaps lie; the engine's. Set before there are any */
	struct cl_space *spaces;      /* oldest first; appended to, and rid of retired ones, by one thread */
	struct cl_image *next;
};

#define CL_EXTENT_MAX_PAGES (1U << 18)
#define CL_NO_PAGE UINT64_MAX

/*
 * Build an image from extents appended in ascending order; todo_chunks: of what is todo, kept until the image is freed. 0,
 * -ENOMEM, or -EFBIG: 2^32 pages and more.
 */
struct cl_image *cl_image_new(int32_t pid, const struct cl_vma *vmas, size_t nr_vmas);
int cl_image_append(struct cl_image *image, uint64_t vaddr, uint64_t nr_pages, const struct cl_local *local);
int cl_image_seal(struct cl_image *image, struct cl_chunk_pool *todo_chunks);

/* Free it; it has no spaces any more (cl_image_free_spaces). */
void cl_image_free(struct cl_image *image);

/* The extent that holds page `index`; index < nr_pages. */
const struct cl_extent *cl_image_extent(const struct cl_image *image, uint64_t index);

/* The first page at or above dump address vaddr; nr_pages if there is none. */
uint64_t cl_image_index_from(const struct cl_image *image, uint64_t vaddr);

/* Page index of dump address vaddr, or CL_NO_PAGE. */
uint64_t cl_image_index(const struct cl_image *image, uint64_t vaddr);

/* Dump address of page `index`. */
uint64_t cl_image_vaddr(const struct cl_image *image, uint64_t index);

/* The image of task `pid` in a list; NULL if there is none. */
struct cl_image *cl_image_find(struct cl_image *images, uint64_t pid);

/* Whether all of these pages, by dump address, are the page server's. */
bool cl_image_has_remote(const struct cl_image *image, uint64_t vaddr, uint64_t nr_pages);

static inline enum cl_source cl_extent_source(const struct cl_extent *extent)
{
	return extent->local ? CL_LOCAL : CL_REMOTE;
}

/* Where page `index` is to be had now. */
static inline enum cl_source cl_image_source(const struct cl_image *image, uint64_t index)
{
	return cl_shared_bits_get(&image->todo[CL_STORED], index) ? CL_STORED :
								    cl_extent_source(cl_image_extent(image, index));
}

/* Whether a page is todo; and that these of one source are from now on, or are not. */
static inline bool cl_image_is_todo(const struct cl_image *image, enum cl_source source, uint64_t index)
{
	return cl_shared_bits_get(&image->todo[source], index);
}

void cl_image_set_todo(struct cl_image *image, enum cl_source source, uint64_t from, uint64_t to, bool todo);

/* Pages [from, to), all remote, are todo in the store from now on, and not at the page server any more; or the other way. */
void cl_image_set_stored(struct cl_image *image, uint64_t from, uint64_t to, bool stored);

/*
 * Take pages off the todo list: the first run at or after `from` (wrapping to 0 if `wrap`) of at most
 * max_pages within one extent. Returns their number, 0 if there is none; *index is the first.
 */
uint64_t cl_image_take(struct cl_image *image, enum cl_source source, uint64_t from, bool wrap, uint64_t max_pages,
		       uint64_t *index);

#endif
