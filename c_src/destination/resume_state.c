/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/resume_state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/shared_bits.h"
#include "wire/page_protocol.h"

/*
 * The file is sparse: its own head at 0, area i at (i + 1) * AREA_BYTES, from POOL_AT on the chunks of all
 * bitmaps (shared_bits.h). In an area: its head, from MIRROR_AT the tables of the bitmaps of what is missing and of what is
 * doubtful, from SLOT_BYTES and 2 * SLOT_BYTES the slots: regions, limbo, suspects, one
 * after the other.
 */
#define AREA_BYTES (1ULL << 36)
#define SLOT_BYTES (1ULL << 34)
#define MIRROR_AT 4096ULL
#define POOL_AT 4096ULL

#define HEAD_MAGIC 0x33474c4c43ULL /* "CLLG3": to change with what lies in the file */

struct head {
	uint64_t magic, client;
};

struct slot {
	uint64_t nr_regions, nr_limbo, nr_suspects;
	uint64_t changes;
};

struct cl_resume_entry {
	_Atomic uint64_t key; /* 0: void; else all the rest is right */
	uint64_t area;
	uint64_t nr_pages, fingerprint;
	int32_t image_pid, pid;
	_Atomic uint64_t reading; /* the number of the batch that lies in `events` */
	_Atomic uint64_t quiet;   /* never ahead of the slot that holds: it would settle what a replay must doubt */
	_Atomic uint64_t applied; /* twice the number of the last batch applied, plus which slot holds */
	struct slot slots[2];
	uint64_t generation; /* of the daemon that read `events` */
	/* Of a restored task: */
	uint64_t is_task, began;
	int64_t process;
	_Atomic uint64_t gone_pages;
	_Atomic uint64_t ended;                   /* 0: not; else 1 + enum cl_end_how, and the code << 8 */
	struct uffd_msg events[CL_RESUME_EVENTS]; /* up to the first that is all zero */
};

_Static_assert(sizeof(struct cl_resume_entry) <= MIRROR_AT, "the head is one page");

static uint64_t area_at(uint64_t area)
{
	return (area + 1) * AREA_BYTES;
}

static uint64_t mapped_bytes(uint64_t nr_pages)
{
	uint64_t bytes = MIRROR_AT + 2 * cl_shared_bits_chunks(nr_pages) * sizeof(uint32_t);

	return (bytes + CL_PAGE_SIZE - 1) / CL_PAGE_SIZE * CL_PAGE_SIZE;
}

static struct cl_resume_entry *map(const struct cl_resume_state *state, uint64_t area, uint64_t nr_pages)
{
	return mmap(NULL, mapped_bytes(nr_pages), PROT_READ | PROT_WRITE, MAP_SHARED, state->fd, (off_t)area_at(area));
}

static _Atomic uint32_t *missing_of(struct cl_resume_entry *entry)
{
	return (_Atomic uint32_t *)(void *)((uint8_t *)entry + MIRROR_AT);
}

static _Atomic uint32_t *doubtful_of(struct cl_resume_entry *entry)
{
	return missing_of(entry) + cl_shared_bits_chunks(entry->nr_pages);
}

static void attach(struct cl_space *space, struct cl_resume_entry *entry)
{
	space->mirror.entry = entry;
	space->mirror.quiet = &entry->quiet;
	space->mirror.doubtful = doubtful_of(entry);
	cl_shared_bits_set_mirror(&space->missing, missing_of(entry));
	if (space->doubtful.chunks)
		cl_shared_bits_set_mirror(&space->doubtful, doubtful_of(entry));
}

static off_t slot_at(uint64_t area, unsigned int slot)
{
	return (off_t)(area_at(area) + (slot + 1) * SLOT_BYTES);
}

