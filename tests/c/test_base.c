/* SPDX-License-Identifier: Apache-2.0 */
/* base/: errors, cleanup, growing arrays, reading and writing it all, deadlines, threads. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/deadline.h"
#include "base/error.h"
#include "base/io.h"
#include "base/page.h"
#include "base/shared_bits.h"
#include "base/thread.h"
#include "base/vec.h"
#include "check.h"

enum { STREAM_BYTES = 8 << 20 };

static void errors_keep_their_code_and_gather_context(void)
{
	struct cl_error error = { 0 };
	char text[CL_ERROR_TEXT_BYTES + 10];

	CHECK(cl_error_set(&error, -ENOENT, "pagemap-%d.img: %s", 7, "not there") == -ENOENT);
	CHECK(error.code == -ENOENT && strcmp(error.text, "pagemap-7.img: not there") == 0);
	CHECK(cl_error_prefix(&error, "task %d: ", 5) == -ENOENT);
	CHECK(strcmp(error.text, "task 5: pagemap-7.img: not there") == 0);
	CHECK(cl_error_set(&error, -EPERM, "again: %s", error.text) == -EPERM);
	CHECK(strcmp(error.text, "again: task 5: pagemap-7.img: not there") == 0);

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	for (int round = 0; round < 3; round++) { /* set, a prefix that pushes the end out, one that is too long itself */
		if (round == 0)
			cl_error_set(&error, -EPERM, "%s", text);
		else
			cl_error_prefix(&error, "%s: ", round == 1 ? "task 5" : text);
		CHECK(strlen(error.text) == CL_ERROR_TEXT_BYTES - 1);
		CHECK(strcmp(error.text + CL_ERROR_TEXT_BYTES - 5, "x...") == 0);
	}
	text[CL_ERROR_TEXT_BYTES - 1] = 0; /* just fits */
	cl_error_set(&error, -EPERM, "%s", text);
	CHECK(strcmp(error.text, text) == 0);
}

static int open_and_perhaps_keep(bool keep, int *kept)
{
	CL_CLEANUP_FD int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	CL_CLEANUP_FD int none = -1;
	CL_CLEANUP_FREE char *buffer = malloc(10);
	CL_CLEANUP_FREE char *given = malloc(10);
	CL_CLEANUP_FILE FILE *file = fopen("/dev/null", "r");
	int number = fd;

	CHECK(buffer && file && fd >= 0 && none < 0);
	free(cl_steal(&given));
	CHECK(!given);
	if (keep)
		*kept = cl_steal_fd(&fd);
	errno = ENOTTY;
	return number;
}

static void what_is_owned_is_given_up_unless_it_was_stolen(void)
{
	int kept = -1, closed = open_and_perhaps_keep(false, &kept), open_fd;

	CHECK(errno == ENOTTY);
	CHECK(kept == -1 && fcntl(closed, F_GETFD) < 0 && errno == EBADF);
	open_fd = open_and_perhaps_keep(true, &kept);
	CHECK(kept == open_fd && fcntl(kept, F_GETFD) >= 0);
	close(kept);
}

static void arrays_grow_to_their_limit_and_no_further(void)
{
	uint64_t *items = NULL, *before;
	volatile size_t huge = SIZE_MAX; /* the compiler isn't to see that this must fail */
	size_t max = 0, nr;

	for (nr = 0; nr < 1000; nr++) {
		CHECK(cl_vec_reserve(&items, &max, nr + 1, 1000) == 0);
		CHECK(max > nr && max <= 1000);
		items[nr] = nr;
	}
	before = items;
	CHECK(max == 1000 && cl_vec_reserve(&items, &max, 1001, 1000) == -ENOMEM);
	CHECK(cl_vec_reserve(&items, &max, huge, CL_VEC_NO_LIMIT) == -ENOMEM); /* the product overflows */
	CHECK(items == before && max == 1000);
	while (nr-- > 0)
		CHECK(items[nr] == nr);
	free(items);
}

