/* SPDX-License-Identifier: Apache-2.0 */
/*
 * space against a model so simple that it is plainly right: for every address now, the dump page that lies there
 * and whether it is missing. Random events, forks included; after each, both must tell the same. Then the events of
 * several threads at once, in any order in which the kernel may tell of them; whenever it is quiet, both must tell the
 * same.
 */
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "destination/address_space.h"
#include "destination/fork_undo.h"
#include "destination/missing_map.h"
#include "destination/resume_state.h"
#include "wire/page_protocol.h"

enum { PAGES = 256, SPACES = 4, BASE = 0x10000, WIPED = 190 /* from there on, in a forked child */ };
#define AT(page) ((uint64_t)BASE + (uint64_t)(page) * CL_PAGE_SIZE)

struct model {
	struct cl_space *space;
	int dump_page[PAGES]; /* by page now: the page at the dump, -1 if unmapped */
	bool missing[PAGES];  /* by dump page */
};

static struct cl_chunk_pool chunks = CL_CHUNKS_IN_MEMORY, todo_chunks = CL_CHUNKS_IN_MEMORY;

static struct cl_space *fork_of(struct cl_space *parent)
{
	return cl_space_fork(parent, cl_space_prepare_fork(parent, -1));
}

static bool in_vma(int page)
{
	return (page >= 8 && page < 100) || (page >= 100 && page < 180) || (page >= 190 && page < 250);
}

static bool in_image(int page)
{
	return (page >= 4 && page < 60) || (page >= 60 && page < 64) || (page >= 70 && page < 200);
}

static struct cl_image *make_image(void)
{
	static const struct cl_vma vmas[] = { { AT(8), AT(100), 0 }, { AT(100), AT(180), 0 }, { AT(WIPED), AT(250), 1 } };
	struct cl_local local = { .offset = 0, .layer = 0 };
	struct cl_image *image = cl_image_new(7, vmas, 3);

	CHECK(image);
	CHECK(cl_image_append(image, AT(4), 56, NULL) == 0);
	CHECK(cl_image_append(image, AT(60), 4, &local) == 0);
	CHECK(cl_image_append(image, AT(70), 130, NULL) == 0);
	CHECK(cl_image_seal(image, &todo_chunks) == 0);
	CHECK(image->nr_pages == 190);
	image->chunks = &chunks;
	return image;
}

static void compare_space(struct cl_image *image, const struct model *model)
{
	uint64_t nr_missing = 0;
	int page;

	for (page = 0; page < PAGES; page++) {
		int dump = model->dump_page[page];
		uint64_t expected = CL_NO_PAGE, got;
		struct cl_run run;

		if (dump >= 0 && model->missing[dump])
			expected = cl_image_index(image, AT(dump));
		got = cl_space_missing_at(model->space, AT(page) + 123);
		CHECK(got == expected);
		if (expected == CL_NO_PAGE)
			continue;
		nr_missing++;
		CHECK(cl_space_next_run(model->space, expected, expected + 1, &run));
		CHECK(run.index == expected && run.nr_pages == 1 && run.address == AT(page));
		CHECK(cl_image_vaddr(image, expected) == AT(dump));
	}
	CHECK(model->space->nr_missing == nr_missing);
}

static void compare(struct cl_image *image, const struct model *models, int nr_models)
{
	uint64_t todo = 0;
	int page, m;

	while (cl_image_check_todo(image))
		;
	for (m = 0; m < nr_models; m++)
		compare_space(image, &models[m]);
	/* Nothing that no space misses is todo. (What a space misses is todo or was taken.) */
	for (page = 0; page < PAGES; page++) {
		uint64_t index = cl_image_index(image, AT(page));
		bool missed = false, is_todo;

		CHECK((index != CL_NO_PAGE) == in_image(page));
		if (index == CL_NO_PAGE)
			continue;
		for (m = 0; m < nr_models; m++)
			missed |= models[m].missing[page];
		is_todo = cl_image_is_todo(image, CL_REMOTE, index) || cl_image_is_todo(image, CL_LOCAL, index);
		CHECK(missed || !is_todo);
		todo += is_todo;
	}
	CHECK(todo == image->nr_todo[CL_REMOTE] + image->nr_todo[CL_LOCAL]);
}

static void unmap(struct model *model, int from, int to)
{
	for (; from < to; from++) {
		if (model->dump_page[from] >= 0)
			model->missing[model->dump_page[from]] = false;
		model->dump_page[from] = -1;
	}
}

