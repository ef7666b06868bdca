/* SPDX-License-Identifier: Apache-2.0 */
/* restored_task: what a test needs to be a task that criu restore has just made, and the page server that has its pages. */
#ifndef RESTORED_TASK_H
#define RESTORED_TASK_H

#include <linux/userfaultfd.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"
#include "base/fd_passing.h"
#include "wire/page_protocol.h"

/* Where the task's memory is going to be: a place that nothing else takes, here and there. */
static inline uint8_t *find_room(uint64_t nr_pages)
{
	void *room = mmap(NULL, nr_pages * CL_PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(room != MAP_FAILED);
	return room;
}

/* Make it, and hand its userfaultfd over on `restore`, which is closed. */
static inline void hand_over(int restore, int32_t pid, uint8_t *memory, uint64_t nr_pages)
{
	struct uffdio_api api = {
		.api = UFFD_API, .features = UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_FORK
	};
	struct uffdio_register range = { .range = { (uintptr_t)memory, nr_pages * CL_PAGE_SIZE },
					 .mode = UFFDIO_REGISTER_MODE_MISSING };
	int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	int32_t last_word = CL_RESTORE_FINISHED;

	CHECK(mmap(memory, nr_pages * CL_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		   0) == (void *)memory);
	CHECK(uffd >= 0 && ioctl(uffd, UFFDIO_API, &api) == 0 && ioctl(uffd, UFFDIO_REGISTER, &range) == 0);
	CHECK(send(restore, &pid, sizeof(pid), 0) == sizeof(pid));
	CHECK(cl_fds_send(restore, "", 1, &uffd, 1) == 0);
	CHECK(send(restore, &last_word, sizeof(last_word), 0) == sizeof(last_word));
	close(uffd);
	close(restore);
}

/* The answer to a GET: pages of ones. False: the client is gone. */
static inline bool answer(int socket, const struct cl_wire_header *get)
{
	static const uint8_t page[CL_PAGE_SIZE] = { 1 };
	struct cl_wire_header header = *get;
	uint8_t raw[CL_WIRE_MAX_BYTES];

	header.cmd = CL_WIRE_ADD_F;
	header.flags = CL_WIRE_FLAG_PRESENT;
	cl_wire_pack(2, &header, raw);
	if (send(socket, raw, CL_WIRE_V2_BYTES, MSG_NOSIGNAL) != CL_WIRE_V2_BYTES)
		return false;
	for (; header.nr_pages; header.nr_pages--)
		if (send(socket, page, sizeof(page), MSG_NOSIGNAL) != sizeof(page))
			return false;
	return true;
}

#endif
