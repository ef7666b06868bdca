/* SPDX-License-Identifier: Apache-2.0 */
/*
 * patterned_task MEGABYTES [at-page-start]: keeps a known pattern in its memory (see page() in lazy_source.py), writes its
 * address to the file info, and whenever the file ask exists, checks every page and writes the verdict to the file answer.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { WORDS = 4096 / 8 };

static void tell(const char *name, const char *text)
{
	char temporary[64];
	FILE *file;

	snprintf(temporary, sizeof(temporary), "%s.new", name);
	file = fopen(temporary, "w");
	if (!file || fputs(text, file) < 0 || fclose(file) || rename(temporary, name))
		exit(2);
}

/* Sleep 10 ms; at_page_start: with the stack pointer at the start of a page, as a task has it one time in 256. */
static void doze(int at_page_start)
{
	struct timespec time = { .tv_nsec = 10000000 };
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

static int work(int argc, char **argv)
{
	int at_page_start = argc == 3 && !strcmp(argv[2], "at-page-start");
	size_t nr_pages = argc == 2 || at_page_start ? strtoul(argv[1], NULL, 10) * 256 : 0;
	uint64_t *memory = mmap(NULL, nr_pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char text[64];

	if (memory == MAP_FAILED)
		return 2;
	for (size_t i = 0; i < nr_pages * WORDS; i++) {
		uint64_t word = (i / WORDS + 1) * UINT64_C(0x9E3779B97F4A7C15);

		memory[i] = i % WORDS == WORDS - 1 ? ~word : word;
	}
	snprintf(text, sizeof(text), "%p\n", (void *)memory);
	tell("info", text);
	for (;;) {
		doze(at_page_start);
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
