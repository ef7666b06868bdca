/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guardian (uffd_guardian.h) of a daemon that is killed: does a thread that touches a missing page wait, or is it let
 * go? Here the task is this process, the daemon a child of it which only sets the guardian up.
 */
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

#include "check.h"
#include "base/fd_passing.h"
#include "destination/uffd_guardian.h"
#include "wire/page_protocol.h"

enum { SETTLE_US = 300000 };

enum moment {
	BEFORE_THE_END, /* the restore isn't finished when the daemon dies */
	END_UNREAD,     /* it is, and the daemon has not read it */
	TASK_UNREAD,    /* nor the last task's userfaultfd */
	AFTER_THE_END,
	RELEASED, /* after the end, and nothing is needed any more */
};

/* Shared with the daemon. */
struct notes {
	_Atomic pid_t guardian;
	_Atomic int ready;
};

static int new_uffd(void *page)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = { .range = { (uintptr_t)page, CL_PAGE_SIZE }, .mode = UFFDIO_REGISTER_MODE_MISSING };
	int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	CHECK(uffd >= 0 && ioctl(uffd, UFFDIO_API, &api) == 0 && ioctl(uffd, UFFDIO_REGISTER, &range) == 0);
	return uffd;
}

static void daemon_until_killed(enum moment moment, int restore, int uffd, struct notes *notes)
{
	struct cl_log log = { .fd = 2, .level = 0 };
	struct cl_uffd_guardian guardian;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	CHECK(cl_uffd_guardian_start(&guardian, &log, restore, -1) == 0);
	notes->guardian = guardian.pid;
	if (moment != TASK_UNREAD)
		cl_uffd_guardian_add(&guardian, 1, uffd);
	close(uffd);
	if (moment == AFTER_THE_END || moment == RELEASED)
		cl_uffd_guardian_restored(&guardian);
	if (moment == RELEASED)
		cl_uffd_guardian_release(&guardian, 1);
	notes->ready = 1;
	for (;;)
		pause();
}

static void *touch(void *argument)
{
	CHECK(*(volatile uint8_t *)argument == 0);
	return NULL;
}

static void try(enum moment moment, bool waits)
{
	struct notes *notes = mmap(NULL, sizeof(*notes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	void *page = mmap(NULL, CL_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int32_t pid = 1, finished = CL_RESTORE_FINISHED;
	int uffd = new_uffd(page), restore[2];
	pthread_t toucher;
	pid_t child;

	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, restore) == 0);
	child = fork();
	if (child == 0) {
		close(restore[0]);
		daemon_until_killed(moment, restore[1], uffd, notes);
	}
	close(restore[1]);
	while (!notes->ready)
		usleep(1000);
	if (moment == TASK_UNREAD) {
		CHECK(send(restore[0], &pid, sizeof(pid), 0) == sizeof(pid));
		CHECK(cl_fds_send(restore[0], "", 1, &uffd, 1) == 0);
	}
	close(uffd);
	if (moment == END_UNREAD || moment == TASK_UNREAD)
		CHECK(send(restore[0], &finished, sizeof(finished), 0) == sizeof(finished));
	CHECK(pthread_create(&toucher, NULL, touch, page) == 0);
	CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
	usleep(SETTLE_US);
	CHECK((pthread_tryjoin_np(toucher, NULL) != 0) == waits);
	/* A restore that could not finish must not believe that it did. */
	if (moment == BEFORE_THE_END)
		CHECK(send(restore[0], &finished, sizeof(finished), MSG_NOSIGNAL) < 0);
	/* The guardian, an orphan, is ours now. */
	CHECK((waitpid(notes->guardian, NULL, WNOHANG) == 0) == waits);
	if (waits) {
		CHECK(kill(notes->guardian, SIGTERM) == 0);
		usleep(SETTLE_US);
		CHECK(pthread_tryjoin_np(toucher, NULL) != 0);
		CHECK(kill(notes->guardian, SIGKILL) == 0 && waitpid(notes->guardian, NULL, 0) == notes->guardian);
		CHECK(pthread_join(toucher, NULL) == 0);
	}
	close(restore[0]);
	munmap(page, CL_PAGE_SIZE);
	munmap(notes, sizeof(*notes));
}

int main(void)
{
	CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
	try(BEFORE_THE_END, false);
	try(END_UNREAD, true);
	try(TASK_UNREAD, true);
	try(AFTER_THE_END, true);
	try(RELEASED, false);
	return 0;
}
