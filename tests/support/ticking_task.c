/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ticking_task MEGABYTES: a container's first process. It starts /task MEGABYTES, and appends a line to the file ticks
 * every 10 ms: 0, 1, 2, ...
 */
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	const struct timespec pause = { .tv_nsec = 10000000 };
	int fd = open("ticks", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

	if (argc != 2 || fd < 0)
		return 2;
	if (fork() == 0) {
		execl("/task", "/task", argv[1], (char *)NULL);
		return 3;
	}
	for (long tick = 0; dprintf(fd, "%ld\n", tick) > 0; tick++)
		nanosleep(&pause, NULL);
	return 4;
}