static void on_alarm(int signal)
{
	(void)signal;
}

struct reader {
	int fd;
	uint8_t *out;
};

static void *read_it_all(void *argument)
{
	struct reader *reader = argument;

	CHECK(cl_receive_all(reader->fd, reader->out, STREAM_BYTES, 0) == 0);
	return NULL;
}

/* The sender is interrupted every 200 us, and the socket takes far less than all at once. */
static void streams_go_on_after_signals_and_short_counts(void)
{
	const struct itimerval often = { { 0, 200 }, { 0, 200 } }, never = { 0 };
	const struct sigaction action = { .sa_handler = on_alarm }; /* no SA_RESTART */
	CL_CLEANUP_FREE uint8_t *sent = malloc(STREAM_BYTES);
	CL_CLEANUP_FREE uint8_t *got = calloc(1, STREAM_BYTES);
	struct reader reader = { .out = got };
	uint64_t seed = 1, began_us;
	pthread_t thread;
	int pair[2];

	CHECK(sent && got && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	for (size_t i = 0; i < STREAM_BYTES; i++)
		sent[i] = (uint8_t)next_random(&seed);
	reader.fd = pair[1];
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	CHECK(cl_thread_start(&thread, "reader", read_it_all, &reader) == 0);
	CHECK(cl_send_all(pair[0], sent, STREAM_BYTES, 0) == 0);
	pthread_join(thread, NULL);
	CHECK(memcmp(sent, got, STREAM_BYTES) == 0);

	began_us = cl_now_us();
	CHECK(cl_send_all(pair[0], "abc", 3, 0) == 0);
	CHECK(cl_receive_all(pair[1], got, 4, began_us + 20000) == -ETIMEDOUT);
	CHECK(cl_now_us() >= began_us + 20000 && memcmp(got, "abc", 3) == 0);
	setitimer(ITIMER_REAL, &never, NULL);
	close(pair[0]);
	CHECK(cl_receive_all(pair[1], got, 1, 0) == -ECONNRESET && cl_receive(pair[1], got, 1, 0) == -ECONNRESET);
	CHECK(cl_send_all(pair[1], "abc", 3, 0) == -EPIPE);
	close(pair[1]);
}

static void files_are_read_and_written_exactly(void)
{
	CL_CLEANUP_FD int fd = memfd_create("test", MFD_CLOEXEC);
	char out[4] = "";

	CHECK(cl_pwrite_all(fd, "abcd", 4, 100) == 0);
	CHECK(cl_pread_all(fd, out, 3, 101) == 0 && memcmp(out, "bcd", 3) == 0);
	CHECK(cl_pread_all(fd, out, 4, 101) == -EBADMSG);
	CHECK(cl_pread_all(-1, out, 1, 0) == -EBADF && cl_pwrite_all(-1, out, 1, 0) == -EBADF);
}

static void *note_blocked_signals(void *argument)
{
	pthread_sigmask(SIG_SETMASK, NULL, argument);
	return NULL;
}

static void threads_leave_signals_to_others(void)
{
	sigset_t in_thread, before, after;
	pthread_t thread;

	pthread_sigmask(SIG_SETMASK, NULL, &before);
	CHECK(cl_thread_start(&thread, "quiet", note_blocked_signals, &in_thread) == 0);
	pthread_join(thread, NULL);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	CHECK(sigismember(&in_thread, SIGTERM) && sigismember(&in_thread, SIGINT));
	CHECK(sigismember(&before, SIGTERM) == sigismember(&after, SIGTERM));
}

static void waits_end_at_their_deadline_and_not_before(void)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	uint64_t deadline_us;
	pthread_cond_t condition;
	struct timespec moment;

	moment = cl_deadline_timespec(12000034);
	CHECK(moment.tv_sec == 12 && moment.tv_nsec == 34000);
	CHECK(cl_deadline_poll_ms(0) == -1 && cl_deadline_poll_ms(1) == 0);
	CHECK(cl_deadline_poll_ms(UINT64_MAX) > 1000000000);
	cl_cond_init(&condition);
	pthread_mutex_lock(&lock);
	deadline_us = cl_now_us() + 3000;
	while (cl_cond_wait(&condition, &lock, deadline_us) == 0)
		;
	CHECK(cl_now_us() >= deadline_us);
	pthread_mutex_unlock(&lock);
	pthread_cond_destroy(&condition);
	deadline_us = cl_now_us() + 1500;
	CHECK(cl_deadline_poll(NULL, 0, deadline_us) == 0 && cl_now_us() >= deadline_us);
}

