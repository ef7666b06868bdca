/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/precopy_store.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/io.h"
#include "base/vec.h"
#include "wire/page_protocol.h"

enum {
	CHUNK_BYTES = CL_PRECOPY_STORE_CHUNK_PAGES * CL_PAGE_SIZE,
	CHUNK_WORDS = CL_PRECOPY_STORE_CHUNK_PAGES / 64,
	PUNCH_PAGES = 16, /* at once; fewer wait for others of their chunk */
	PUNCH_WAITING = 64,
};

static const char pages_name[] = "pages", index_name[] = "index";

struct chunk {
	uint64_t id, address; /* sorted by these */
	uint64_t number;      /* its place in the file */
	uint64_t held[CHUNK_WORDS];
};

/* What the index begins with; the chunks follow as they are in memory: it never leaves the host. */
struct index_head {
	char magic[8];
	uint8_t token[CL_PUSH_TOKEN_BYTES];
	uint64_t nr_chunks;
};

static const char magic[8] = "CLSTORE1";

/* Of a chunk since the store was taken: a bit for each page. */
struct since {
	uint64_t waiting[CHUNK_WORDS]; /* dropped, and their blocks not given back yet */
	uint64_t gone[CHUNK_WORDS];    /* dropped: the blocks may be taken at any moment */
	uint64_t late[CHUNK_WORDS];    /* written */
};

struct cl_precopy_store {
	pthread_mutex_t lock;
	int fd;
	bool in_memory; /* its file is: only then is it worth giving back page by page */
	uint8_t token[CL_PUSH_TOKEN_BYTES];
	struct chunk *chunks;
	size_t nr, max;
	struct since *since; /* by the chunks' numbers; NULL: it isn't taken yet */
	size_t last;         /* found */
};

static struct cl_precopy_store *new_store(int fd)
{
	struct cl_precopy_store *store = calloc(1, sizeof(*store));
	struct statfs status;

	if (!store) {
		close(fd);
		return NULL;
	}
	store->fd = fd;
	store->in_memory = fstatfs(fd, &status) == 0 && status.f_type == TMPFS_MAGIC;
	pthread_mutex_init(&store->lock, NULL);
	return store;
}

void cl_precopy_store_free(struct cl_precopy_store *store)
{
	if (!store)
		return;
	close(store->fd);
	pthread_mutex_destroy(&store->lock);
	free(store->chunks);
	free(store->since);
	free(store);
}

const uint8_t *cl_precopy_store_token(const struct cl_precopy_store *store)
{
	return store->token;
}

/* ---- chunks ---- */

static int compare(const struct chunk *chunk, uint64_t id, uint64_t address)
{
	if (chunk->id != id)
		return chunk->id < id ? -1 : 1;
	return chunk->address < address ? -1 : chunk->address > address;
}

/* Where the chunk is, or belongs. Lock held. */
static size_t place_of(struct cl_precopy_store *store, uint64_t id, uint64_t address)
{
	size_t from = 0, to = store->nr;

	if (store->last < store->nr && !compare(&store->chunks[store->last], id, address))
		return store->last;
	while (from < to) {
		size_t middle = from + (to - from) / 2;

		if (compare(&store->chunks[middle], id, address) < 0)
			from = middle + 1;
		else
			to = middle;
	}
	store->last = from;
	return from;
}

/* Lock held. */
static struct chunk *find(struct cl_precopy_store *store, uint64_t id, uint64_t address)
{
	size_t at = place_of(store, id, address);

	return at < store->nr && !compare(&store->chunks[at], id, address) ? &store->chunks[at] : NULL;
}

/* Lock held. */
static int add(struct cl_precopy_store *store, uint64_t id, uint64_t address, struct chunk **out)
{
	size_t at = place_of(store, id, address);

	if (store->nr == CL_PRECOPY_STORE_CHUNKS)
		return -ENOSPC;
	if (cl_vec_reserve(&store->chunks, &store->max, store->nr + 1, CL_PRECOPY_STORE_CHUNKS) < 0)
		return -ENOMEM;
	memmove(&store->chunks[at + 1], &store->chunks[at], (store->nr - at) * sizeof(*store->chunks));
	store->chunks[at] = (struct chunk){ .id = id, .address = address, .number = store->nr };
	store->nr++;
	*out = &store->chunks[at];
	return 0;
}

