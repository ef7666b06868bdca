/* SPDX-License-Identifier: Apache-2.0 */
#include "images/pages_local.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/page.h"
#include "base/vec.h"
#include "images/pagemap.h"

/* One pagemap of the chain, with where its present pages begin in its pages image. */
struct layer {
	struct cl_pagemap_entry *entries;
	uint64_t *offsets; /* bytes in the pages image, of entries that are PRESENT */
	size_t nr;
	uint32_t pages_id;
};

struct loader {
	const struct cl_image_files *files;
	int dirfds[CL_MAX_LAYERS]; /* [0] borrowed */
	struct layer layers[CL_MAX_LAYERS];
	int nr_layers; /* loaded */
	struct cl_image *image;
	struct cl_pages_local *pages;
	struct cl_error *error;
};

/* Name the pagemap image that the error is about. Returns its code. */
static int name_image(struct loader *loader, int layer)
{
	static const char *const of[] = { "", " of the parent images" };

	return cl_error_prefix(loader->error, "pagemap-%d.img%s: ", loader->files->pid, of[layer > 0]);
}

static int say(struct loader *loader, int error, int layer, const char *what)
{
	(void)cl_error_set(loader->error, error, "%s", what);
	return name_image(loader, layer);
}

/* What image.h's functions return. */
static int of_image(struct loader *loader, int ret)
{
	return ret < 0 ? say(loader, ret, 0, strerror(-ret)) : 0;
}

/* Present entries whose LAZY flag is not set have pages in the file too, hence offsets for every entry. */
static int load_layer(struct loader *loader, int depth)
{
	struct layer *layer = &loader->layers[depth];
	struct cl_pagemap_entry entry;
	struct cl_pagemap pagemap;
	uint64_t offset = 0;
	size_t max_entries = 0, max_offsets = 0;
	int ret;

	ret = cl_pagemap_open(&pagemap, loader->dirfds[depth], loader->files->pid, loader->error);
	if (ret < 0)
		return name_image(loader, depth);
	layer->pages_id = pagemap.pages_id;
	while ((ret = cl_pagemap_next(&pagemap, &entry, loader->error)) > 0) {
		/* The file bounds it. */
		if (cl_vec_reserve(&layer->entries, &max_entries, layer->nr + 1, CL_VEC_NO_LIMIT) < 0 ||
		    cl_vec_reserve(&layer->offsets, &max_offsets, layer->nr + 1, CL_VEC_NO_LIMIT) < 0) {
			ret = cl_error_set(loader->error, -ENOMEM, "%s", strerror(ENOMEM));
			break;
		}
		layer->entries[layer->nr] = entry;
		layer->offsets[layer->nr++] = offset;
		if (entry.flags & CL_PE_PRESENT)
			offset += entry.nr_pages * CL_PAGE_SIZE;
	}
	if (depth == 0)
		loader->pages->wire_version = pagemap.wire_version;
	cl_pagemap_close(&pagemap);
	return ret < 0 ? name_image(loader, depth) : 0;
}

