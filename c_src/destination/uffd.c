/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/uffd.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define LOWEST_ADDRESS (1ULL << 16) /* vm.mmap_min_addr */

#ifndef UFFDIO_POISON /* headers older than Linux 6.6 */
struct uffdio_poison {
	struct uffdio_range range;
	__u64 mode;
	__s64 updated;
};
#define UFFDIO_POISON _IOWR(UFFDIO, 0x08, struct uffdio_poison)
#endif

int cl_uffd_read(int uffd, struct uffd_msg *events, size_t max)
{
	ssize_t bytes;

	do
		bytes = read(uffd, events, max * sizeof(*events));
	while (bytes < 0 && errno == EINTR);
	if (bytes < 0)
		return errno == EAGAIN ? 0 : -errno;
	return (int)((size_t)bytes / sizeof(*events));
}

/* The kernel tells what it did in a signed count, or a negative errno there. */
static int result(int ret, int64_t count, uint64_t *done_bytes)
{
	int error = ret < 0 ? -errno : 0;

	*done_bytes = count > 0 ? (uint64_t)count : 0;
	return error == -ENOSPC ? -ESRCH : error;
}

int cl_uffd_copy(int uffd, uint64_t address, const void *data, uint64_t length, uint64_t *done_bytes)
{
	struct uffdio_copy copy = { .dst = address, .src = (uint64_t)(uintptr_t)data, .len = length };
	int ret = ioctl(uffd, UFFDIO_COPY, &copy);

	return result(ret, copy.copy, done_bytes);
}

int cl_uffd_zero(int uffd, uint64_t address, uint64_t length, uint64_t *done_bytes)
{
	struct uffdio_zeropage zero = { .range = { .start = address, .len = length } };
	int ret = ioctl(uffd, UFFDIO_ZEROPAGE, &zero);

	return result(ret, zero.zeropage, done_bytes);
}

int cl_uffd_wake(int uffd, uint64_t address, uint64_t length)
{
	struct uffdio_range range = { .start = address, .len = length };

	return ioctl(uffd, UFFDIO_WAKE, &range) < 0 ? -errno : 0;
}

int cl_uffd_wake_all(int uffd)
{
	/* The kernel takes no range that goes beyond the task's addresses, and these it doesn't tell. */
	uint64_t end = 1ULL << 56;
	int ret = -EINVAL;

	for (; ret == -EINVAL && end >= 1ULL << 32; end /= 2) {
		ret = cl_uffd_wake(uffd, LOWEST_ADDRESS, end - 4096 - LOWEST_ADDRESS);
		if (ret == -EINVAL) /* of 32 bits */
			ret = cl_uffd_wake(uffd, LOWEST_ADDRESS, end - 2 * 4096 - LOWEST_ADDRESS);
	}
	return ret;
}

bool cl_uffd_is_changing(int uffd)
{
	/* That is looked at first: a copy of nothing, which is refused, asks for nothing else. */
	struct uffdio_copy nothing = { .len = 0 };

	return ioctl(uffd, UFFDIO_COPY, &nothing) < 0 && errno == EAGAIN;
}

int cl_uffd_has(int uffd, uint64_t address, uint64_t length)
{
	/* Private anonymous memory can't be continued: refused with EINVAL, after the VMA was found (else ENOENT). */
	struct uffdio_continue probe = { .range = { .start = address, .len = length } };

	if (ioctl(uffd, UFFDIO_CONTINUE, &probe) < 0 && (errno == EAGAIN || errno == ENOENT))
		return errno == EAGAIN ? -EAGAIN : 0;
	return 1;
}

bool cl_uffd_is_alive(int uffd)
{
	/* Whatever is there, or isn't: nothing is installed (see above). */
	struct uffdio_continue probe = { .range = { .start = 1 << 30, .len = 4096 } };

	return ioctl(uffd, UFFDIO_CONTINUE, &probe) >= 0 || (errno != ESRCH && errno != ENOSPC);
}

int cl_uffd_poison(int uffd, uint64_t address, uint64_t length, uint64_t *done_bytes)
{
	struct uffdio_poison poison = { .range = { .start = address, .len = length } };
	int ret = ioctl(uffd, UFFDIO_POISON, &poison);

	return result(ret, poison.updated, done_bytes);
}
