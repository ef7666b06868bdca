/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/madvise_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "wire/page_protocol.h"

enum { RING_PAGES = 16, ADVICE_GUARD_INSTALL = 102, ADVICE_GUARD_REMOVE = 103 };

/* By name, as the advice of newer kernels isn't in older headers; DONTFORK, DOFORK, WIPEONFORK, KEEPONFORK. */
#define FILTER "behavior == 10 || behavior == 11 || behavior == 18 || behavior == 19"
#define FILTER_WITH_GUARDS FILTER " || behavior == 102 || behavior == 103"

struct cl_madvise_ring {
	int fd;
	struct perf_event_mmap_page *head; /* the data follow, a page further on */
	uint64_t until;                    /* so far it is to be taken */
};

/* What the tracepoint records, the same since Linux 3.x on all 64-bit machines: unsigned long arguments. */
struct entry {
	uint64_t common;
	uint64_t number; /* of the system call */
	uint64_t start, length, advice;
};

struct sample {
	uint32_t pid, tid;
	uint32_t raw_size;
} __attribute__((packed));

/* tracefs of its own, mounted nowhere: a descriptor or -errno. */
static int open_tracefs(void)
{
	int context = (int)syscall(SYS_fsopen, "tracefs", 1U /* FSOPEN_CLOEXEC */), fd, error;

	if (context < 0)
		return -errno;
	fd = (int)syscall(SYS_fsconfig, context, 6U /* FSCONFIG_CMD_CREATE */, NULL, NULL, 0);
	if (fd >= 0)
		fd = (int)syscall(SYS_fsmount, context, 1U /* FSMOUNT_CLOEXEC */, 0U);
	error = errno;
	close(context);
	return fd < 0 ? -error : fd;
}

/* The tracepoint's number, or -errno. */
static long tracepoint(void)
{
	char text[24] = "";
	int tracefs = open_tracefs(), fd;
	ssize_t got;

	if (tracefs < 0)
		return tracefs;
	fd = openat(tracefs, "events/syscalls/sys_enter_madvise/id", O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		got = -errno;
		close(tracefs);
		return got;
	}
	got = read(fd, text, sizeof(text) - 1);
	close(fd);
	close(tracefs);
	return got > 0 ? strtol(text, NULL, 10) : -EIO;
}

/* Where the kernel has no guards, a call for them changes nothing. */
static bool has_guards(void)
{
	void *page = mmap(NULL, CL_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool has = page == MAP_FAILED || madvise(page, CL_PAGE_SIZE, ADVICE_GUARD_INSTALL) == 0;

	if (page != MAP_FAILED)
		munmap(page, CL_PAGE_SIZE);
	return has;
}

/* 0 or -errno; -ENODEV: there is no such CPU now. */
static int open_ring(struct cl_madvise_ring *ring, int cpu, uint64_t id, const char *filter)
{
	struct perf_event_attr what = { .type = PERF_TYPE_TRACEPOINT,
					.size = sizeof(what),
					.config = id,
					.sample_period = 1,
					.sample_type = PERF_SAMPLE_TID | PERF_SAMPLE_RAW,
					.disabled = 1,
					.watermark = 1,
					.wakeup_watermark = RING_PAGES * CL_PAGE_SIZE / 4 };
	void *map;
	int error;

	ring->fd = (int)syscall(SYS_perf_event_open, &what, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
	if (ring->fd < 0)
		return -errno;
	map = mmap(NULL, (1 + RING_PAGES) * CL_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, 0);
	if (map != MAP_FAILED && ioctl(ring->fd, PERF_EVENT_IOC_SET_FILTER, filter) == 0 &&
	    ioctl(ring->fd, PERF_EVENT_IOC_ENABLE, 0) == 0) {
		ring->head = map;
		return 0;
	}
	error = -errno;
	if (map != MAP_FAILED)
		munmap(map, (1 + RING_PAGES) * CL_PAGE_SIZE);
	close(ring->fd);
	return error;
}

int cl_madvise_watch_start(struct cl_madvise_watch *watch)
{
	long id = sysconf(_SC_PAGESIZE) == CL_PAGE_SIZE ? tracepoint() : -EOPNOTSUPP, cpus = sysconf(_SC_NPROCESSORS_CONF);
	const char *filter = has_guards() ? FILTER_WITH_GUARDS : FILTER;
	int ret = 0, cpu;

	*watch = (struct cl_madvise_watch){ 0 };
	if (id < 0)
		return (int)id;
	watch->rings = calloc(cpus > 0 ? (size_t)cpus : 1, sizeof(*watch->rings));
	if (!watch->rings)
		return -ENOMEM;
	for (cpu = 0; cpu < cpus && (ret == 0 || ret == -ENODEV); cpu++) {
		ret = open_ring(&watch->rings[watch->nr_rings], cpu, (uint64_t)id, filter);
		if (ret == 0)
			watch->nr_rings++;
	}
	if (ret == -ENODEV)
		ret = 0;
	if (ret < 0)
		cl_madvise_watch_stop(watch);
	return ret;
}

int cl_madvise_watch_poll(const struct cl_madvise_watch *watch, int epoll_fd, void *tag)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = tag };
	unsigned int i;

	for (i = 0; i < watch->nr_rings; i++)
		if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, watch->rings[i].fd, &event) < 0)
			return -errno;
	return 0;
}