static void restore_space(struct model *model, struct cl_image *image)
{
	int page;

	memset(model, 0, sizeof(*model));
	model->space = cl_space_new(cl_space_prepare(image, 7, -1));
	CHECK(model->space);
	for (page = 0; page < PAGES; page++) {
		model->dump_page[page] = in_vma(page) ? page : -1;
		model->missing[page] = in_vma(page) && in_image(page);
	}
}

/* A fork: of pages [from, from + length) it is perhaps known that they are wiped, or left out. */
static void fork_space(struct model *child, const struct model *parent, int from, int length, uint64_t *seed)
{
	struct cl_fork_range range = { .start = AT(from), .end = AT(from + length), .left_out = next_random(seed) % 2 };
	bool known = next_random(seed) % 2, inherits = parent->space->inherited.known;
	int i;

	*child = *parent;
	if (known) {
		parent->space->advice = (struct cl_fork_advice){ .known = true, .ranges = &range, .nr = 1 };
	} else if (inherits) {
		CHECK(parent->space->inherited.nr == 1);
		range = parent->space->inherited.ranges[0];
	}
	child->space = fork_of(parent->space);
	parent->space->advice = (struct cl_fork_advice){ 0 };
	CHECK(child->space && child->space->inherited.known == (known || inherits));
	if (!known && !inherits) /* as dumped, wherever it is now */
		memset(&child->missing[WIPED], false, PAGES - WIPED);
	else if (range.left_out)
		unmap(child, (int)((range.start - BASE) / CL_PAGE_SIZE), (int)((range.end - BASE) / CL_PAGE_SIZE));
	else
		for (i = (int)((range.start - BASE) / CL_PAGE_SIZE); AT(i) < range.end; i++)
			if (child->dump_page[i] >= 0)
				child->missing[child->dump_page[i]] = false;
}

static void run(uint64_t seed)
{
	struct cl_image *image = make_image();
	struct model models[SPACES];
	int nr_models = 1, step;

	restore_space(&models[0], image);
	compare(image, models, nr_models);
	for (step = 0; step < 400; step++) {
		struct model *model = &models[next_random(&seed) % (uint64_t)nr_models];
		int from = (int)(next_random(&seed) % PAGES), length = 1 + (int)(next_random(&seed) % 24), to, i;
		int moved[PAGES];
		uint64_t index, taken;

		if (from + length > PAGES)
			length = PAGES - from;
		switch (next_random(&seed) % 5) {
		case 0:
			CHECK(cl_space_unmap(model->space, AT(from), AT(from + length)) == 0);
			CHECK(!cl_space_unsettled(model->space));
			unmap(model, from, from + length);
			break;
		case 1:
			cl_space_remove(model->space, AT(from), AT(from + length));
			for (i = from; i < from + length; i++)
				if (model->dump_page[i] >= 0)
					model->missing[model->dump_page[i]] = false;
			break;
		case 2:
			to = (int)(next_random(&seed) % (uint64_t)(PAGES - length + 1));
			if (to < from + length && from < to + length)
				break; /* mremap refuses overlaps */
			CHECK(cl_space_remap(model->space, AT(from), AT(to), (uint64_t)length * CL_PAGE_SIZE) == 0);
			cl_space_quiet(model->space);
			memcpy(moved, &model->dump_page[from], sizeof(int) * (size_t)length);
			/* Only what was mapped moves; holes leave holes. */
			for (i = 0; i < length; i++)
				model->dump_page[from + i] = -1;
			unmap(model, to, to + length);
			memcpy(&model->dump_page[to], moved, sizeof(int) * (size_t)length);
			break;
		case 3:
			if (nr_models == SPACES)
				break;
			fork_space(&models[nr_models], model, from, length, &seed);
			nr_models++;
			break;
		case 4:
			taken = cl_image_take(image, next_random(&seed) % 2 ? CL_LOCAL : CL_REMOTE,
					      next_random(&seed) % image->nr_pages, true, 1 + next_random(&seed) % 16,
					      &index);
			for (i = 0; taken && i < nr_models; i++) {
				uint64_t at;

				if (next_random(&seed) % 4 == 0) { /* a short answer */
					cl_image_ask_again(image, index, index + taken);
					break;
				}
				cl_space_filled(models[i].space, index, index + taken);
				for (at = index; at < index + taken; at++)
					models[i].missing[(cl_image_vaddr(image, at) - BASE) / CL_PAGE_SIZE] = false;
			}
			break;
		}
		compare(image, models, nr_models);
	}
	cl_space_retire(models[0].space);
	compare(image, models + 1, nr_models - 1);
	cl_image_forget_retired(image);
	CHECK(image->spaces == (nr_models > 1 ? models[1].space : NULL));
	compare(image, models + 1, nr_models - 1);
	cl_image_free_spaces(image);
	cl_image_free(image);
}

