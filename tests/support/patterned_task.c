/* SPDX-License-Identifier: Apache-2.0 */
/*
 * patterned_task MEGABYTES [at-page-start|counting]: keeps a known pattern in its memory (see page() in lazy_source.py),
 * writes its address to the file info, and whenever the file ask exists, checks every page and writes the verdict to the
 * file answer. It ends when the file exit exists. counting: it has more threads, and children of which one is stopped,
 * and each thread but that for the answers counts, in a word of its own of the file counters, which is
 * mapped shared.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { WORDS = 4096 / 8, COUNTING_CHILDREN = 3, THREADS_EACH = 2 };

static void tell(const char *name, const char *text)
{
	char temporary[64];
	FILE *file;

	snprintf(temporary, sizeof(temporary), "%s.new", name);
	file = fopen(temporary, "w");
	if (!file || fputs(text, file) < 0 || fclose(file) || rename(temporary, name))
		exit(2);
}

/*
 * Sleep 10 ms; at_page_start: longer, with the stack pointer at the start of a page, as a task has it one time in 256, and
 * as a dump hardly ever misses.
 */
static void doze(int at_page_start)
{
	struct timespec time = { .tv_nsec = at_page_start ? 300000000 : 10000000 };
	long number = SYS_nanosleep;

	if (!at_page_start) {
		nanosleep(&time, NULL);
		return;
	}
#ifdef __x86_64__
	__asm__ volatile("mov %%rsp, %%r12; and $-4096, %%rsp; syscall; mov %%r12, %%rsp"
			 : "+a"(number)
			 : "D"(&time), "S"(0)
			 : "rcx", "r11", "r12", "memory");
#endif
}

static void *count(void *counter)
{
	/* Half of them sleep at each step, the others now and then: criu dump must get at them on a busy machine, too. */
	const struct timespec pause = { .tv_nsec = 100000 }, rest = { .tv_nsec = 1000000 };
	volatile uint64_t *word = counter;

	for (;;) {
		++*word;
		if ((uintptr_t)counter / sizeof(*word) % 2)
			nanosleep(&pause, NULL);
		else if (*word % 65536 == 0)
			nanosleep(&rest, NULL);
	}
	return NULL;
}

static void start_counting(uint64_t *counters)
{
	pthread_t thread;

	for (int i = 0; i < THREADS_EACH; i++)
		if (pthread_create(&thread, NULL, count, counters + i))
			exit(2);
}

/* The root's threads count in the first words, those of the children in the next ones; the last child is stopped. */
static void start_counting_tree(void)
{
	int fd = open("counters", O_RDWR | O_CREAT | O_TRUNC, 0600);
	uint64_t *counters;

	if (fd < 0 || ftruncate(fd, 4096) < 0)
		exit(2);
	counters = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (counters == MAP_FAILED)
		exit(2);
	for (int child = 1; child <= COUNTING_CHILDREN; child++) {
		pid_t pid = fork();

		if (pid < 0)
			exit(2);
		if (pid == 0) {
			start_counting(counters + child * THREADS_EACH);
			for (;;)
				pause();
		}
		if (child == COUNTING_CHILDREN && kill(pid, SIGSTOP) < 0)
			exit(2);
	}
	start_counting(counters);
}

static int work(int argc, char **argv)
{
	int at_page_start = argc == 3 && !strcmp(argv[2], "at-page-start");
	int counting = argc == 3 && !strcmp(argv[2], "counting");
	size_t nr_pages = argc == 2 || at_page_start || counting ? strtoul(argv[1], NULL, 10) * 256 : 0;
	uint64_t *memory = mmap(NULL, nr_pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char text[64];

	if (memory == MAP_FAILED)
		return 2;
	for (size_t i = 0; i < nr_pages * WORDS; i++) {
		uint64_t word = (i / WORDS + 1) * UINT64_C(0x9E3779B97F4A7C15);

		memory[i] = i % WORDS == WORDS - 1 ? ~word : word;
	}
	if (counting)
		start_counting_tree();
	snprintf(text, sizeof(text), "%p\n", (void *)memory);
	tell("info", text);
	for (;;) {
		doze(at_page_start);
		if (access("exit", F_OK) == 0)
			return 0;
		if (access("ask", F_OK))
			continue;
		for (size_t i = 0; i < nr_pages * WORDS; i++) {
			uint64_t word = (i / WORDS + 1) * UINT64_C(0x9E3779B97F4A7C15);

			if (memory[i] != (i % WORDS == WORDS - 1 ? ~word : word)) {
				tell("answer", "wrong\n");
				return 1;
			}
		}
		tell("answer", "right\n");
		unlink("ask");
	}
}

/*
 * From the middle of a page: if a thread's stack pointer is a multiple of the page size, which an address space laid out at
 * random makes it one time in 256, criu dump (4.1, 4.2) takes all pages for the stack's, and none is lazy.
 */
int main(int argc, char **argv)
{
	volatile uint8_t *room = __builtin_alloca(((uintptr_t)__builtin_frame_address(0) + 2048) % 4096 + 16);

	*room = 0;
	return work(argc, argv);
}
