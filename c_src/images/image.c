/* SPDX-License-Identifier: Apache-2.0 */
#include "images/image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/page.h"
#include "base/vec.h"

struct cl_image *cl_image_new(int32_t pid, const struct cl_vma *vmas, size_t nr_vmas)
{
	struct cl_image *image = calloc(1, sizeof(*image));

	if (!image)
		return NULL;
	image->pid = pid;
	image->nr_vmas = nr_vmas;
	image->vmas = calloc(nr_vmas ? nr_vmas : 1, sizeof(*vmas));
	if (!image->vmas) {
		free(image);
		return NULL;
	}
	if (nr_vmas)
		memcpy(image->vmas, vmas, nr_vmas * sizeof(*vmas));
	return image;
}

int cl_image_append(struct cl_image *image, uint64_t vaddr, uint64_t nr_pages, const struct cl_local *local)
{
	struct cl_local place = local ? *local : (struct cl_local){ 0 };

	while (nr_pages) {
		uint64_t part = nr_pages < CL_EXTENT_MAX_PAGES ? nr_pages : CL_EXTENT_MAX_PAGES;
		struct cl_extent extent = { .vaddr = vaddr, .first = (uint32_t)image->nr_pages };

		if (image->nr_pages + part >= UINT32_MAX)
			return -EFBIG;
		if (local) {
			if (cl_vec_reserve(&image->locals, &image->max_locals, image->nr_locals + 1, UINT32_MAX) < 0)
				return -ENOMEM;
			image->locals[image->nr_locals++] = place;
			extent.local = (uint32_t)image->nr_locals;
		}
		if (cl_vec_reserve(&image->extents, &image->max_extents, image->nr_extents + 1, UINT32_MAX) < 0)
			return -ENOMEM;
		image->extents[image->nr_extents++] = extent;
		image->nr_pages += part;
		vaddr += part * CL_PAGE_SIZE;
		place.offset += part * CL_PAGE_SIZE;
		nr_pages -= part;
	}
	return 0;
}

int cl_image_seal(struct cl_image *image, struct cl_chunk_pool *todo_chunks)
{
	struct cl_extent sentinel = { .vaddr = UINT64_MAX, .first = (uint32_t)image->nr_pages };
	struct cl_extent *fitted;
	int source;
	size_t i;

	if (cl_vec_reserve(&image->extents, &image->max_extents, image->nr_extents + 1, CL_VEC_NO_LIMIT) < 0)
		return -ENOMEM;
	image->extents[image->nr_extents] = sentinel;
	/* The table is never appended to again: give back what doubling left over. */
	fitted = reallocarray(image->extents, image->nr_extents + 1, sizeof(*fitted));
	if (fitted)
		image->extents = fitted;
	for (source = 0; source < CL_SOURCES; source++)
		if (cl_shared_bits_new(&image->todo[source], todo_chunks, image->nr_pages, false) < 0)
			return -ENOMEM;
	for (i = 0; i < image->nr_vmas; i++)
		image->nr_mapped += cl_image_index_from(image, image->vmas[i].end) -
				    cl_image_index_from(image, image->vmas[i].start);
	image->fingerprint = (uint64_t)image->pid;
	for (i = 0; i < image->nr_extents; i++) {
		const struct cl_extent *extent = &image->extents[i];

		image->fingerprint = (image->fingerprint ^ extent->vaddr ^ extent->first) * 0x100000001b3ULL;
		cl_image_set_todo(image, cl_extent_source(extent), extent[0].first, extent[1].first, true);
	}
	return 0;
}

void cl_image_free(struct cl_image *image)
{
	int source;

	if (!image)
		return;
	free(image->extents);
	free(image->locals);
	for (source = 0; source < CL_SOURCES; source++)
		cl_shared_bits_free(&image->todo[source]);
	free(image->vmas);
	free(image);
}

static uint64_t extent_pages(const struct cl_extent *extent)
{
	return extent[1].first - extent->first;
}

