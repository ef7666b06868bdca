/* SPDX-License-Identifier: Apache-2.0 */
/* collapse: give a range of another process's memory its huge page back. */
#include "criu_lazy.h"

#include <errno.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1; glibc's headers have it since 2.37 */
#endif

int cl_collapse(int pidfd, uint64_t start, uint64_t size)
{
	struct iovec range = { .iov_base = (void *)(uintptr_t)start, .iov_len = size };

	return syscall(SYS_process_madvise, pidfd, &range, 1UL, MADV_COLLAPSE, 0U) < 0 ? -errno : 0;
}