/* Of a range its part in the chunk at *address: pages [*from, *from + pages) of it; how many they are. */
static uint64_t part_of(uint64_t vaddr, uint64_t nr_pages, uint64_t *address, uint64_t *from)
{
	uint64_t pages;

	*from = vaddr / CL_PAGE_SIZE % CL_PRECOPY_STORE_CHUNK_PAGES;
	*address = vaddr - *from * CL_PAGE_SIZE;
	pages = CL_PRECOPY_STORE_CHUNK_PAGES - *from;
	return pages < nr_pages ? pages : nr_pages;
}

static off_t offset_of(uint64_t number, uint64_t page)
{
	return (off_t)(number * CHUNK_BYTES + page * CL_PAGE_SIZE);
}

static bool any(const uint64_t *bits, uint64_t from, uint64_t pages)
{
	return cl_bits_find(bits, from, from + pages, true) < from + pages;
}

static int punch(const struct cl_precopy_store *store, uint64_t number, uint64_t from, uint64_t nr_pages)
{
	int ret;

	do
		ret = fallocate(store->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset_of(number, from),
				(off_t)(nr_pages * CL_PAGE_SIZE));
	while (ret < 0 && errno == EINTR);
	return ret < 0 ? -errno : 0;
}

/* ---- writing ---- */