const struct cl_extent *cl_image_extent(const struct cl_image *image, uint64_t index)
{
	size_t low = 0, high = image->nr_extents;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (image->extents[middle].first <= index)
			low = middle;
		else
			high = middle;
	}
	return &image->extents[low];
}

/* The first extent that ends above vaddr; the sentinel if there is none. */
static const struct cl_extent *extent_at(const struct cl_image *image, uint64_t vaddr)
{
	size_t low = 0, high = image->nr_extents;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct cl_extent *extent = &image->extents[middle];

		if (extent->vaddr + extent_pages(extent) * CL_PAGE_SIZE <= vaddr)
			low = middle + 1;
		else
			high = middle;
	}
	return &image->extents[low];
}

uint64_t cl_image_index_from(const struct cl_image *image, uint64_t vaddr)
{
	const struct cl_extent *extent = extent_at(image, vaddr);

	return extent->vaddr >= vaddr ? extent->first : extent->first + (vaddr - extent->vaddr) / CL_PAGE_SIZE;
}

uint64_t cl_image_index(const struct cl_image *image, uint64_t vaddr)
{
	const struct cl_extent *extent = extent_at(image, vaddr);

	return extent->vaddr > vaddr ? CL_NO_PAGE : extent->first + (vaddr - extent->vaddr) / CL_PAGE_SIZE;
}

uint64_t cl_image_vaddr(const struct cl_image *image, uint64_t index)
{
	const struct cl_extent *extent = cl_image_extent(image, index);

	return extent->vaddr + (index - extent->first) * CL_PAGE_SIZE;
}

struct cl_image *cl_image_find(struct cl_image *images, uint64_t pid)
{
	while (images && (uint64_t)images->pid != pid)
		images = images->next;
	return images;
}

bool cl_image_has_remote(const struct cl_image *image, uint64_t vaddr, uint64_t nr_pages)
{
	while (nr_pages) {
		uint64_t index = cl_image_index(image, vaddr), pages;
		const struct cl_extent *extent;

		if (index == CL_NO_PAGE)
			return false;
		extent = cl_image_extent(image, index);
		if (cl_extent_source(extent) != CL_REMOTE)
			return false;
		pages = extent[1].first - index;
		if (pages >= nr_pages)
			return true;
		nr_pages -= pages;
		vaddr += pages * CL_PAGE_SIZE;
	}
	return true;
}

void cl_image_set_todo(struct cl_image *image, enum cl_source source, uint64_t from, uint64_t to, bool todo)
{
	uint64_t changed = cl_shared_bits_assign(&image->todo[source], from, to, todo);

	image->nr_todo[source] += todo ? changed : -changed;
}

void cl_image_set_stored(struct cl_image *image, uint64_t from, uint64_t to, bool stored)
{
	cl_image_set_todo(image, stored ? CL_STORED : CL_REMOTE, from, to, true);
	cl_image_set_todo(image, stored ? CL_REMOTE : CL_STORED, from, to, false);
}

uint64_t cl_image_take(struct cl_image *image, enum cl_source source, uint64_t from, bool wrap, uint64_t max_pages,
		       uint64_t *index)
{
	const struct cl_shared_bits *todo = &image->todo[source];
	uint64_t start, end;

	if (!image->nr_todo[source])
		return 0;
	start = cl_shared_bits_find(todo, from, image->nr_pages, true);
	if (start == image->nr_pages && wrap)
		start = cl_shared_bits_find(todo, 0, from, true);
	if (start == image->nr_pages || (wrap && !cl_shared_bits_get(todo, start)))
		return 0;
	end = cl_image_extent(image, start)[1].first;
	if (end - start > max_pages)
		end = start + max_pages;
	end = cl_shared_bits_find(todo, start, end, false);
	cl_image_set_todo(image, source, start, end, false);
	*index = start;
	return end - start;
}