/* ---- urgent threads ---- */

static void *be_urgent(void *argument)
{
	bool *may = argument;
	int policy;

	cl_become_urgent();
	policy = sched_getscheduler(0);
	CHECK(policy == (SCHED_RR | SCHED_RESET_ON_FORK) || policy == SCHED_OTHER);
	*may = policy != SCHED_OTHER;
	cl_become_ordinary();
	CHECK((sched_getscheduler(0) & ~SCHED_RESET_ON_FORK) == SCHED_OTHER);
	return NULL;
}

/* Root may, where its group of processes may; who may not goes on all the same. */
static void threads_become_urgent_where_they_may(void)
{
	pthread_t thread;
	bool may;

	CHECK(cl_thread_start(&thread, "urgent", be_urgent, &may) == 0 && pthread_join(thread, NULL) == 0);
	CHECK(sched_getscheduler(0) == SCHED_OTHER);
	fprintf(stderr, "urgent threads: %s\n", may ? "yes" : "not allowed here");
}

/* ---- bitmaps that share ---- */

enum {
	BITMAPS = 8,
	NR_BITS = 11 * CL_CHUNK_BITS + 77,
	NR_WORDS = NR_BITS / 64 + 1,
	NR_CHUNKS = NR_BITS / CL_CHUNK_BITS + 1
};

struct bitmap {
	struct cl_shared_bits bits;
	uint64_t words[NR_WORDS]; /* what they must be */
	_Atomic uint32_t mirror[NR_CHUNKS];
};

static void compare_bits(const struct cl_shared_bits *bits, const uint64_t *words, uint64_t from, uint64_t to)
{
	uint64_t i;

	CHECK(cl_shared_bits_count(bits, from, to) == cl_bits_count(words, from, to));
	for (i = 0; i < 2; i++) {
		CHECK(cl_shared_bits_find(bits, from, to, i) == cl_bits_find(words, from, to, i));
		CHECK(cl_shared_bits_find_last(bits, from, to, i) == cl_bits_find_last(words, from, to, i));
	}
	for (i = 0; i < NR_BITS / 64; i++)
		CHECK(cl_shared_bits_word(bits, i) == words[i]);
	CHECK(cl_shared_bits_get(bits, from) == cl_bit_get(words, from));
}

static void compare_part(const struct cl_shared_bits *bits, const uint64_t *words, uint64_t from, uint64_t to)
{
	uint64_t base = cl_shared_bits_chunk_of(from), at;
	struct cl_shared_bits part;

	CHECK(cl_shared_bits_copy_part(&part, bits, from, to) == 0);
	CHECK(to - base <= part.nr_bits && base + part.nr_bits <= NR_BITS);
	for (at = from; at < to; at++)
		CHECK(cl_shared_bits_get(&part, at - base) == cl_bit_get(words, at));
	cl_shared_bits_free(&part);
}

