/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork_advice and madvise_watch: a process that called execve has nothing of what its forefathers' memory is to be; and
 * who asks what madvise(2) was called with is told of what came before, and not kept by what goes on coming.
 */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "destination/fork_advice.h"
#include "destination/madvise_watch.h"
#include "wire/page_protocol.h"

enum { SKIPPED = 77 };

static bool is_this(const void *context, pid_t process)
{
	return process == *(const pid_t *)context;
}

/* A child that waits, as it is or after an execve; whose child it is, by another between them if `far`. */
static pid_t child_of_ours(bool execs, bool far, pid_t *between)
{
	int told[2];
	pid_t pid;

	CHECK(pipe2(told, O_CLOEXEC) == 0);
	*between = fork();
	CHECK(*between >= 0);
	if (!*between) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pid = far ? fork() : 0;
		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			pid = getpid();
			CHECK(write(told[1], &pid, sizeof(pid)) == sizeof(pid));
			if (execs)
				execl("/bin/sleep", "sleep", "60", NULL);
			close(told[1]);
			pause();
		}
		close(told[1]);
		pause();
	}
	close(told[1]);
	CHECK(read(told[0], &pid, sizeof(pid)) == sizeof(pid));
	CHECK(read(told[0], &told[1], 1) == 0); /* it has done it */
	close(told[0]);
	return pid;
}

static void descent(void)
{
	int execs, far;

	for (execs = 0; execs < 2; execs++)
		for (far = 0; far < 2; far++) {
			pid_t self = getpid(), between, pid = child_of_ours(execs, far, &between);

			CHECK(cl_process_ancestor(pid, is_this, &self) == (execs ? 0 : self));
			kill(between, SIGKILL);
			CHECK(waitpid(between, NULL, 0) == between);
		}
	execs = getpid();
	CHECK(cl_process_ancestor(getpid(), is_this, &execs) == execs);
}

static unsigned int calls_of_ours(struct cl_madvise_watch *watch, const void *page)
{
	struct cl_madvise_call call;
	bool lost = false;
	unsigned int nr = 0;

	while (cl_madvise_watch_take(watch, &call, &lost))
		nr += call.process == getpid() && call.start == (uint64_t)(uintptr_t)page;
	return nr;
}

static void no_more_than_there_was(void)
{
	struct cl_madvise_watch watch;
	void *page = mmap(NULL, CL_PAGE_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(page != MAP_FAILED);
	if (cl_madvise_watch_start(&watch) < 0)
		_exit(SKIPPED);
	CHECK(madvise(page, CL_PAGE_SIZE, MADV_DONTFORK) == 0);
	cl_madvise_watch_begin(&watch);
	CHECK(madvise(page, CL_PAGE_SIZE, MADV_DOFORK) == 0);
	CHECK(calls_of_ours(&watch, page) == 1);
	CHECK(calls_of_ours(&watch, page) == 0);
	cl_madvise_watch_begin(&watch);
	CHECK(calls_of_ours(&watch, page) == 1);
	cl_madvise_watch_stop(&watch);
	munmap(page, CL_PAGE_SIZE);
}

int main(void)
{
	descent();
	no_more_than_there_was();
	return 0;
}