int cl_resume_state_new(struct cl_resume_state *state, uint64_t client, struct cl_chunk_pool *chunks)
{
	const struct head head = { .magic = HEAD_MAGIC, .client = client };
	int fd = memfd_create("criu-lazy-state", MFD_CLOEXEC), ret;

	*state = (struct cl_resume_state){ .fd = fd, .client = client };
	if (fd < 0)
		return -errno;
	ret = ftruncate(fd, (off_t)AREA_BYTES) < 0 ? -errno : cl_pwrite_all(fd, &head, sizeof(head), 0);
	if (ret < 0) {
		close(fd);
		*state = CL_NO_RESUME_STATE;
	} else {
		cl_chunk_pool_new(chunks, fd, POOL_AT, AREA_BYTES - POOL_AT);
	}
	return ret;
}

int cl_resume_state_open(struct cl_resume_state *state, int fd, struct cl_chunk_pool *chunks)
{
	struct head head;
	struct stat status;
	int ret;

	*state = (struct cl_resume_state){ .fd = fd };
	if (fstat(fd, &status) < 0)
		return -errno;
	ret = cl_pread_all(fd, &head, sizeof(head), 0);
	if (ret < 0 || head.magic != HEAD_MAGIC)
		return ret < 0 ? ret : -EBADMSG;
	state->client = head.client;
	if ((uint64_t)status.st_size > AREA_BYTES)
		state->nr_areas = (uint64_t)status.st_size / AREA_BYTES - 1;
	return cl_chunk_pool_open(chunks, fd, POOL_AT, AREA_BYTES - POOL_AT);
}

static int write_slot(const struct cl_resume_state *state, const struct cl_space *space, unsigned int slot)
{
	const struct cl_region *parts[] = { space->regions.at, space->limbo.at, space->suspects.at };
	const size_t nr[] = { space->regions.nr, space->limbo.nr, space->suspects.nr };
	off_t at = slot_at(space->mirror.entry->area, slot);
	int ret = 0;
	size_t i;

	if ((nr[0] + nr[1] + nr[2]) * sizeof(struct cl_region) > SLOT_BYTES)
		return -EFBIG;
	for (i = 0; i < 3 && ret == 0; i++) {
		ret = cl_pwrite_all(state->fd, parts[i], nr[i] * sizeof(struct cl_region), at);
		at += (off_t)(nr[i] * sizeof(struct cl_region));
	}
	space->mirror.entry->slots[slot] = (struct slot){
		.nr_regions = nr[0], .nr_limbo = nr[1], .nr_suspects = nr[2], .changes = space->changes
	};
	return ret;
}

int cl_resume_state_prepare(struct cl_resume_state *state, struct cl_space *space, const struct cl_task *task,
			    uint64_t *area_out)
{
	const struct cl_image *image = space->image;
	uint64_t area = state->nr_areas, bytes = mapped_bytes(image->nr_pages);
	struct cl_resume_entry *entry;
	int ret;

	if (state->fd < 0)
		return -ENOENT;
	/* All of its memory now: later there would be no errno, but SIGBUS. */
	if (ftruncate(state->fd, (off_t)area_at(area + 1)) < 0 ||
	    fallocate(state->fd, 0, (off_t)area_at(area), (off_t)bytes) < 0)
		return -errno;
	state->nr_areas++;
	entry = map(state, area, image->nr_pages);
	if (entry == MAP_FAILED)
		return -errno;
	entry->area = area;
	entry->nr_pages = image->nr_pages;
	entry->fingerprint = image->fingerprint;
	entry->image_pid = image->pid;
	entry->pid = space->pid;
	entry->is_task = task != NULL;
	entry->process = task ? task->pid : 0;
	entry->began = task ? task->began : 0;
	*area_out = area;
	space->mirror.entry = entry;
	ret = write_slot(state, space, 0);
	if (ret < 0)
		cl_resume_state_forget(state, space);
	return ret;
}

void cl_resume_state_enter(struct cl_space *space)
{
	struct cl_resume_entry *entry = space->mirror.entry;

	attach(space, entry);
	entry->quiet = space->quiet;
	/* Release: who finds the key finds all the rest. */
	atomic_store_explicit(&entry->key, space->key, memory_order_release);
}