/* ---- a fork between a change and its event ---- */

static const struct model *truth; /* of the child's memory */
static uint64_t nr_again;

static int truth_has(int uffd, uint64_t address, uint64_t length)
{
	int page = (int)((address - BASE) / CL_PAGE_SIZE), last = page + (int)(length / CL_PAGE_SIZE);

	(void)uffd;
	for (; page < last; page++)
		if (truth->dump_page[page] < 0)
			return 0;
	return 1;
}

static int has_all(int uffd, uint64_t address, uint64_t length)
{
	(void)uffd;
	(void)address;
	(void)length;
	return 1;
}

static void count_again(void *context, struct cl_image *image, uint64_t from, uint64_t to)
{
	(void)context;
	for (; from < to; from++, nr_again++)
		CHECK(cl_image_is_todo(image, CL_REMOTE, from) || cl_image_is_todo(image, CL_LOCAL, from));
}

/* Some changes that are told before the fork; it came before the first or after the last of them. */
static void fork_among_changes(uint64_t seed)
{
	struct cl_image *image = make_image();
	struct model before, after, child;
	int changes = 1 + (int)(next_random(&seed) % 3), i, moved[PAGES];
	bool is_before = next_random(&seed) % 2, came[PAGES] = { false };

	restore_space(&before, image);
	after = before;
	while (changes--) {
		int length = 1 + (int)(next_random(&seed) % 24),
		    from = (int)(next_random(&seed) % (uint64_t)(PAGES - length));
		int to = (int)(next_random(&seed) % (uint64_t)(PAGES - length));

		for (i = 0; i < length && after.dump_page[from + i] >= 0; i++)
			;
		if (i < length)
			continue;
		if (next_random(&seed) % 2) {
			for (i = 0; i < length && !came[from + i]; i++)
				;
			if (i < length)
				continue; /* the kernel would be asked whether that was meant */
			CHECK(cl_space_unmap(after.space, AT(from), AT(from + length)) == 0);
			unmap(&after, from, from + length);
		} else if (to >= from + length || from >= to + length) {
			bool free = true;

			for (i = 0; i < length; i++)
				free &= after.dump_page[to + i] < 0;
			if (!free)
				continue;
			CHECK(cl_space_remap(after.space, AT(from), AT(to), (uint64_t)length * CL_PAGE_SIZE) == 0);
			memcpy(moved, &after.dump_page[from], sizeof(int) * (size_t)length);
			for (i = 0; i < length; i++)
				after.dump_page[from + i] = -1;
			memcpy(&after.dump_page[to], moved, sizeof(int) * (size_t)length);
			memset(&came[to], true, (size_t)length);
		}
	}
	child = is_before ? before : after;
	child.space = fork_of(after.space);
	CHECK(child.space);
	memset(&child.missing[WIPED], false, PAGES - WIPED);
	truth = &child;
	CHECK(cl_fork_undo(child.space, after.space, truth_has, count_again, NULL) == 0);
	compare_space(image, &child);
	cl_image_free_spaces(image);
	cl_image_free(image);
}

/* ---- events in the wrong order ---- */

enum { CALLS = 4 };

/* One thread's mremap or munmap, done; its events are told in this order, but between those of other threads. */
struct call {
	int from, to, length; /* to: -1 for munmap */
	int told;
};

static bool is_free(const struct model *model, const bool *touched, int from, int length, bool to_be_mapped)
{
	int page;

	for (page = from; page < from + length; page++)
		if (touched[page] || (model->dump_page[page] >= 0) != to_be_mapped)
			return false;
	return true;
}