int cl_precopy_store_create(int directory_fd, struct cl_precopy_store **out)
{
	int fd = openat(directory_fd, pages_name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return -errno;
	*out = new_store(fd);
	return *out ? 0 : -ENOMEM;
}

/* Where these pages of a chunk are to be written; is_hole: nothing was there yet. Or -errno. */
static int64_t place_for(struct cl_precopy_store *store, uint64_t id, uint64_t address, uint64_t from, uint64_t pages,
			 bool *is_hole)
{
	struct chunk *chunk;
	int64_t ret = 0;

	pthread_mutex_lock(&store->lock);
	chunk = find(store, id, address);
	if (!chunk)
		ret = store->since ? -ESTALE : add(store, id, address, &chunk);
	if (ret == 0)
		ret = store->since && any(store->since[chunk->number].gone, from, pages) ? -ESTALE : (int64_t)chunk->number;
	/* Later a page that isn't held may have been written by half. */
	*is_hole = ret >= 0 && !store->since && !any(chunk->held, from, pages);
	pthread_mutex_unlock(&store->lock);
	return ret;
}

/* These pages of a chunk are written. 0, or -ESTALE: they were dropped meanwhile. */
static int hold(struct cl_precopy_store *store, uint64_t id, uint64_t address, uint64_t from, uint64_t pages)
{
	struct since *since;
	struct chunk *chunk;
	int ret = 0;

	pthread_mutex_lock(&store->lock);
	chunk = find(store, id, address);
	since = store->since ? &store->since[chunk->number] : NULL;
	if (since && any(since->gone, from, pages))
		ret = -ESTALE;
	else
		cl_bits_assign(chunk->held, from, from + pages, true);
	if (since && ret == 0)
		cl_bits_assign(since->late, from, from + pages, true);
	pthread_mutex_unlock(&store->lock);
	return ret;
}

int cl_precopy_store_write(struct cl_precopy_store *store, uint64_t id, uint64_t vaddr, uint64_t nr_pages,
			   const uint8_t *data)
{
	while (nr_pages) {
		uint64_t address, from, pages = part_of(vaddr, nr_pages, &address, &from);
		bool is_hole;
		int64_t number = place_for(store, id, address, from, pages, &is_hole);
		int ret = number < 0 ? (int)number : 0;

		if (ret == 0 && data)
			ret = cl_pwrite_all(store->fd, data, pages * CL_PAGE_SIZE, offset_of((uint64_t)number, from));
		else if (ret == 0 && !is_hole)
			ret = punch(store, (uint64_t)number, from, pages);
		if (ret == 0)
			ret = hold(store, id, address, from, pages);
		if (ret < 0)
			return ret;
		vaddr += pages * CL_PAGE_SIZE;
		nr_pages -= pages;
		if (data)
			data += pages * CL_PAGE_SIZE;
	}
	return 0;
}

int cl_precopy_store_finish(struct cl_precopy_store *store, int directory_fd, const uint8_t token[CL_PUSH_TOKEN_BYTES])
{
	struct index_head head = { .nr_chunks = store->nr };
	int fd, ret;

	memcpy(head.magic, magic, sizeof(magic));
	memcpy(head.token, token, sizeof(head.token));
	/* So that the last chunk's holes are within the file. */
	if (ftruncate(store->fd, offset_of(store->nr, 0)) < 0)
		return -errno;
	fd = openat(directory_fd, index_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	ret = cl_pwrite_all(fd, &head, sizeof(head), 0);
	if (ret == 0)
		ret = cl_pwrite_all(fd, store->chunks, store->nr * sizeof(*store->chunks), sizeof(head));
	if (close(fd) < 0 && ret == 0)
		ret = -errno;
	return ret;
}

/* ---- reading ---- */

/* Sorted, aligned, each with a place of its own in the file. */
static bool is_sound(const struct cl_precopy_store *store, uint64_t *taken)
{
	size_t i;

	for (i = 0; i < store->nr; i++) {
		const struct chunk *chunk = &store->chunks[i];

		if (chunk->address % CHUNK_BYTES || chunk->number >= store->nr || cl_bit_get(taken, chunk->number) ||
		    (i && compare(chunk - 1, chunk->id, chunk->address) >= 0))
			return false;
		cl_bits_assign(taken, chunk->number, chunk->number + 1, true);
	}
	return true;
}

static int read_index(struct cl_precopy_store *store, int fd)
{
	struct index_head head;
	struct stat index, pages;
	uint64_t *taken;
	int ret;

	if (fstat(fd, &index) < 0 || fstat(store->fd, &pages) < 0)
		return -errno;
	ret = cl_pread_all(fd, &head, sizeof(head), 0);
	if (ret < 0)
		return ret;
	if (memcmp(head.magic, magic, sizeof(magic)) != 0 || head.nr_chunks > CL_PRECOPY_STORE_CHUNKS ||
	    (uint64_t)index.st_size != sizeof(head) + head.nr_chunks * sizeof(struct chunk) ||
	    pages.st_size != offset_of(head.nr_chunks, 0))
		return -EBADMSG;
	memcpy(store->token, head.token, sizeof(store->token));
	store->nr = store->max = head.nr_chunks;
	store->chunks = calloc(store->nr + 1, sizeof(*store->chunks));
	store->since = calloc(store->nr + 1, sizeof(*store->since));
	taken = calloc(cl_bits_words(store->nr) + 1, sizeof(*taken));
	if (!store->chunks || !store->since || !taken)
		ret = -ENOMEM;
	else
		ret = cl_pread_all(fd, store->chunks, store->nr * sizeof(*store->chunks), sizeof(head));
	if (ret == 0 && !is_sound(store, taken))
		ret = -EBADMSG;
	free(taken);
	return ret;
}

/* 0 or -errno. */
static int take(int directory_fd, struct cl_precopy_store **out)
{
	int pages_fd = openat(directory_fd, pages_name, O_RDWR | O_CLOEXEC | O_NOFOLLOW), index_fd, ret;
	struct cl_precopy_store *store;

	if (pages_fd < 0)
		return -errno;
	store = new_store(pages_fd);
	if (!store)
		return -ENOMEM;
	index_fd = openat(directory_fd, index_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ret = index_fd < 0 ? -errno : read_index(store, index_fd);
	if (index_fd >= 0)
		close(index_fd);
	(void)unlinkat(directory_fd, pages_name, 0);
	(void)unlinkat(directory_fd, index_name, 0);
	if (ret < 0) {
		cl_precopy_store_free(store);
		return ret;
	}
	*out = store;
	return 0;
}

int cl_precopy_store_take(int directory_fd, struct cl_precopy_store **out, struct cl_error *error)
{
	int ret = take(directory_fd, out);

	return ret < 0 ? cl_error_set(error, ret, "%s", ret == -EBADMSG ? "their index is damaged" : strerror(-ret)) : 0;
}

/* The chunk's number, if all of this part of it is held; -ENODATA. */
static int64_t held_number(struct cl_precopy_store *store, uint64_t id, uint64_t address, uint64_t from, uint64_t pages)
{
	const struct chunk *chunk;
	int64_t number = -ENODATA;

	pthread_mutex_lock(&store->lock);
	chunk = find(store, id, address);
	if (chunk && cl_bits_find(chunk->held, from, from + pages, false) == from + pages)
		number = (int64_t)chunk->number;
	pthread_mutex_unlock(&store->lock);
	return number;
}

int cl_precopy_store_read(struct cl_precopy_store *store, uint64_t id, uint64_t vaddr, uint64_t nr_pages, uint8_t *out)
{
	while (nr_pages) {
		uint64_t address, from, pages = part_of(vaddr, nr_pages, &address, &from);
		int64_t number = held_number(store, id, address, from, pages);
		int ret;

		if (number < 0)
			return (int)number;
		ret = cl_pread_all(store->fd, out, pages * CL_PAGE_SIZE, offset_of((uint64_t)number, from));
		if (ret < 0)
			return ret;
		/* What another thread has dropped meanwhile may have been read as zeroes. */
		if (held_number(store, id, address, from, pages) < 0)
			return -ENODATA;
		out += pages * CL_PAGE_SIZE;
		vaddr += pages * CL_PAGE_SIZE;
		nr_pages -= pages;
	}
	return 0;
}

/* The next run of dropped pages, forgotten as such; false: there is none. */
static bool next_dropped(uint64_t *dropped, uint64_t *from, uint64_t *to)
{
	*from = cl_bits_find(dropped, 0, CL_PRECOPY_STORE_CHUNK_PAGES, true);
	*to = cl_bits_find(dropped, *from, CL_PRECOPY_STORE_CHUNK_PAGES, false);
	cl_bits_assign(dropped, *from, *to, false);
	return *from < CL_PRECOPY_STORE_CHUNK_PAGES;
}

/* Pages [from, to) of this chunk are gone. How many were held; *late: of these, those that came late. Lock held. */
static uint64_t forget(struct chunk *chunk, struct since *since, uint64_t from, uint64_t to, uint64_t *late)
{
	*late = cl_bits_assign(since->late, from, to, false);
	cl_bits_assign(since->gone, from, to, true);
	return cl_bits_assign(chunk->held, from, to, false);
}

/* Give back the pages of one chunk: at once if it is worth a system call, else with others. How many came late. */
static uint64_t drop_part(struct cl_precopy_store *store, uint64_t id, uint64_t address, uint64_t from, uint64_t pages)
{
	uint64_t giving[CHUNK_WORDS] = { 0 }, number, first, end, waiting = 0, late = 0;
	struct since *since;
	struct chunk *chunk;
	size_t i;

	pthread_mutex_lock(&store->lock);
	chunk = find(store, id, address);
	since = chunk ? &store->since[chunk->number] : NULL;
	if (!chunk || !forget(chunk, since, from, from + pages, &late) || !store->in_memory) {
		pthread_mutex_unlock(&store->lock);
		return late;
	}
	number = chunk->number;
	cl_bits_assign(since->waiting, from, from + pages, true);
	for (i = 0; i < CHUNK_WORDS; i++)
		waiting += (uint64_t)__builtin_popcountll(since->waiting[i]);
	if (pages >= PUNCH_PAGES || waiting >= PUNCH_WAITING || !any(chunk->held, 0, CL_PRECOPY_STORE_CHUNK_PAGES)) {
		memcpy(giving, since->waiting, sizeof(giving));
		memset(since->waiting, 0, sizeof(giving));
	}
	pthread_mutex_unlock(&store->lock);
	/* A file system that can't: the blocks stay until the end. */
	while (next_dropped(giving, &first, &end))
		(void)punch(store, number, first, end - first);
	return late;
}

uint64_t cl_precopy_store_drop(struct cl_precopy_store *store, uint64_t id, uint64_t vaddr, uint64_t nr_pages)
{
	uint64_t late = 0;

	while (nr_pages) {
		uint64_t address, from, pages = part_of(vaddr, nr_pages, &address, &from);

		late += drop_part(store, id, address, from, pages);
		vaddr += pages * CL_PAGE_SIZE;
		nr_pages -= pages;
	}
	return late;
}