void cl_resume_state_gone(struct cl_space *space, uint64_t pages)
{
	if (space->mirror.entry)
		atomic_store_explicit(&space->mirror.entry->gone_pages, pages, memory_order_release);
}

void cl_resume_state_gone_before(struct cl_resume_state *state, uint64_t area, uint64_t pages)
{
	(void)cl_pwrite_all(state->fd, &pages, sizeof(pages),
			    (off_t)(area_at(area) + offsetof(struct cl_resume_entry, gone_pages)));
}

void cl_resume_state_ended(struct cl_resume_state *state, uint64_t area, const struct cl_end *end)
{
	uint64_t word = 1 + (uint64_t)end->how + ((uint64_t)(unsigned int)end->code << 8);

	/* By a write: the space, and with it the mapping, may be gone. It has its memory, so it can't fail. */
	(void)cl_pwrite_all(state->fd, &word, sizeof(word),
			    (off_t)(area_at(area) + offsetof(struct cl_resume_entry, ended)));
}

void cl_resume_state_forget(struct cl_resume_state *state, struct cl_space *space)
{
	uint64_t area;
	bool keep;

	if (!space->mirror.entry)
		return;
	area = space->mirror.entry->area;
	keep = atomic_load(&space->mirror.entry->ended);
	if (!keep)
		atomic_store_explicit(&space->mirror.entry->key, 0, memory_order_release);
	space->missing.mirror = space->doubtful.mirror = NULL;
	munmap(space->mirror.entry, mapped_bytes(space->image->nr_pages));
	space->mirror = (struct cl_space_mirror){ 0 };
	if (keep)
		return;
	(void)fallocate(state->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)area_at(area), (off_t)AREA_BYTES);
}

struct uffd_msg *cl_resume_state_begin(struct cl_resume_entry *entry, uint64_t generation)
{
	memset(entry->events, 0, sizeof(entry->events));
	entry->generation = generation;
	/* Release: who sees the number finds none of the batch before it. */
	atomic_store_explicit(&entry->reading, atomic_load(&entry->applied) / 2 + 1, memory_order_release);
	return entry->events;
}

int cl_resume_state_applied(struct cl_resume_state *state, struct cl_space *space, bool changed)
{
	struct cl_resume_entry *entry = space->mirror.entry;
	unsigned int slot = atomic_load(&entry->applied) & 1;
	int ret;

	if (changed) {
		slot ^= 1;
		ret = write_slot(state, space, slot);
		if (ret < 0) {
			cl_resume_state_forget(state, space);
			return ret;
		}
	}
	/* Release: who sees the batch applied finds the regions that it left. */
	atomic_store_explicit(&entry->applied, atomic_load(&entry->reading) * 2 + slot, memory_order_release);
	entry->quiet = space->quiet;
	return 0;
}

/* ---- taking over ---- */

int cl_resume_state_next(const struct cl_resume_state *state, uint64_t *area, uint64_t *key, int32_t *image_pid)
{
	struct cl_resume_entry entry;
	int ret;

	for (; *area < state->nr_areas; (*area)++) {
		ret = cl_pread_all(state->fd, &entry, sizeof(entry), (off_t)area_at(*area));
		if (ret < 0)
			return ret;
		*key = entry.key;
		*image_pid = entry.image_pid;
		if (entry.key)
			return 1;
	}
	return 0;
}

int cl_resume_state_task(const struct cl_resume_state *state, uint64_t area, const struct cl_image *image,
			 struct cl_resume_task *task, uint64_t *missing)
{
	struct cl_resume_entry *entry = map(state, area, image->nr_pages);
	struct cl_shared_bits bits;
	uint64_t ended;
	int ret;