static void make_call(struct model *model, struct call *call, bool *moved_in, uint64_t *seed)
{
	static const bool none[PAGES];
	int tries, i;

	*call = (struct call){ .told = -1 };
	for (tries = 0; tries < 200; tries++) {
		int from = (int)(next_random(seed) % PAGES), length = 1 + (int)(next_random(seed) % 12);
		int to = (int)(next_random(seed) % PAGES);

		if (from + length > PAGES || to + length > PAGES || !is_free(model, moved_in, from, length, true))
			continue;
		if (next_random(seed) % 3 == 0) {
			*call = (struct call){ .from = from, .to = -1, .length = length };
			unmap(model, from, from + length);
			return;
		}
		if (!is_free(model, none, to, length, false))
			continue;
		*call = (struct call){ .from = from, .to = to, .length = length };
		for (i = 0; i < length; i++) {
			model->dump_page[to + i] = model->dump_page[from + i];
			model->dump_page[from + i] = -1;
			moved_in[to + i] = true; /* no other thread can know that address yet */
		}
		return;
	}
}

/* The next event of this call; false if all were told. */
static bool tell(struct cl_space *space, struct call *call)
{
	uint64_t from = AT(call->from), length = (uint64_t)call->length * CL_PAGE_SIZE;

	if (call->told < 0 || call->told == (call->to < 0 ? 1 : 2))
		return false;
	if (call->told++ == 0 && call->to >= 0)
		CHECK(cl_space_remap(space, from, AT(call->to), length) == 0);
	else
		CHECK(cl_space_unmap(space, from, from + length) == 0);
	return true;
}

static void run_out_of_order(uint64_t seed)
{
	struct cl_image *image = make_image();
	struct model model = { .space = cl_space_new(cl_space_prepare(image, 7, -1)) };
	int page, round;

	CHECK(model.space);
	for (page = 0; page < PAGES; page++) {
		model.dump_page[page] = in_vma(page) ? page : -1;
		model.missing[page] = in_vma(page) && in_image(page);
	}
	for (round = 0; round < 30; round++) {
		bool moved_in[PAGES] = { false }, any = true;
		struct call calls[CALLS];
		uint64_t start, end;
		int i;

		for (i = 0; i < CALLS; i++)
			make_call(&model, &calls[i], moved_in, &seed);
		while (any) {
			tell(model.space, &calls[next_random(&seed) % CALLS]);
			for (any = false, i = 0; i < CALLS; i++)
				any |= calls[i].told >= 0 && calls[i].told < (calls[i].to < 0 ? 1 : 2);
		}
		cl_space_quiet(model.space);
		while (cl_space_take_suspect(model.space, &start, &end))
			for (; start < end; start += CL_PAGE_SIZE)
				if (model.dump_page[(start - BASE) / CL_PAGE_SIZE] < 0)
					CHECK(cl_space_unmap(model.space, start, start + CL_PAGE_SIZE) == 0);
		CHECK(!cl_space_unsettled(model.space));
		compare(image, &model, 1);
	}
	cl_image_free_spaces(image);
	cl_image_free(image);
}

/* An image's space, as a successor daemon would find it; area: of it, in the file. */
static struct cl_space *space_on_record(struct cl_image *image, struct cl_resume_state *state, struct cl_chunk_pool *in_file,
					uint64_t *area)
{
	struct cl_space *space;

	CHECK(cl_resume_state_new(state, 1, in_file) == 0);
	image->chunks = in_file;
	space = cl_space_new(cl_space_prepare(image, 7, -1));
	CHECK(space);
	space->key = 1;
	CHECK(cl_resume_state_prepare(state, space, NULL, area) == 0);
	cl_resume_state_enter(space);
	return space;
}

/*
 * Killed when a batch of events was followed, and the resume state did not say so yet: the next daemon replays the batch
 * onto the regions of before, with the doubts of before. The page that was moved may be there still.
 */
static void replayed_changes_are_doubted(void)
{
	struct cl_image *image = make_image(), *images_again = make_image();
	struct cl_chunk_pool in_file, found;
	struct cl_resume_state state, state_again;
	struct cl_space *space, *next;
	uint64_t area;

	space = space_on_record(image, &state, &in_file, &area);
	(void)cl_resume_state_begin(space->mirror.entry, 1);
	CHECK(cl_space_remap(space, AT(8), AT(252), CL_PAGE_SIZE) == 0);
	cl_space_quiet(space);
	CHECK(cl_resume_state_open(&state_again, state.fd, &found) == 0);
	images_again->chunks = &found;
	CHECK(cl_resume_state_load(&state_again, area, images_again, -1, &next) == 0);
	CHECK(cl_space_remap(next, AT(8), AT(252), CL_PAGE_SIZE) == 0);
	CHECK(cl_space_unmap(next, AT(252), AT(253)) == 0);
	CHECK(cl_space_unsettled(next) && next->nr_missing == space->nr_missing);

	CHECK(cl_resume_state_applied(&state, space, true) == 0);
	CHECK(cl_resume_state_load(&state_again, area, images_again, -1, &next) == 0);
	CHECK(next->changes == 1 && next->quiet == 1);
	CHECK(cl_space_unmap(next, AT(252), AT(253)) == 0);
	CHECK(!cl_space_unsettled(next) && next->nr_missing == space->nr_missing - 1);
	cl_resume_state_forget(&state, space);
	cl_image_free_spaces(image);
	cl_image_free(image);
	cl_image_free_spaces(images_again);
	cl_image_free(images_again);
	cl_chunk_pool_free(&in_file);
	cl_chunk_pool_free(&found);
	close(state.fd);
}