static int need_layer(struct loader *loader, int depth)
{
	int fd;

	if (depth < loader->nr_layers)
		return 0;
	if (depth == CL_MAX_LAYERS)
		return say(loader, -EBADMSG, depth, "more than 64 parents in a chain");
	fd = openat(loader->dirfds[depth - 1], "parent", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return say(loader, -errno, depth - 1, "pages are in the parent images, and there is no 'parent' link");
	loader->dirfds[depth] = fd;
	loader->nr_layers = depth + 1;
	return load_layer(loader, depth);
}

static int open_pages(struct loader *loader, int depth)
{
	struct cl_pages_file *file = &loader->pages->files[depth];
	struct stat status;
	char name[32];
	void *map;

	if (file->fd >= 0)
		return 0;
	snprintf(name, sizeof(name), "pages-%u.img", loader->layers[depth].pages_id);
	file->fd = openat(loader->dirfds[depth], name, (loader->files->punch ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	if (file->fd < 0 || fstat(file->fd, &status) < 0)
		return cl_error_set(loader->error, -errno, "%s: %s", name, strerror(errno));
	file->size = (uint64_t)status.st_size;
	if (!file->size)
		return 0;
	map = mmap(NULL, file->size, PROT_READ, MAP_SHARED, file->fd, 0);
	if (map == MAP_FAILED)
		return cl_error_set(loader->error, -errno, "%s: mmap: %s", name, strerror(errno));
	file->map = map;
	return 0;
}

static int add_local(struct loader *loader, int depth, size_t at, uint64_t vaddr, uint64_t nr_pages)
{
	const struct layer *layer = &loader->layers[depth];
	struct cl_local local = { .layer = (uint32_t)depth };
	int ret = open_pages(loader, depth);

	if (ret < 0)
		return ret;
	local.offset = layer->offsets[at] + (vaddr - layer->entries[at].vaddr);
	/* Checked here once, so that the copies never read past the file. */
	if (local.offset + nr_pages * CL_PAGE_SIZE > loader->pages->files[depth].size)
		return cl_error_set(loader->error, -EBADMSG, "pages-%u.img: shorter than pagemap-%d.img says",
				    layer->pages_id, loader->files->pid);
	return of_image(loader, cl_image_append(loader->image, vaddr, nr_pages, &local));
}

/* Pages at vaddr are PARENT in layer depth - 1: find them in layer `depth` or further up. */
static int add_from_parent(struct loader *loader, int depth, uint64_t vaddr, uint64_t nr_pages)
{
	int ret = need_layer(loader, depth);

	while (ret == 0 && nr_pages) {
		const struct layer *layer = &loader->layers[depth];
		const struct cl_pagemap_entry *entry;
		size_t low = 0, high = layer->nr;
		uint64_t part;

		while (low < high) {
			size_t middle = low + (high - low) / 2;

			entry = &layer->entries[middle];
			if (entry->vaddr + entry->nr_pages * CL_PAGE_SIZE <= vaddr)
				low = middle + 1;
			else
				high = middle;
		}
		if (low == layer->nr || layer->entries[low].vaddr > vaddr)
			return say(loader, -EBADMSG, depth, "lacks pages that the images after it leave to it");
		entry = &layer->entries[low];
		part = entry->nr_pages - (vaddr - entry->vaddr) / CL_PAGE_SIZE;
		if (part > nr_pages)
			part = nr_pages;
		if (entry->flags & CL_PE_PRESENT)
			ret = add_local(loader, depth, low, vaddr, part);
		else if (entry->flags & CL_PE_PARENT)
			ret = add_from_parent(loader, depth + 1, vaddr, part);
		else
			return say(loader, -EBADMSG, depth, "lacks pages that the images after it leave to it");
		vaddr += part * CL_PAGE_SIZE;
		nr_pages -= part;
	}
	return ret;
}

static int load_entries(struct loader *loader)
{
	const struct layer *layer = &loader->layers[0];
	size_t i;
	int ret = 0;

	for (i = 0; i < layer->nr && ret == 0; i++) {
		const struct cl_pagemap_entry *entry = &layer->entries[i];

		if (!(entry->flags & CL_PE_LAZY))
			continue;
		if (entry->flags & CL_PE_PRESENT)
			ret = add_local(loader, 0, i, entry->vaddr, entry->nr_pages);
		else if (entry->flags & CL_PE_PARENT)
			ret = add_from_parent(loader, 1, entry->vaddr, entry->nr_pages);
		else
			ret = of_image(loader, cl_image_append(loader->image, entry->vaddr, entry->nr_pages, NULL));
	}
	return ret;
}

/* 0 or error->code; loader->image and loader->pages are to be given up then. */
static int load(struct loader *loader)
{
	int ret;

	loader->image = cl_image_new(loader->files->pid, loader->files->vmas, loader->files->nr_vmas);
	if (!loader->image)
		return of_image(loader, -ENOMEM);
	ret = load_layer(loader, 0);
	if (ret == 0)
		ret = load_entries(loader);
	if (ret < 0)
		return ret;
	return of_image(loader, cl_image_seal(loader->image, loader->files->todo_chunks));
}

int cl_image_load(const struct cl_image_files *files, struct cl_image **image, struct cl_pages_local *pages,
		  struct cl_error *error)
{
	CL_CLEANUP_FREE struct loader *loader = calloc(1, sizeof(*loader));
	int ret, i;

	if (!loader)
		return cl_error_set(error, -ENOMEM, "pagemap-%d.img: %s", files->pid, strerror(ENOMEM));
	memset(pages, 0, sizeof(*pages));
	for (i = 0; i < CL_MAX_LAYERS; i++)
		pages->files[i].fd = -1;
	*loader = (struct loader){ .files = files, .pages = pages, .error = error, .nr_layers = 1 };
	loader->dirfds[0] = files->images_fd;
	ret = load(loader);
	for (i = 0; i < loader->nr_layers; i++) {
		free(loader->layers[i].entries);
		free(loader->layers[i].offsets);
		if (i > 0)
			close(loader->dirfds[i]);
	}
	if (ret == 0) {
		*image = loader->image;
	} else {
		cl_image_free(loader->image);
		cl_pages_local_close(pages);
	}
	return ret;
}

void cl_pages_local_close(struct cl_pages_local *pages)
{
	int i;

	for (i = 0; i < CL_MAX_LAYERS; i++) {
		struct cl_pages_file *file = &pages->files[i];

		if (file->map)
			munmap((void *)(uintptr_t)file->map, file->size);
		if (file->fd >= 0)
			close(file->fd);
		*file = (struct cl_pages_file){ .fd = -1 };
	}
}

static uint64_t offset_of(const struct cl_image *image, uint64_t index, uint32_t *layer)
{
	const struct cl_extent *extent = cl_image_extent(image, index);
	const struct cl_local *local = &image->locals[extent->local - 1];

	*layer = local->layer;
	return local->offset + (index - extent->first) * CL_PAGE_SIZE;
}

const uint8_t *cl_pages_local_at(const struct cl_pages_local *pages, const struct cl_image *image, uint64_t index)
{
	uint32_t layer;
	uint64_t offset = offset_of(image, index, &layer);

	return pages->files[layer].map + offset;
}

int cl_pages_local_punch(const struct cl_pages_local *pages, const struct cl_image *image, uint64_t index, uint64_t nr_pages)
{
	uint32_t layer;
	uint64_t offset = offset_of(image, index, &layer);

	if (fallocate(pages->files[layer].fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
		      (off_t)(nr_pages * CL_PAGE_SIZE)) < 0)
		return -errno;
	return 0;
}