	if (entry == MAP_FAILED)
		return -errno;
	if (entry->nr_pages != image->nr_pages || entry->fingerprint != image->fingerprint) {
		munmap(entry, mapped_bytes(image->nr_pages));
		return -ESTALE;
	}
	ended = atomic_load(&entry->ended);
	*task = (struct cl_resume_task){ .is_task = entry->is_task,
					 .process = (pid_t)entry->process,
					 .began = entry->began,
					 .gone_pages = atomic_load(&entry->gone_pages),
					 .ended = ended };
	if (ended)
		task->end = (struct cl_end){ (enum cl_end_how)((ended & 0xff) - 1), (int)(ended >> 8) };
	ret = cl_shared_bits_claim(&bits, image->chunks, missing_of(entry), image->nr_pages);
	*missing = ret < 0 ? 0 : cl_shared_bits_count(&bits, 0, image->nr_pages);
	if (ret == 0)
		cl_shared_bits_free(&bits);
	munmap(entry, mapped_bytes(image->nr_pages));
	return ret;
}

static int read_slot(const struct cl_resume_state *state, uint64_t area, unsigned int slot, const struct slot *told,
		     struct cl_space_memory *memory)
{
	const uint64_t nr[] = { told->nr_regions, told->nr_limbo, told->nr_suspects };
	struct cl_regions *parts[] = { &memory->regions, &memory->limbo, &memory->suspects };
	off_t at = slot_at(area, slot);
	int ret = 0;
	size_t i;

	for (i = 0; i < 3 && ret == 0; i++) {
		size_t bytes = nr[i] * sizeof(struct cl_region);

		if (nr[i] > SLOT_BYTES / sizeof(struct cl_region))
			return -EBADMSG;
		/* One more, as the space's own tables have: no allocation of nothing. */
		parts[i]->max = nr[i] + 1;
		parts[i]->at = malloc(bytes + sizeof(struct cl_region));
		if (!parts[i]->at)
			return -ENOMEM;
		parts[i]->nr = nr[i];
		ret = cl_pread_all(state->fd, parts[i]->at, bytes, at);
		at += (off_t)bytes;
	}
	memory->changes = told->changes;
	return ret;
}

int cl_resume_state_load(struct cl_resume_state *state, uint64_t area, struct cl_image *image, int uffd,
			 struct cl_space **space_out)
{
	struct cl_space_memory memory = { 0 };
	struct cl_resume_entry *entry;
	struct cl_space *space = NULL;
	unsigned int slot;
	int ret;

	entry = map(state, area, image->nr_pages);
	if (entry == MAP_FAILED)
		return -errno;
	slot = atomic_load(&entry->applied) & 1;
	if (entry->area != area)
		ret = -EBADMSG;
	else if (entry->nr_pages != image->nr_pages || entry->fingerprint != image->fingerprint)
		ret = -ESTALE;
	else
		ret = read_slot(state, area, slot, &entry->slots[slot], &memory);
	if (ret == 0) {
		memory.quiet = entry->quiet;
		ret = cl_shared_bits_claim(&memory.missing, image->chunks, missing_of(entry), image->nr_pages);
	}
	if (ret == 0)
		ret = cl_shared_bits_claim(&memory.doubtful, image->chunks, doubtful_of(entry), image->nr_pages);
	if (ret == 0)
		ret = cl_space_again(image, entry->pid, uffd, &memory, &space);
	cl_shared_bits_free(&memory.missing);
	cl_shared_bits_free(&memory.doubtful);
	free(memory.regions.at);
	free(memory.limbo.at);
	free(memory.suspects.at);
	if (ret < 0) {
		munmap(entry, mapped_bytes(image->nr_pages));
		return ret;
	}
	space->key = atomic_load(&entry->key);
	attach(space, entry);
	*space_out = space;
	return 0;
}

int cl_resume_state_pending(const struct cl_resume_entry *entry, struct uffd_msg events[CL_RESUME_EVENTS],
			    uint64_t *generation)
{
	int nr = 0;

	*generation = entry->generation;
	if (atomic_load(&entry->reading) == atomic_load(&entry->applied) / 2)
		return 0;
	for (; nr < CL_RESUME_EVENTS && entry->events[nr].event; nr++)
		events[nr] = entry->events[nr];
	return nr;
}