/* How many pages the space of an area misses, as a daemon finds that goes on here. */
static uint64_t missing_to_a_successor(int fd, uint64_t area)
{
	struct cl_image *image = make_image();
	struct cl_resume_state state;
	struct cl_resume_task task;
	struct cl_chunk_pool found;
	struct cl_space *space;
	uint64_t missing;

	CHECK(cl_resume_state_open(&state, fd, &found) == 0);
	image->chunks = &found;
	CHECK(cl_resume_state_task(&state, area, image, &task, &missing) == 0);
	CHECK(cl_resume_state_load(&state, area, image, -1, &space) == 0 && space->nr_missing == missing);
	cl_image_free_spaces(image);
	cl_image_free(image);
	cl_chunk_pool_free(&found);
	return missing;
}

/*
 * Killed after a forked child's space was given up, whose bitmap others have since, and before the resume state was told:
 * nothing is missing there. And a daemon that ends by itself leaves what is missing to the next one.
 */
static void a_successor_finds_what_is_missing_and_nothing_of_what_was_given_up(void)
{
	struct cl_image *image = make_image();
	struct cl_space *space, *child;
	struct cl_chunk_pool in_file;
	struct cl_resume_state state;
	uint64_t area, childs_area, missing;

	space = space_on_record(image, &state, &in_file, &area);
	child = fork_of(space);
	CHECK(child && cl_space_doubt(child, AT(8), AT(12)) == 4);
	child->key = 2;
	CHECK(cl_resume_state_prepare(&state, child, NULL, &childs_area) == 0);
	cl_resume_state_enter(child);
	missing = child->nr_missing;
	CHECK(missing && missing < space->nr_missing);
	CHECK(missing_to_a_successor(state.fd, area) == space->nr_missing);
	CHECK(missing_to_a_successor(state.fd, childs_area) == missing);

	cl_space_retire(child);
	child = fork_of(space);
	CHECK(child && cl_space_filled(child, 4, 5) == 1 && cl_space_doubt(child, AT(12), AT(16)) == 4);
	CHECK(missing_to_a_successor(state.fd, childs_area) == 0);
	missing = space->nr_missing;
	cl_image_free_spaces(image);
	CHECK(missing_to_a_successor(state.fd, area) == missing);
	cl_image_free(image);
	cl_chunk_pool_free(&in_file);
	close(state.fd);
}

static struct cl_image *image_of(uint32_t nr_pages)
{
	struct cl_vma vma = { AT(0), AT(nr_pages), 0 };
	struct cl_image *image = cl_image_new(7, &vma, 1);

	CHECK(image && cl_image_append(image, AT(0), nr_pages, NULL) == 0 && cl_image_seal(image, &todo_chunks) == 0);
	image->chunks = &chunks;
	return image;
}

/* In all that miss it. */
static void arrive(struct cl_image *image, uint64_t index)
{
	struct cl_space *space;

	cl_image_set_todo(image, CL_REMOTE, index, index + 1, false);
	for (space = image->spaces; space; space = space->next)
		(void)cl_space_filled(space, index, index + 1);
}