void cl_madvise_watch_stop(struct cl_madvise_watch *watch)
{
	while (watch->nr_rings) {
		struct cl_madvise_ring *ring = &watch->rings[--watch->nr_rings];

		munmap(ring->head, (1 + RING_PAGES) * CL_PAGE_SIZE);
		close(ring->fd);
	}
	free(watch->rings);
	watch->rings = NULL;
}

void cl_madvise_watch_begin(struct cl_madvise_watch *watch)
{
	unsigned int i;

	/* Acquire: the records were written before the head that tells of them. */
	for (i = 0; i < watch->nr_rings; i++)
		watch->rings[i].until = __atomic_load_n(&watch->rings[i].head->data_head, __ATOMIC_ACQUIRE);
}

/* The tail is our own. */
static bool has_more(const struct cl_madvise_ring *ring)
{
	return __atomic_load_n(&ring->head->data_tail, __ATOMIC_RELAXED) != ring->until;
}

/* Bytes from the ring, which may wrap. */
static void copy_out(const struct cl_madvise_ring *ring, uint64_t at, void *out, size_t bytes)
{
	const uint8_t *data = (const uint8_t *)ring->head + CL_PAGE_SIZE;
	size_t first;

	at %= RING_PAGES * CL_PAGE_SIZE;
	first = RING_PAGES * CL_PAGE_SIZE - at < bytes ? RING_PAGES * CL_PAGE_SIZE - at : bytes;
	memcpy(out, data + at, first);
	memcpy((uint8_t *)out + first, data, bytes - first);
}

/* Take the ring's oldest record. False: it is no call. */
static bool take(struct cl_madvise_ring *ring, struct cl_madvise_call *call, bool *lost)
{
	uint64_t at = __atomic_load_n(&ring->head->data_tail, __ATOMIC_RELAXED);
	struct perf_event_header header;
	struct sample sample = { 0 };
	struct entry entry = { 0 };
	bool is_call;

	copy_out(ring, at, &header, sizeof(header));
	is_call = header.type == PERF_RECORD_SAMPLE && header.size >= sizeof(header) + sizeof(sample) + sizeof(entry);
	if (is_call) {
		copy_out(ring, at + sizeof(header), &sample, sizeof(sample));
		copy_out(ring, at + sizeof(header) + sizeof(sample), &entry, sizeof(entry));
	}
	*lost |= header.type == PERF_RECORD_LOST;
	/* Release: the kernel may write there from now on. */
	__atomic_store_n(&ring->head->data_tail, at + header.size, __ATOMIC_RELEASE);
	/* Refused by the kernel: the start must be a page's, and the length is rounded up. */
	if (!is_call || entry.start % CL_PAGE_SIZE || !entry.length || entry.start + entry.length < entry.start)
		return false;
	*call = (struct cl_madvise_call){ .process = (pid_t)sample.pid,
					  .thread = (pid_t)sample.tid,
					  .kind = entry.advice == ADVICE_GUARD_INSTALL ? CL_GUARDS :
						  entry.advice == ADVICE_GUARD_REMOVE  ? CL_NO_GUARDS :
											 CL_FOR_FORKS,
					  .start = entry.start,
					  .end = (entry.start + entry.length + CL_PAGE_SIZE - 1) / CL_PAGE_SIZE *
						 CL_PAGE_SIZE };
	return call->end > call->start;
}

bool cl_madvise_watch_take(struct cl_madvise_watch *watch, struct cl_madvise_call *call, bool *lost)
{
	unsigned int i;

	for (i = 0; i < watch->nr_rings; i++)
		while (has_more(&watch->rings[i]))
			if (take(&watch->rings[i], call, lost))
				return true;
	return false;
}
