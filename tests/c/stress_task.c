/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The task of stress_engine.c: memory that is missing at first and handed over as criu restore does; threads that
 * read, write, remap, unmap, drop and fork, and know what every word must be. Ends with status 0 if all was right.
 * Churning, they mostly move a page or two, at full speed, to where another thread's pages were just now.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stress.h"

/* A thread's pages, where they are now, and what they must hold: version 0 is the dump's content. */
struct slice {
	pthread_t thread;
	uint64_t seed;
	uint64_t *at[SLICE_PAGES];     /* NULL: unmapped */
	uint64_t version[SLICE_PAGES]; /* UINT64_MAX: zeroes */
	uint64_t first;                /* page number */
	uint64_t checks;
};

static volatile int task_ends;
static bool churn;

static uint64_t expected(const struct slice *slice, unsigned int page, unsigned int word)
{
	if (slice->version[page] == UINT64_MAX)
		return 0;
	if (slice->version[page])
		return slice->version[page] + word;
	return word_at_dump(slice->first + page, word);
}

static void check_page(struct slice *slice, unsigned int page)
{
	unsigned int word;

	if (!slice->at[page])
		return;
	for (word = 0; word < WORDS; word += 73) {
		uint64_t found = *(volatile uint64_t *)&slice->at[page][word];

		if (found != expected(slice, page, word)) {
			fprintf(stderr, "slice page %u word %u: 0x%llx, expected 0x%llx (version %llx)\n", page, word,
				(unsigned long long)found, (unsigned long long)expected(slice, page, word),
				(unsigned long long)slice->version[page]);
			_exit(1);
		}
	}
	slice->checks++;
}

static void write_page(struct slice *slice, unsigned int page)
{
	unsigned int word;

	if (!slice->at[page])
		return;
	slice->version[page] = next_random(&slice->seed) >> 1 | 1;
	for (word = 0; word < WORDS; word++)
		slice->at[page][word] = slice->version[page] + word;
}

/* Pages [page, page + n) that lie side by side in memory; shortens n to that. */
static unsigned int stretch(const struct slice *slice, unsigned int page, unsigned int n)
{
	unsigned int i;

	if (!slice->at[page])
		return 0;
	for (i = 1; i < n && page + i < SLICE_PAGES; i++)
		if (slice->at[page + i] != slice->at[page] + i * WORDS)
			break;
	return i;
}

static void drop_pages(struct slice *slice, unsigned int page, unsigned int n)
{
	n = stretch(slice, page, n);
	if (!n)
		return;
	CHECK(madvise(slice->at[page], n * CL_PAGE_SIZE, MADV_DONTNEED) == 0);
	while (n--)
		slice->version[page + n] = UINT64_MAX;
}

static void unmap_pages(struct slice *slice, unsigned int page, unsigned int n)
{
	n = stretch(slice, page, n);
	if (!n)
		return;
	CHECK(munmap(slice->at[page], n * CL_PAGE_SIZE) == 0);
	while (n--)
		slice->at[page + n] = NULL;
}

static void move_pages_away(struct slice *slice, unsigned int page, unsigned int n)
{
	uint64_t *to;
	unsigned int i;

	n = stretch(slice, page, n);
	if (!n)
		return;
	/* A place of its own; the reservation is replaced by the move. */
	to = mmap(NULL, n * CL_PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	CHECK(to != MAP_FAILED);
	to = mremap(slice->at[page], n * CL_PAGE_SIZE, n * CL_PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, to);
	if (to == MAP_FAILED) {
		/* A stretch of several VMAs can't be moved at once (before Linux 6.17). */
		CHECK(errno == EFAULT || errno == EINVAL);
		return;
	}
	for (i = 0; i < n; i++)
		slice->at[page + i] = to + i * WORDS;
}

/* A child checks the whole slice as of the fork, some of it in a child of its own. */
static void fork_and_check(struct slice *slice, int depth)
{
	pid_t child = fork();
	unsigned int page;
	int status;

	CHECK(child >= 0);
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (page = 0; page < SLICE_PAGES; page += 1 + (unsigned int)(next_random(&slice->seed) % 8)) {
			if (depth && page > 300 && page < 310)
				fork_and_check(slice, depth - 1);
			check_page(slice, page);
		}
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child);
	if (status != 0) {
		fprintf(stderr, "a forked child ended with status 0x%x\n", status);
		_exit(1);
	}
}

