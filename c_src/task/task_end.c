/* SPDX-License-Identifier: Apache-2.0 */
#include "task/task_end.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Headers older than Linux 6.15 don't have these. */
struct pidfd_info_v0 {
	uint64_t mask, cgroup;
	uint32_t ids[11]; /* pid, tgid, ppid, and the credentials' eight */
	int32_t exit_code;
};

_Static_assert(sizeof(struct pidfd_info_v0) == 64, "the first version of struct pidfd_info");

#define GET_INFO _IOWR(0xFF, 11, struct pidfd_info_v0)
#define INFO_EXIT (1ULL << 3)

/* What of /proc/PID/stat is wanted. */
struct stat_line {
	char state;
	uint64_t began;  /* field 22 */
	uint64_t memory; /* field 23: bytes of virtual memory; 0: there is none */
	int exit_code;   /* field 52 */
};

/* 0 or -errno. */
static int read_stat(pid_t pid, struct stat_line *line)
{
	char path[32], text[1024], *at, *next;
	int fd, field, error;
	ssize_t got;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	got = read(fd, text, sizeof(text) - 1);
	error = errno;
	close(fd);
	if (got < 0)
		return -error;
	text[got] = 0;
	at = strrchr(text, ')'); /* the name before it may hold anything */
	if (!at || at[1] != ' ')
		return -EBADMSG;
	at += 2;
	*line = (struct stat_line){ .state = *at };
	for (field = 3; field < 52; field++) {
		next = strchr(at, ' ');
		if (!next)
			return -EBADMSG;
		at = next + 1;
		if (field + 1 == 22)
			line->began = strtoumax(at, NULL, 10);
		else if (field + 1 == 23)
			line->memory = strtoumax(at, NULL, 10);
	}
	line->exit_code = (int)strtoimax(at, NULL, 10);
	return 0;
}

void cl_task_close(struct cl_task *task)
{
	if (task->pidfd >= 0)
		close(task->pidfd);
	task->pidfd = -1;
}

/* Whether /proc is of our pid namespace: whether it calls this process as we do. */
static bool is_called(int pidfd, pid_t pid)
{
	char path[48], text[512] = "", *at;
	ssize_t got = -1;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	got = read(fd, text, sizeof(text) - 1);
	close(fd);
	at = got > 0 ? strstr(text, "\nPid:") : NULL;
	return at && strtoimax(at + strlen("\nPid:"), NULL, 10) == pid;
}

void cl_task_open(struct cl_task *task, pid_t pid)
{
	struct stat_line line;

	*task = CL_NO_TASK;
	if (pid <= 0)
		return;
	task->pid = pid;
	task->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (task->pidfd < 0)
		return;
	if (is_called(task->pidfd, pid) && read_stat(pid, &line) == 0)
		task->began = line.began;
	else
		cl_task_close(task);
}

void cl_task_adopt(struct cl_task *task, int pidfd, pid_t pid, uint64_t began)
{
	if (pidfd < 0) {
		cl_task_open(task, pid);
		if (task->pidfd >= 0 && task->began != began)
			cl_task_close(task);
		pidfd = task->pidfd;
	}
	*task = (struct cl_task){ .pidfd = pidfd, .pid = pid, .began = began };
}

bool cl_task_has_ended(const struct cl_task *task)
{
	struct pollfd end = { .fd = task->pidfd, .events = POLLIN };

	return task->pidfd >= 0 && poll(&end, 1, 0) > 0;
}

bool cl_task_has_memory(const struct cl_task *task)
{
	struct stat_line line;

	return task->pidfd >= 0 && read_stat(task->pid, &line) == 0 && line.began == task->began && line.memory;
}

static struct cl_end end_of(int wait_status)
{
	if (WIFEXITED(wait_status))
		return (struct cl_end){ CL_END_EXIT, WEXITSTATUS(wait_status) };
	if (WIFSIGNALED(wait_status))
		return (struct cl_end){ CL_END_SIGNAL, WTERMSIG(wait_status) };
	return (struct cl_end){ CL_END_UNKNOWN, 0 };
}

bool cl_task_how_by_pidfd(const struct cl_task *task, struct cl_end *end)
{
	struct pidfd_info_v0 info = { .mask = INFO_EXIT };

	if (task->pidfd < 0 || ioctl(task->pidfd, GET_INFO, &info) < 0 || !(info.mask & INFO_EXIT))
		return false;
	*end = end_of(info.exit_code);
	return end->how != CL_END_UNKNOWN;
}

/* To who may not know it, /proc tells 0 as exit code: "all is well". */
static bool may_know(pid_t pid)
{
	char path[32], target[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
	return readlink(path, target, sizeof(target)) > 0;
}

bool cl_task_how_by_proc(const struct cl_task *task, struct cl_end *end)
{
	struct stat_line line;

	if (task->pidfd < 0 || !may_know(task->pid) || read_stat(task->pid, &line) < 0 || line.began != task->began)
		return false;
	if (line.state != 'Z' && line.state != 'X')
		return false;
	*end = end_of(line.exit_code);
	return end->how != CL_END_UNKNOWN;
}

struct cl_end cl_task_how(const struct cl_task *task)
{
	struct cl_end end;

	/* It may be waited for in between: then the pidfd knows what it didn't know before. */
	if (cl_task_how_by_pidfd(task, &end) || cl_task_how_by_proc(task, &end) || cl_task_how_by_pidfd(task, &end))
		return end;
	return (struct cl_end){ CL_END_UNKNOWN, 0 };
}

static const char *signal_name(int number)
{
	static const struct {
		int number;
		const char *name;
	} names[] = {
		{ SIGHUP, "SIGHUP" },   { SIGINT, "SIGINT" },   { SIGQUIT, "SIGQUIT" }, { SIGILL, "SIGILL" },
		{ SIGTRAP, "SIGTRAP" }, { SIGABRT, "SIGABRT" }, { SIGBUS, "SIGBUS" },   { SIGFPE, "SIGFPE" },
		{ SIGKILL, "SIGKILL" }, { SIGUSR1, "SIGUSR1" }, { SIGSEGV, "SIGSEGV" }, { SIGUSR2, "SIGUSR2" },
		{ SIGPIPE, "SIGPIPE" }, { SIGALRM, "SIGALRM" }, { SIGTERM, "SIGTERM" }, { SIGXCPU, "SIGXCPU" },
		{ SIGXFSZ, "SIGXFSZ" }, { SIGSYS, "SIGSYS" },   { SIGPROF, "SIGPROF" }, { SIGVTALRM, "SIGVTALRM" },
	};
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].number == number)
			return names[i].name;
	return NULL;
}

void cl_end_describe(struct cl_end end, char *text, size_t bytes)
{
	const char *name = end.how == CL_END_SIGNAL ? signal_name(end.code) : NULL;

	if (end.how == CL_END_EXIT)
		snprintf(text, bytes, "exit %d", end.code);
	else if (name)
		snprintf(text, bytes, "killed by %s", name);
	else if (end.how == CL_END_SIGNAL)
		snprintf(text, bytes, "killed by signal %d", end.code);
	else
		snprintf(text, bytes, "unknown");
}
