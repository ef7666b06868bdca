/* SPDX-License-Identifier: Apache-2.0 */
/* uffd_task: waits; on SIGUSR1 it has a part of its memory watched by a userfaultfd of its own, and creates the file "watched". */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = { .range.len = 1 << 20, .mode = UFFDIO_REGISTER_MODE_MISSING };
	sigset_t set;
	void *memory;
	int uffd, number;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sigwait(&set, &number);
	uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	memory = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (uffd < 0 || memory == MAP_FAILED || ioctl(uffd, UFFDIO_API, &api) < 0)
		return 1;
	range.range.start = (unsigned long)memory;
	if (ioctl(uffd, UFFDIO_REGISTER, &range) < 0 || close(open("watched", O_CREAT | O_WRONLY, 0600)) < 0)
		return 1;
	sigwait(&set, &number);
	return 0;
}
