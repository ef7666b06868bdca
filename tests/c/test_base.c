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

#include "base/cleanup.h"
#include "base/deadline.h"
#include "base/error.h"
#include "base/io.h"
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

int main(void)
{
	errors_keep_their_code_and_gather_context();
	what_is_owned_is_given_up_unless_it_was_stolen();
	arrays_grow_to_their_limit_and_no_further();
	streams_go_on_after_signals_and_short_counts();
	files_are_read_and_written_exactly();
	threads_leave_signals_to_others();
	waits_end_at_their_deadline_and_not_before();
	threads_become_urgent_where_they_may();
	return 0;
}