/* Another process that finds the file as it is now, and goes on with it in a copy of its memory. */
static void compare_found(const struct bitmap *bitmaps, int fd, uint64_t bytes)
{
	struct cl_chunk_pool found;
	struct cl_shared_bits bits;
	int i;

	CHECK(cl_chunk_pool_open(&found, fd, CL_PAGE_SIZE, bytes) == 0);
	for (i = 0; i < BITMAPS; i++)
		if (bitmaps[i].bits.mirror) {
			CHECK(cl_shared_bits_claim(&bits, &found, bitmaps[i].mirror, NR_BITS) == 0);
			compare_bits(&bits, bitmaps[i].words, 0, NR_BITS);
			cl_shared_bits_free(&bits);
		}
	CHECK(!found.nr_free);
	cl_chunk_pool_free_unclaimed(&found);
	CHECK(found.nr_free == (found.nr_found ? found.nr_found - 2 : 0));
	cl_chunk_pool_free(&found);
}

static void change_a_bitmap(struct bitmap *bitmaps, struct cl_chunk_pool *pool, uint64_t *seed)
{
	struct bitmap *bitmap = &bitmaps[next_random(seed) % BITMAPS], *other = &bitmaps[next_random(seed) % BITMAPS];
	uint64_t from = next_random(seed) % NR_BITS, room = next_random(seed) % 2 ? NR_BITS : from + 100, i;
	uint64_t to = from + next_random(seed) % ((room < NR_BITS ? room : NR_BITS) - from) + 1;
	bool value = next_random(seed) % 2;

	if (!bitmap->bits.chunks && other->bits.chunks && next_random(seed) % 4) {
		CHECK(cl_shared_bits_copy(&bitmap->bits, &other->bits) == 0);
		memcpy(bitmap->words, other->words, sizeof(bitmap->words));
	} else if (!bitmap->bits.chunks) {
		CHECK(cl_shared_bits_new(&bitmap->bits, pool, NR_BITS, value) == 0);
		memset(bitmap->words, value ? 0xff : 0, sizeof(bitmap->words));
	} else if (next_random(seed) % 20 == 0) {
		if (bitmap->bits.mirror)
			CHECK(cl_shared_bits_assign(&bitmap->bits, 0, NR_BITS, false) ==
			      cl_bits_count(bitmap->words, 0, NR_BITS));
		for (i = 0; i < NR_CHUNKS && bitmap->bits.mirror; i++)
			CHECK(!bitmap->mirror[i] && cl_shared_bits_chunk_is_clear(&bitmap->bits, i));
		cl_shared_bits_free(&bitmap->bits);
		return;
	} else if (pool->fd >= 0 && !bitmap->bits.mirror && next_random(seed) % 4 == 0) {
		cl_shared_bits_set_mirror(&bitmap->bits, bitmap->mirror);
	} else if (next_random(seed) % 3 == 0) {
		uint64_t mask = next_random(seed) & cl_bits_mask(from, to), before = bitmap->words[from / 64];
		uint64_t after = value ? before | mask : before & ~mask;

		bitmap->words[from / 64] = after;
		after ^= before;
		CHECK(cl_shared_bits_assign_word(&bitmap->bits, from / 64, mask, value) == cl_bits_count(&after, 0, 64));
	} else {
		if (next_random(seed) % 2) { /* whole chunks */
			from = from / CL_CHUNK_BITS * CL_CHUNK_BITS;
			to = to % 2 ? NR_BITS : from + CL_CHUNK_BITS < NR_BITS ? from + CL_CHUNK_BITS : NR_BITS;
		}
		CHECK(cl_shared_bits_assign(&bitmap->bits, from, to, value) ==
		      cl_bits_assign(bitmap->words, from, to, value));
	}
	compare_bits(&bitmap->bits, bitmap->words, from, to);
	compare_part(&bitmap->bits, bitmap->words, from, to);
	for (i = 0; i < NR_CHUNKS - 1; i++) {
		from = i * CL_CHUNK_BITS;
		to = from + CL_CHUNK_BITS;
		CHECK(cl_shared_bits_chunk_is_clear(&bitmap->bits, i) ==
		      (cl_bits_find(bitmap->words, from, to, true) == to));
		CHECK(cl_shared_bits_chunk_is_full(&bitmap->bits, i) ==
		      (cl_bits_find(bitmap->words, from, to, false) == to));
	}
}