/* What was dropped is not todo any more but where another space misses it; nor is anything that came back taken off. */
static void much_that_is_dropped_at_once_is_checked_step_by_step(uint64_t seed)
{
	enum { MANY = 40 * CL_CHUNK_BITS + 100 };
	struct cl_image *image = image_of(MANY);
	struct cl_space *space = cl_space_new(cl_space_prepare(image, 7, -1)), *child;
	uint64_t from, to, i, nr_todo;
	int n;

	CHECK(space);
	for (n = 0; n < 300; n++)
		arrive(image, next_random(&seed) % MANY);
	child = fork_of(space);
	CHECK(child);
	for (n = 0; n < 100; n++) {
		from = next_random(&seed) % MANY;
		to = from + 1 + next_random(&seed) % (MANY - from) % (10 * CL_CHUNK_BITS);
		if (n % 5 == 0)
			cl_space_remove(n % 2 ? child : space, AT(from), AT(to));
		else if (n % 5 == 1)
			CHECK(cl_space_unmap(n % 2 ? child : space, AT(from), AT(to)) == 0);
		else
			arrive(image, from);
		(void)cl_image_check_todo(image);
		if (n == 50) {
			cl_space_retire(child);
			cl_image_forget_retired(image);
			child = fork_of(space);
			CHECK(child);
		}
	}
	for (from = 0; from < MANY; from += CL_EXTENT_MAX_PAGES)
		cl_image_ask_again(image, from, MANY - from < CL_EXTENT_MAX_PAGES ? MANY : from + CL_EXTENT_MAX_PAGES);
	while (cl_image_check_todo(image))
		;
	for (nr_todo = i = 0; i < MANY; i++) {
		bool missed = cl_shared_bits_get(&space->missing, i) || cl_shared_bits_get(&child->missing, i);

		CHECK(cl_image_is_todo(image, CL_REMOTE, i) == missed);
		nr_todo += missed;
	}
	CHECK(nr_todo && image->nr_todo[CL_REMOTE] == nr_todo);
	cl_image_free_spaces(image);
	cl_image_free(image);
}

/* Unmapped after a fork that is told of later: in the child it is missing, wherever in the bitmap it lies. */
static void what_was_unmapped_of_a_large_image_is_put_back_in_a_child(void)
{
	enum { MANY = 10 * CL_CHUNK_BITS, FIRST = 3 * CL_CHUNK_BITS + 77, LAST = 6 * CL_CHUNK_BITS + 5 };
	struct cl_image *image = image_of(MANY);
	struct cl_space *space = cl_space_new(cl_space_prepare(image, 7, -1)), *child;
	uint64_t i;

	CHECK(space);
	for (i = 0; i < MANY; i += 3)
		CHECK(cl_space_filled(space, i, i + 1) == 1);
	CHECK(cl_space_unmap(space, AT(FIRST), AT(LAST)) == 0);
	child = fork_of(space);
	CHECK(child);
	nr_again = 0;
	CHECK(cl_fork_undo(child, space, has_all, count_again, NULL) == 0);
	for (i = 0; i < MANY; i++)
		CHECK((cl_space_missing_at(child, AT(i)) == i) == (i % 3 != 0));
	CHECK(nr_again == (uint64_t)(LAST - FIRST) - (LAST + 2) / 3 + (FIRST + 2) / 3);
	cl_image_free_spaces(image);
	cl_image_free(image);
}

enum { AREAS = 2000 };

/* Of areas of a page, with one between each two. */
static struct cl_image *image_of_areas(void)
{
	static struct cl_vma vmas[AREAS];
	struct cl_image *image;
	int i;

	for (i = 0; i < AREAS; i++)
		vmas[i] = (struct cl_vma){ AT(2 * i), AT(2 * i + 1), 0 };
	image = cl_image_new(7, vmas, AREAS);
	CHECK(image);
	for (i = 0; i < AREAS; i++)
		CHECK(cl_image_append(image, vmas[i].start, 1, NULL) == 0);
	CHECK(cl_image_seal(image, &todo_chunks) == 0);
	image->chunks = &chunks;
	return image;
}

/* By one call, after a fork that is told of later. */
static void many_areas_that_were_unmapped_are_put_back_in_a_child(void)
{
	struct cl_image *image = image_of_areas();
	struct cl_space *space = cl_space_new(cl_space_prepare(image, 7, -1)), *child;
	int i;

	CHECK(space && cl_space_unmap(space, AT(1000), AT(2000)) == 0 && space->nr_missing == AREAS - 500);
	child = fork_of(space);
	CHECK(child && cl_fork_undo(child, space, has_all, count_again, NULL) == 0 && child->nr_missing == AREAS);
	for (i = 0; i < AREAS; i++)
		CHECK(cl_space_missing_at(child, AT(2 * i)) == (uint64_t)i);
	cl_image_free_spaces(image);
	cl_image_free(image);
}

