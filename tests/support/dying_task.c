/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dying_task MIB FILE: memory with a number in every page, its pid to FILE; then, told by a signal, it ends, or gives up
 * its memory: SIGUSR1 exit(3), SIGUSR2 execve of sleep, SIGHUP munmap of all and a line in FILE, SIGTERM the
 * usual; SIGWINCH a line in FILE: what a handler and a system call need of memory is there then.
 * With a third argument a child that does the same, its pid in FILE too; with as many MiB as that says, if it is a number.
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static uint64_t *memory;
static size_t bytes;
static const char *path;

static void note(const char *format, int number)
{
	FILE *file = fopen(path, "a");

	if (!file || fprintf(file, format, number) < 0 || fclose(file))
		abort();
}

static void act(int number)
{
	if (number == SIGWINCH) {
		syscall(SYS_getpid);
		note("handled %d\n", getpid());
		return;
	}
	if (number == SIGUSR1)
		syscall(SYS_exit_group, 3);
	if (number == SIGUSR2)
		execl("/bin/sleep", "sleep", "1000", NULL);
	munmap(memory, bytes);
	note("unmapped %d\n", getpid());
}

static int work(int argc, char **argv)
{
	size_t i;

	bytes = (size_t)atol(argv[1]) << 20;
	path = argv[2];
	if (fork())
		return 0;
	setsid();
	if (argc > 3 && fork() == 0) {
		setpgid(0, 0);
		if (atol(argv[3]))
			bytes = (size_t)atol(argv[3]) << 20;
	}
	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return 1;
	for (i = 0; i < bytes / 8; i++)
		memory[i] = (i + 1) * 0x9E3779B97F4A7C15ULL;
	signal(SIGUSR1, act);
	signal(SIGUSR2, act);
	signal(SIGHUP, act);
	signal(SIGWINCH, act);
	note("%d\n", getpid());
	for (;;)
		pause();
}

/* From the middle of a page, or criu dump makes no page lazy: see patterned_task.c. */
int main(int argc, char **argv)
{
	volatile uint8_t *room = __builtin_alloca(((uintptr_t)__builtin_frame_address(0) + 2048) % 4096 + 16);

	*room = 0;
	return work(argc, argv);
}