/* max_chunks: that the file has room for; 0: there is no file. Whether more were needed. */
static bool bitmaps_share_what_neither_has_changed(uint64_t seed, uint64_t max_chunks)
{
	static struct bitmap bitmaps[BITMAPS];
	const uint64_t bytes = max_chunks * CL_CHUNK_BITS / 8;
	struct cl_chunk_pool pool = CL_CHUNKS_IN_MEMORY;
	CL_CLEANUP_FD int fd = max_chunks ? memfd_create("bits", MFD_CLOEXEC) : -1;
	bool left_file;
	int step, i;

	if (max_chunks) {
		CHECK(fd >= 0 && ftruncate(fd, CL_PAGE_SIZE + sizeof(uint64_t)) == 0);
		cl_chunk_pool_new(&pool, fd, CL_PAGE_SIZE, bytes);
	}
	for (step = 0; step < 600; step++) {
		change_a_bitmap(bitmaps, &pool, &seed);
		for (i = 0; i < BITMAPS; i++)
			if (bitmaps[i].bits.chunks)
				compare_bits(&bitmaps[i].bits, bitmaps[i].words, 0, NR_BITS);
		if (max_chunks && step % 20 == 0 && !cl_chunk_pool_left_file(&pool))
			compare_found(bitmaps, fd, bytes);
	}
	left_file = cl_chunk_pool_left_file(&pool);
	for (i = 0; i < BITMAPS; i++)
		cl_shared_bits_free(&bitmaps[i].bits);
	CHECK(pool.nr_free == pool.nr - 2 && !pool.nr_wanted);
	cl_chunk_pool_free(&pool);
	return left_file;
}

/* Whoever finds the file could not have the chunk: it must not take it for one without a bit set. */
static void what_the_file_had_no_room_for_is_not_taken_for_found(void)
{
	_Atomic uint32_t mirror[NR_CHUNKS];
	struct cl_chunk_pool pool, found;
	struct cl_shared_bits bits;
	CL_CLEANUP_FD int fd = memfd_create("bits", MFD_CLOEXEC);

	CHECK(fd >= 0 && ftruncate(fd, CL_PAGE_SIZE + sizeof(uint64_t)) == 0);
	cl_chunk_pool_new(&pool, fd, CL_PAGE_SIZE, CL_CHUNK_BITS / 8);
	CHECK(cl_shared_bits_new(&bits, &pool, NR_BITS, true) == 0);
	cl_shared_bits_set_mirror(&bits, mirror);
	CHECK(cl_shared_bits_assign(&bits, 7, 8, false) == 1 && cl_chunk_pool_left_file(&pool));
	cl_shared_bits_free(&bits);
	CHECK(cl_chunk_pool_open(&found, fd, CL_PAGE_SIZE, CL_CHUNK_BITS / 8) == 0);
	CHECK(cl_shared_bits_claim(&bits, &found, mirror, NR_BITS) == -EBADMSG);
	cl_chunk_pool_free(&found);
	cl_chunk_pool_free(&pool);
}

int main(void)
{
	static const uint64_t max_chunks[] = { 0, 16, 1024 };
	int nr_left[] = { 0, 0, 0 };
	uint64_t seed;

	errors_keep_their_code_and_gather_context();
	what_is_owned_is_given_up_unless_it_was_stolen();
	arrays_grow_to_their_limit_and_no_further();
	streams_go_on_after_signals_and_short_counts();
	files_are_read_and_written_exactly();
	threads_leave_signals_to_others();
	waits_end_at_their_deadline_and_not_before();
	threads_become_urgent_where_they_may();
	for (seed = 1; seed <= 9; seed++)
		nr_left[seed % 3] += bitmaps_share_what_neither_has_changed(seed, max_chunks[seed % 3]);
	CHECK(!nr_left[0] && nr_left[1] && !nr_left[2]);
	what_the_file_had_no_room_for_is_not_taken_for_found();
	return 0;
}
