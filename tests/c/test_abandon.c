/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An engine that ends early: once the restore has said its last word, read or not, no missing page reads as zeroes; as
 * long as it hasn't, it can't any more. Here the task is this process, the daemon a child of it.
 */
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "criu_lazy.h"
#include "base/fd_passing.h"
#include "push_images.h"

enum { PID = 4711, PAGES = 64, COME = 11, MOVED = 24 };

static uint8_t *base, *elsewhere;
static sigjmp_buf trap;

static void on_sigbus(int number)
{
	siglongjmp(trap, number);
}

static bool is_poisoned(const volatile uint8_t *page)
{
	if (sigsetjmp(trap, 1))
		return true;
	CHECK(*page == 0);
	return false;
}

static void run_engine(int images_fd, int restore_fd)
{
	struct cl_config config = { .precopied_fd = -1, .log_fd = 2, .images_fd = images_fd, .nr_workers = 1 };
	struct cl_vma vma = { (uintptr_t)base, (uintptr_t)base + PAGES * CL_PAGE_SIZE, 0 };
	struct cl_engine *engine;
	struct cl_error error = { 0 };
	int remote[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, remote) == 0);
	engine = cl_engine_new(&config, &error);
	CHECK(engine && cl_engine_add_task(engine, PID, &vma, 1, &error) == 0);
	CHECK(cl_engine_set_remote(engine, remote[0], &error) == 0);
	/* Its loop ends after its first look, at one message of the restore's. */
	cl_engine_stop(engine);
	CHECK(cl_engine_run(engine, restore_fd, &error) != 0);
	cl_engine_free(engine);
	_exit(0);
}

static void *move(void *argument)
{
	(void)argument;
	/* Returns once somebody has read the event, or nobody can any more. */
	CHECK(mremap(base + MOVED * CL_PAGE_SIZE, 8 * CL_PAGE_SIZE, 8 * CL_PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED,
		     elsewhere) == elsewhere);
	return NULL;
}

static uint8_t *map(void)
{
	uint8_t *memory = mmap(NULL, PAGES * CL_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(memory != MAP_FAILED);
	return memory;
}

static void try(bool finished)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE };
	struct uffdio_register range = { .range = { (uintptr_t)base, PAGES * CL_PAGE_SIZE },
					 .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_zeropage zero = { .range = { (uintptr_t)base + COME * CL_PAGE_SIZE, CL_PAGE_SIZE } };
	int32_t pid = PID, last_word = CL_RESTORE_FINISHED;
	char directory[] = "/tmp/criu-lazy-abandon.XXXXXX";
	int images_fd = make_images(directory, PID, (uintptr_t)base, PAGES), uffd, restore[2], status, page;
	pthread_t mover;
	pid_t child;

	uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	CHECK(uffd >= 0 && ioctl(uffd, UFFDIO_API, &api) == 0 && ioctl(uffd, UFFDIO_REGISTER, &range) == 0);
	/* A page that is there, two VMAs where there was one, and a move that nobody has heard of yet. */
	CHECK(ioctl(uffd, UFFDIO_ZEROPAGE, &zero) == 0);
	CHECK(mprotect(base + 18 * CL_PAGE_SIZE, CL_PAGE_SIZE, PROT_READ) == 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, restore) == 0);
	CHECK(send(restore[0], &pid, sizeof(pid), 0) == sizeof(pid));
	CHECK(cl_fds_send(restore[0], "", 1, &uffd, 1) == 0);
	if (finished)
		CHECK(send(restore[0], &last_word, sizeof(last_word), 0) == sizeof(last_word));
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		close(restore[0]);
		close(uffd);
		run_engine(images_fd, restore[1]);
	}
	close(restore[1]);
	close(uffd);
	CHECK(pthread_create(&mover, NULL, move, NULL) == 0);
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	CHECK(pthread_join(mover, NULL) == 0);
	for (page = 0; page < PAGES; page++) {
		bool was_moved = page >= MOVED && page < MOVED + 8;
		uint8_t *now = was_moved ? elsewhere + (page - MOVED) * CL_PAGE_SIZE : base + page * CL_PAGE_SIZE;

		if (is_poisoned(now) != (finished && page % 8 != 7 && page != COME)) {
			fprintf(stderr, "page %d, %s\n", page, finished ? "finished" : "not finished");
			CHECK(false);
		}
	}
	if (!finished)
		CHECK(send(restore[0], &last_word, sizeof(last_word), MSG_NOSIGNAL) < 0);
	close(restore[0]);
	CHECK(munmap(base, PAGES * CL_PAGE_SIZE) == 0 && munmap(elsewhere, PAGES * CL_PAGE_SIZE) == 0);
	remove_images(directory, PID, images_fd);
}

int main(void)
{
	CHECK(signal(SIGBUS, on_sigbus) != SIG_ERR);
	base = map();
	elsewhere = map();
	try(false);
	base = map();
	elsewhere = map();
	try(true);
	return 0;
}