/* A task of many areas that unmaps all of them at once, in pieces: it has nothing left. */
static void many_areas_are_unmapped_in_pieces(void)
{
	enum { MANY = AREAS };
	uint64_t at, end;
	struct cl_image *image = image_of_areas();
	struct cl_space *space;
	int pieces = 0;

	space = cl_space_new(cl_space_prepare(image, 7, -1));
	CHECK(space && cl_space_piece_end(space, AT(10), AT(20)) == AT(20));
	for (at = AT(10); at < AT(2 * MANY - 10); at = end, pieces++) {
		end = cl_space_piece_end(space, at, AT(2 * MANY - 10));
		CHECK(end > at && cl_space_unmap(space, at, end) == 0);
	}
	CHECK(pieces > 2 && space->nr_missing == 10 && space->regions.nr == 10 &&
	      space->regions.at[5].start == AT(2 * MANY - 10));
	cl_image_free_spaces(image);
	cl_image_free(image);
}

/* Where all is looked at, a slice's value is that of its pages; in any case 0 and 255 are nothing and all. */
static void the_map_of_what_is_missing_is_right(uint64_t seed)
{
	const uint32_t sizes[] = { 1 + (uint32_t)(seed % 7), 5000, 3, 129, 1U << 20 };
	uint64_t missing[CL_MAP_SLICES] = { 0 }, pages[CL_MAP_SLICES] = { 0 }, total = 0, at = 0, i;
	uint64_t counted[CL_MAP_SLICES] = { 0 }, wanted[CL_MAP_SLICES] = { 0 };
	struct cl_image *images[5];
	uint8_t map[CL_MAP_SLICES];
	int n, last = seed % 2 ? 3 : 4; /* with the large one, every fifth word is looked at */

	for (n = 0; n <= last; n++, total += sizes[n - 1]) {
		images[n] = image_of(sizes[n]);
		images[n]->before = total;
		if (n)
			images[n - 1]->next = images[n];
	}
	cl_missing_map(images[0], false, map);
	for (i = 0; i < CL_MAP_SLICES; i++)
		CHECK(map[i] == 255);
	cl_missing_map(images[0], true, map);
	for (i = 0; i < CL_MAP_SLICES; i++)
		CHECK(map[i] == 0);
	for (n = 0; n <= last; n++) {
		struct cl_space *space = cl_space_new(cl_space_prepare(images[n], 7, -1));

		CHECK(space);
		for (i = 0; i < sizes[n]; i++, at++) {
			if (n < 4 ? next_random(&seed) % 3 : at % 2)
				missing[at * CL_MAP_SLICES / total]++;
			else
				(void)cl_space_filled(space, i, i + 1);
			pages[at * CL_MAP_SLICES / total]++;
		}
	}
	/* The last image's pages, all but one at each end, in two parts. */
	for (i = 0, at = total - sizes[last]; i < sizes[last]; i++)
		wanted[(at + i) * CL_MAP_SLICES / total] += i > 0 && i + 1 < sizes[last];
	cl_map_count(total, images[last], 1, sizes[last] / 2, counted);
	cl_map_count(total, images[last], sizes[last] / 2, sizes[last] - 1, counted);
	for (i = 0; i < CL_MAP_SLICES; i++)
		CHECK(counted[i] == wanted[i]);
	cl_missing_map(images[0], true, map);
	for (i = last == 4; i < CL_MAP_SLICES; i++)
		CHECK(map[i] == (missing[i] * 255 + pages[i] - 1) / pages[i]);
	for (n = 0; n <= last; n++) {
		cl_image_free_spaces(images[n]);
		cl_image_free(images[n]);
	}
}

int main(void)
{
	uint64_t seed;

	replayed_changes_are_doubted();
	a_successor_finds_what_is_missing_and_nothing_of_what_was_given_up();
	what_was_unmapped_of_a_large_image_is_put_back_in_a_child();
	many_areas_are_unmapped_in_pieces();
	many_areas_that_were_unmapped_are_put_back_in_a_child();
	for (seed = 1; seed <= 20; seed++)
		much_that_is_dropped_at_once_is_checked_step_by_step(seed);
	for (seed = 1; seed <= 2; seed++)
		the_map_of_what_is_missing_is_right(seed);

	for (seed = 1; seed <= 200; seed++) {
		run(seed);
		run_out_of_order(seed);
		fork_among_changes(seed);
	}
	return 0;
}
