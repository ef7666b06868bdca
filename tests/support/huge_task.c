/* SPDX-License-Identifier: Apache-2.0 */
/*
 * huge_task MEGABYTES: keeps a pattern in memory that it wants in huge pages, tells the address in the file info, and
 * whenever the file ask exists, checks every page and writes the verdict to the file answer: "right" or "wrong", then
 * the nanoseconds that one access to a random page takes (each depends on the one before), then the longest pause in
 * microseconds that it saw since the last answer while it only touched its memory.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { WORDS = 4096 / 8, HUGE_BYTES = 2 << 20, ACCESSES = 2000000 };

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void tell(const char *name, const char *text)
{
	FILE *file = fopen("new", "w");

	if (!file || fputs(text, file) < 0 || fclose(file) || rename("new", name))
		exit(2);
}

static uint64_t pattern(size_t word)
{
	return (word / WORDS + 1) * UINT64_C(0x9E3779B97F4A7C15) ^ word % WORDS;
}

/* The next access's page depends on what was read: no two overlap. */
static uint64_t touch(const uint64_t *memory, size_t nr_pages, uint64_t at, size_t times)
{
	while (times--)
		at = at * UINT64_C(6364136223846793005) + 1442695040888963407 +
		     (memory[(at >> 33) % nr_pages * WORDS + (at >> 20) % WORDS] & 1);
	return at;
}

__attribute__((noinline)) static int work(int argc, char **argv)
{
	size_t bytes = argc == 2 ? strtoul(argv[1], NULL, 10) << 20 : 0, nr_pages = bytes / 4096;
	uint64_t mapped, at = 1, longest = 0, began, last, elapsed, *memory;
	char text[96];

	mapped = (uint64_t)mmap(NULL, bytes + HUGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if ((void *)mapped == MAP_FAILED)
		return 2;
	memory = (uint64_t *)((mapped + HUGE_BYTES - 1) & ~(uint64_t)(HUGE_BYTES - 1));
	if (madvise(memory, bytes, MADV_HUGEPAGE))
		return 2;
	for (size_t i = 0; i < nr_pages * WORDS; i++)
		memory[i] = pattern(i);
	tell("info", "ready\n");
	for (;;) {
		last = now_ns();
		for (int round = 0; round < 20000; round++) {
			at = touch(memory, nr_pages, at, 5);
			elapsed = now_ns() - last;
			last += elapsed;
			if (elapsed > longest)
				longest = elapsed;
		}
		if (access("ask", F_OK))
			continue;
		unlink("ask");
		for (size_t i = 0; i < nr_pages * WORDS; i++)
			if (memory[i] != pattern(i)) {
				tell("answer", "wrong 0 0\n");
				return 1;
			}
		began = now_ns();
		at = touch(memory, nr_pages, at, ACCESSES);
		elapsed = now_ns() - began;
		snprintf(text, sizeof(text), "right %.2f %llu\n", (double)elapsed / ACCESSES,
			 (unsigned long long)longest / 1000);
		tell("answer", text);
		longest = at == 0; /* at is used */
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
