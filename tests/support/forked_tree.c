/* SPDX-License-Identifier: Apache-2.0 */
/*
 * forked_tree MEGABYTES FILE: a process and three forked children with the same memory, but for one page of sixteen that
 * each child has written to. On SIGTERM each checks all of its pages, the parent waits for the children, and FILE is
 * replaced by one JSON object with "state": "verified". Writes its pid to stdout once all is as it should be, in a session
 * of its own.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORDS = 4096 / 8, CHILDREN = 3, WRITTEN_EVERY = 16 };

/* What word `word` of `page` holds in child `child`, 0 the parent. */
static uint64_t word_of(size_t page, size_t word, unsigned int child)
{
	uint64_t x = page * WORDS + word + 1;

	if (child && page % WRITTEN_EVERY == child)
		x ^= (uint64_t)child << 48;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

static void fill(uint64_t *memory, size_t nr_pages, unsigned int child)
{
	for (size_t page = child; page < nr_pages; page += child ? WRITTEN_EVERY : 1)
		for (size_t word = 0; word < WORDS; word++)
			memory[page * WORDS + word] = word_of(page, word, child);
}

static size_t wrong_pages(const uint64_t *memory, size_t nr_pages, unsigned int child)
{
	size_t wrong = 0;

	for (size_t page = 0; page < nr_pages; page++) {
		size_t word = 0;

		while (word < WORDS && memory[page * WORDS + word] == word_of(page, word, child))
			word++;
		wrong += word < WORDS;
	}
	return wrong;
}

static void wait_for_the_end(const sigset_t *end)
{
	while (sigwaitinfo(end, NULL) != SIGTERM)
		;
}

static int work(int argc, char **argv)
{
	size_t nr_pages = argc == 3 ? strtoul(argv[1], NULL, 10) * 256 : 0, wrong;
	uint64_t *memory = mmap(NULL, nr_pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pid_t pid, children[CHILDREN];
	int bad = 0, ready[2], told[2], status, null;
	char name[256], byte;
	sigset_t end;
	FILE *file;

	if (memory == MAP_FAILED || pipe(told) || (pid = fork()) < 0)
		return 2;
	if (pid) {
		close(told[1]);
		if (read(told[0], &byte, 1) != 1)
			return 2;
		printf("%d\n", (int)pid);
		return 0;
	}
	null = open("/dev/null", O_RDWR);
	if (setsid() < 0 || null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0 || pipe(ready))
		return 2;
	close(null);
	sigemptyset(&end);
	sigaddset(&end, SIGTERM);
	sigprocmask(SIG_BLOCK, &end, NULL);
	fill(memory, nr_pages, 0);
	for (unsigned int child = 1; child <= CHILDREN; child++) {
		children[child - 1] = fork();
		if (children[child - 1])
			continue;
		close(told[0]);
		close(told[1]);
		fill(memory, nr_pages, child);
		if (write(ready[1], "", 1) != 1)
			_exit(2);
		close(ready[0]);
		close(ready[1]);
		wait_for_the_end(&end);
		_exit(wrong_pages(memory, nr_pages, child) != 0);
	}
	for (unsigned int child = 0; child < CHILDREN; child++)
		if (read(ready[0], &byte, 1) != 1)
			return 2;
	close(ready[0]);
	close(ready[1]);
	if (write(told[1], "", 1) != 1)
		return 2;
	close(told[0]);
	close(told[1]);
	wait_for_the_end(&end);
	wrong = wrong_pages(memory, nr_pages, 0);
	for (unsigned int child = 0; child < CHILDREN; child++) {
		kill(children[child], SIGTERM);
		bad += waitpid(children[child], &status, 0) != children[child] || status;
	}
	snprintf(name, sizeof(name), "%s.new", argv[2]);
	file = fopen(name, "w");
	if (!file || fprintf(file, "{\"state\": \"verified\", \"errors\": %zu, \"first_error\": \"\", \"children_bad\": %d}\n",
			     wrong, bad) < 0 || fclose(file) || rename(name, argv[2]))
		return 2;
	return wrong || bad;
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
