/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/fork_advice.h"
#include "base/vec.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	MAX_DEPTH = 64,              /* generations of processes */
	FORKED_AND_NO_EXECVE = 0x40, /* PF_FORKNOEXEC, of a process's flags */
};

void cl_fork_advice_forget(struct cl_fork_advice *advice)
{
	free(advice->ranges);
	*advice = (struct cl_fork_advice){ 0 };
}

static int add_range(struct cl_fork_advice *advice, struct cl_fork_range range)
{
	if (cl_vec_reserve(&advice->ranges, &advice->max, advice->nr + 1, CL_VEC_NO_LIMIT) < 0)
		return -ENOMEM;
	advice->ranges[advice->nr++] = range;
	return 0;
}

int cl_fork_advice_copy(struct cl_fork_advice *to, const struct cl_fork_advice *from)
{
	int ret = 0;
	size_t i;

	for (i = 0; i < from->nr && ret == 0; i++)
		ret = add_range(to, from->ranges[i]);
	to->known = from->known && ret == 0;
	return ret;
}

static int parse_line(struct cl_fork_advice *advice, const char *line, struct cl_fork_range *mapping)
{
	uint64_t start, end;

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &start, &end) == 2)
		*mapping = (struct cl_fork_range){ .start = start, .end = end };
	if (strncmp(line, "VmFlags:", strlen("VmFlags:")))
		return 0;
	/* Each flag is two letters between spaces. */
	mapping->left_out = strstr(line, " dc ");
	return mapping->left_out || strstr(line, " wf ") ? add_range(advice, *mapping) : 0;
}

int cl_fork_advice_read(struct cl_fork_advice *advice, pid_t process)
{
	struct cl_fork_range mapping = { 0 };
	char path[32], *line = NULL;
	size_t line_bytes = 0;
	FILE *smaps;
	int ret = 0;

	advice->nr = 0;
	advice->known = false;
	snprintf(path, sizeof(path), "/proc/%d/smaps", process);
	smaps = fopen(path, "re");
	if (!smaps)
		return -errno;
	while (ret == 0 && getline(&line, &line_bytes, smaps) > 0)
		ret = parse_line(advice, line, &mapping);
	if (ret == 0 && (ferror(smaps) || !mapping.end))
		ret = -ESRCH;
	free(line);
	fclose(smaps);
	advice->known = ret == 0;
	return ret;
}

/* The first line of a file of /proc. False: it can't be read. */
static bool read_line(const char *path, char *text, int bytes)
{
	FILE *file = fopen(path, "re");
	bool got = file && fgets(text, bytes, file);

	if (file)
		fclose(file);
	return got;
}

bool cl_thread_is_forking(pid_t thread)
{
	char path[64], text[256];
	long number;

	snprintf(path, sizeof(path), "/proc/%d/syscall", thread);
	if (!read_line(path, text, sizeof(text)) || sscanf(text, "%ld", &number) != 1)
		return false;
#ifdef SYS_fork
	if (number == SYS_fork)
		return true;
#endif
	return number == SYS_clone || number == SYS_clone3;
}

bool cl_process_is_forking(pid_t process)
{
	const struct dirent *entry;
	bool is_forking = false;
	char path[32];
	DIR *threads;

	snprintf(path, sizeof(path), "/proc/%d/task", process);
	threads = opendir(path);
	if (!threads)
		return false;
	while (!is_forking && (entry = readdir(threads)))
		is_forking = entry->d_name[0] != '.' && cl_thread_is_forking(atoi(entry->d_name));
	closedir(threads);
	return is_forking;
}

bool cl_process_has_registered(pid_t process, uint64_t start, uint64_t end)
{
	uint64_t from = 0, to = 0;
	bool is_there = false, is_registered = false;
	char path[32], line[1024];
	FILE *smaps;

	snprintf(path, sizeof(path), "/proc/%d/smaps", process);
	smaps = fopen(path, "re");
	while (smaps && !is_registered && from < end && fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &from, &to) == 2 || from >= end || to <= start)
			continue;
		is_there = true;
		is_registered = !strncmp(line, "VmFlags:", strlen("VmFlags:")) && strstr(line, " um ");
	}
	if (smaps)
		fclose(smaps);
	return is_registered || !is_there;
}

/* Whose memory the process's was made of by a fork; 0: of nobody's, as it called execve since, or it can't be told. */
static pid_t parent_of(pid_t process)
{
	char path[32], text[512], *end;
	unsigned int flags;
	int parent;

	snprintf(path, sizeof(path), "/proc/%d/stat", process);
	/* "PID (NAME) STATE PARENT GROUP SESSION TERMINAL ITS-GROUP FLAGS ...", and a name may hold anything. */
	if (!read_line(path, text, sizeof(text)) || !(end = strrchr(text, ')')) ||
	    sscanf(end + 1, " %*c %d %*d %*d %*d %*d %u", &parent, &flags) != 2)
		return 0;
	return flags & FORKED_AND_NO_EXECVE ? parent : 0;
}

/* Those below `process` that fork: how many, and one of them. */
static unsigned int forking_below(pid_t process, pid_t *one, int generations)
{
	const struct dirent *entry;
	unsigned int nr = 0;
	char path[64];
	int child;
	DIR *threads;

	snprintf(path, sizeof(path), "/proc/%d/task", process);
	threads = generations ? opendir(path) : NULL;
	while (threads && (entry = readdir(threads))) {
		FILE *children;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%.16s/children", process, entry->d_name);
		children = fopen(path, "re");
		while (children && fscanf(children, "%d", &child) == 1) {
			if (!parent_of(child))
				continue;
			if (cl_process_is_forking(child)) {
				*one = child;
				nr++;
			}
			nr += forking_below(child, one, generations - 1);
		}
		if (children)
			fclose(children);
	}
	if (threads)
		closedir(threads);
	return nr;
}

pid_t cl_process_forking_below(pid_t process)
{
	pid_t one = 0;

	return forking_below(process, &one, MAX_DEPTH) == 1 ? one : 0;
}

/* Whether the process has locked any memory; true if that can't be told. */
static bool has_locked_memory(pid_t process)
{
	char path[32], line[128];
	bool has = true;
	FILE *status;
	long kib;

	snprintf(path, sizeof(path), "/proc/%d/status", process);
	status = fopen(path, "re");
	while (status && fgets(line, sizeof(line), status))
		if (sscanf(line, "VmLck: %ld", &kib) == 1)
			has = kib != 0;
	if (status)
		fclose(status);
	return has;
}

uint64_t cl_process_locked_from(pid_t process, uint64_t start, uint64_t end)
{
	uint64_t from = 0, to = 0, locked = end;
	char path[32], line[1024];
	FILE *smaps;

	if (!has_locked_memory(process))
		return end;
	snprintf(path, sizeof(path), "/proc/%d/smaps", process);
	smaps = fopen(path, "re");
	/* A line that is longer than this comes in parts, of which none looks like what is sought. */
	while (smaps && locked == end && fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &from, &to) == 2)
			continue;
		if (from < end && to > start && !strncmp(line, "VmFlags:", strlen("VmFlags:")) && strstr(line, " lo "))
			locked = from > start ? from : start;
	}
	if (smaps)
		fclose(smaps);
	return locked;
}

pid_t cl_process_ancestor(pid_t process, bool (*is_one)(const void *context, pid_t process), const void *context)
{
	int i;

	for (i = 0; process > 0 && i < MAX_DEPTH; i++, process = parent_of(process))
		if (is_one(context, process))
			return process;
	return 0;
}