enum { MOVE = 2 };

static void *live(void *argument)
{
	struct slice *slice = argument;

	while (!task_ends) {
		uint64_t dice = next_random(&slice->seed);
		unsigned int page = (unsigned int)(dice >> 32) % SLICE_PAGES;
		unsigned int n = 1 + (unsigned int)(dice >> 8) % (churn ? 2 : 32), i;

		switch (churn && (dice >> 20) % 4 ? MOVE : dice % 64) {
		case 0:
			drop_pages(slice, page, n);
			break;
		case 1:
			if (dice % 7 == 0)
				unmap_pages(slice, page, n / 4 + 1);
			break;
		case MOVE:
		case MOVE + 1:
			move_pages_away(slice, page, n);
			break;
		case 4:
			if (dice % 3 == 0)
				fork_and_check(slice, 1);
			break;
		case 5:
		case 6:
		case 7:
			write_page(slice, page);
			break;
		default:
			for (i = page; i < page + 4 && i < SLICE_PAGES; i++)
				check_page(slice, i);
		}
		if (!churn)
			usleep(20);
	}
	for (unsigned int page = 0; page < SLICE_PAGES; page++)
		check_page(slice, page);
	return NULL;
}

static void send_fd(int socket, int fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	char dummy = 0;
	struct iovec part = { &dummy, 1 };
	struct msghdr message = {
		.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	CHECK(sendmsg(socket, &message, 0) == 1);
}

/* Arguments: socket to the engine, a pipe that closes when the engine has finished, seed, 1 to churn. */
int main(int argc, char **argv)
{
	int restore, done;
	uint64_t seed;
	static struct slice slices[THREADS];
	struct uffdio_api api = { .api = UFFD_API,
				  .features = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_UNMAP |
					      UFFD_FEATURE_EVENT_REMOVE };
	struct uffdio_register range = { .range = { (uintptr_t)BASE, (uint64_t)PAGES * CL_PAGE_SIZE },
					 .mode = UFFDIO_REGISTER_MODE_MISSING };
	int32_t pid = PID, finished = 0x52535446;
	unsigned int i, page;
	char byte;
	int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	CHECK(argc == 5);
	restore = atoi(argv[1]);
	done = atoi(argv[2]);
	seed = strtoull(argv[3], NULL, 10);
	churn = argv[4][0] == '1';
	CHECK(uffd >= 0 && ioctl(uffd, UFFDIO_API, &api) == 0);
	CHECK(mmap(BASE, (size_t)PAGES * CL_PAGE_SIZE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == BASE);
	CHECK(ioctl(uffd, UFFDIO_REGISTER, &range) == 0);
	CHECK(send(restore, &pid, sizeof(pid), 0) == sizeof(pid));
	send_fd(restore, uffd);
	close(uffd);
	CHECK(send(restore, &finished, sizeof(finished), 0) == sizeof(finished));
	close(restore);
	for (i = 0; i < THREADS; i++) {
		slices[i].seed = seed * THREADS + i;
		slices[i].first = i * SLICE_PAGES;
		for (page = 0; page < SLICE_PAGES; page++) {
			slices[i].at[page] = (uint64_t *)(void *)BASE + (slices[i].first + page) * WORDS;
			slices[i].version[page] = is_lazy(slices[i].first + page) ? 0 : UINT64_MAX;
		}
		CHECK(pthread_create(&slices[i].thread, NULL, live, &slices[i]) == 0);
	}
	CHECK(read(done, &byte, 1) == 0);
	task_ends = 1;
	for (i = 0; i < THREADS; i++)
		pthread_join(slices[i].thread, NULL);
	_exit(0);
}
