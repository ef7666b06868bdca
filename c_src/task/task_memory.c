/* SPDX-License-Identifier: Apache-2.0 */
#include "task/task_memory.h"
#include "base/cleanup.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OFF_CPU_TRIES = 1000, OFF_CPU_LOOK_US = 1000 };

int cl_task_memory_open(struct cl_task_memory *memory, pid_t pid)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	*memory = cl_task_memory_closed(pid);
	memory->mem_fd = open(path, O_RDONLY | O_CLOEXEC);
	return memory->mem_fd < 0 ? -errno : 0;
}

void cl_task_memory_close(struct cl_task_memory *memory)
{
	if (memory->mem_fd >= 0)
		close(memory->mem_fd);
	memory->mem_fd = -1;
	if (memory->status_fd >= 0)
		close(memory->status_fd);
	memory->status_fd = -1;
}

/*
 * How often the first thread was switched away from, which no stop after another leaves as it was. 0; -EBUSY: the task is
 * not stopped; -ESRCH: it was killed, or is about to die; or another -errno.
 */
static int read_status(int status_fd, uint64_t *switches)
{
	static const char *const names[] = { "\nvoluntary_ctxt_switches:", "\nnonvoluntary_ctxt_switches:" };
	static const uint64_t killed = UINT64_C(1) << (SIGKILL - 1); /* stays among what is pending for the process */
	char text[8192];
	const char *field;
	ssize_t got = pread(status_fd, text, sizeof(text) - 1, 0);

	if (got <= 0)
		return got < 0 ? -errno : -ESRCH;
	text[got] = '\0';
	field = strstr(text, "\nShdPnd:\t");
	if (!field)
		return -EPROTO;
	if (strtoull(field + strlen("\nShdPnd:\t"), NULL, 16) & killed)
		return -ESRCH;
	field = strstr(text, "\nState:\t");
	if (!field)
		return -EPROTO;
	if (field[strlen("\nState:\t")] != 'T')
		return -EBUSY;
	*switches = 0;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		field = strstr(text, names[i]);
		if (!field)
			return -EPROTO;
		*switches += strtoull(field + strlen(names[i]), NULL, 10);
	}
	return 0;
}

/*
 * A task whose state says that it is stopped may still be on its way off the CPU, and is counted as switched away then.
 * /proc/PID/syscall tells: it reads "running" until it is off. Looks so many times. 0, -EBUSY or -errno.
 */
static int await_off_cpu(pid_t pid, unsigned int tries)
{
	CL_CLEANUP_FD int fd = -1;
	char path[32], text[16];

	snprintf(path, sizeof(path), "/proc/%d/syscall", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return access("/proc/self/syscall", F_OK) < 0 ? 0 : -ESRCH; /* a kernel without */
	if (fd < 0)
		return -errno;
	for (;; tries--) {
		ssize_t got = pread(fd, text, sizeof(text), 0);

		if (got <= 0)
			return got < 0 ? -errno : -ESRCH;
		if (text[0] != 'r')
			return 0;
		if (tries <= 1)
			return -EBUSY;
		usleep(OFF_CPU_LOOK_US);
	}
}

int cl_task_memory_note_stop(struct cl_task_memory *memory)
{
	char path[32];
	int ret;

	snprintf(path, sizeof(path), "/proc/%d/status", memory->pid);
	if (memory->status_fd < 0)
		memory->status_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (memory->status_fd < 0)
		return -errno;
	ret = read_status(memory->status_fd, &memory->switches);
	if (ret == 0)
		ret = await_off_cpu(memory->pid, OFF_CPU_TRIES);
	return ret < 0 ? ret : read_status(memory->status_fd, &memory->switches);
}

int cl_task_memory_check_stop(const struct cl_task_memory *memory)
{
	uint64_t switches;
	int off_cpu = await_off_cpu(memory->pid, 1), ret;

	/* Whatever it executed until it was off the CPU is counted by now. */
	ret = read_status(memory->status_fd, &switches);
	if (ret < 0 || off_cpu < 0)
		return ret < 0 ? ret : off_cpu;
	return switches == memory->switches ? 0 : -EBUSY;
}

static int read_mem(const struct cl_task_memory *memory, uint64_t address, uint8_t *out, size_t bytes)
{
	int ret = cl_pread_all(memory->mem_fd, out, bytes, (off_t)address);

	return ret == -EBADMSG ? -ESRCH : ret; /* its address space is gone */
}

int cl_task_memory_read_shared(const struct cl_task_memory *memory, uint64_t address, uint8_t *out, size_t bytes)
{
	return read_mem(memory, address, out, bytes);
}

int cl_task_memory_read(const struct cl_task_memory *memory, uint64_t address, uint8_t *out, size_t bytes)
{
	struct iovec local = { .iov_base = out, .iov_len = bytes };
	struct iovec remote = { .iov_base = (void *)(uintptr_t)address, .iov_len = bytes };
	ssize_t got = process_vm_readv(memory->pid, &local, 1, &remote, 1, 0);
	uint8_t first;

	if (got < 0)
		got = 0;
	if ((size_t)got < bytes)
		return read_mem(memory, address + (uint64_t)got, out + got, bytes - (size_t)got);
	/* The address space still lives: so it was this one that was read, not another task's of the same pid. */
	return read_mem(memory, address, &first, 1);
}
