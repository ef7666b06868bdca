/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A task whose memory is brought to a store while it runs: PAGES pages at BASE, of which the upper half is written all
 * the time, memory elsewhere that comes and goes, and a great mapping at SPARSE with few pages. Commands, a byte each on
 * stdin, answered by the same byte: r run, f freeze (nothing is written any more), w write a word in each of the pages
 * 0..7, z make page 9 zero, m swap the quarters of the lower half, x become a new such task.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "precopy_task.h"

static uint64_t *memory;
static pthread_mutex_t frozen = PTHREAD_MUTEX_INITIALIZER; /* held while frozen, and for each step */

static uint64_t *word_of(uint64_t page, uint64_t word)
{
	return memory + page * 512 + word;
}

static void *write_pages(void *argument)
{
	uint64_t random = 1;

	(void)argument;
	for (;;) {
		pthread_mutex_lock(&frozen);
		for (int i = 0; i < 16; i++)
			*word_of(PAGES / 2 + next_random(&random) % (PAGES / 2),
				 next_random(&random) % 512) = next_random(&random) % 4;
		pthread_mutex_unlock(&frozen);
		usleep(50);
	}
	return NULL;
}

static void *come_and_go(void *argument)
{
	(void)argument;
	for (;;) {
		char *there;

		pthread_mutex_lock(&frozen);
		there = mmap((void *)BRIEF, PAGES * 4096, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		CHECK(there == (void *)BRIEF);
		memset(there, 7, PAGES * 4096);
		pthread_mutex_unlock(&frozen);
		usleep(100);
		pthread_mutex_lock(&frozen);
		munmap(there + PAGES * 2048, PAGES * 2048);
		munmap(there, PAGES * 2048);
		pthread_mutex_unlock(&frozen);
	}
	return NULL;
}

static void move(uint64_t from, uint64_t to)
{
	CHECK(mremap((void *)from, HALF * 2048, HALF * 2048, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)to) == (void *)to);
}

/* Whole page tables move: a kernel that tracks what is written may see nothing of it. */
static void swap_quarters(void)
{
	move(BASE, SPARE);
	move(BASE + HALF * 2048, BASE);
	move(SPARE, BASE + HALF * 2048);
}

static void map_sparse(void)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;

	CHECK(mmap((void *)SPARSE, SPARSE_BYTES, PROT_READ | PROT_WRITE, flags, -1, 0) == (void *)SPARSE);
	madvise((void *)SPARSE, SPARSE_BYTES, MADV_NOHUGEPAGE);
	for (int i = 0; i < NR_SPARSE; i++)
		*(volatile char *)(SPARSE + sparse[i]) = (char)(i + 1);
}

int main(int argc, char **argv)
{
	uint64_t random = 2;
	pthread_t thread;
	char command;

	memory = mmap((void *)BASE, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
		      -1, 0);
	CHECK(memory == (void *)BASE);
	madvise(memory, HALF * 4096, MADV_NOHUGEPAGE);
	map_sparse();
	for (uint64_t page = 0; page < PAGES; page++) /* of four pages one is zero, one random, two can be packed */
		for (uint64_t word = 0; word < 512; word++)
			*(volatile uint64_t *)word_of(page, word) = page % 4 == 0 ? 0 :
								    page % 4 == 1 ? next_random(&random) :
										    page;
	pthread_mutex_lock(&frozen);
	CHECK(pthread_create(&thread, NULL, write_pages, NULL) == 0 &&
	      pthread_create(&thread, NULL, come_and_go, NULL) == 0);
	if (argc > 1) /* it has become one, and answers that */
		CHECK(write(1, argv[1], 1) == 1);
	while (read(0, &command, 1) == 1) {
		if (command == 'r')
			pthread_mutex_unlock(&frozen);
		else if (command == 'f')
			pthread_mutex_lock(&frozen);
		else if (command == 'z')
			memset(word_of(9, 0), 0, 4096);
		else if (command == 'm')
			swap_quarters();
		else if (command == 'x')
			CHECK(execl("/proc/self/exe", argv[0], "x", NULL) == 0);
		else
			for (uint64_t page = 0; page < 8; page++)
				*word_of(page, page) ^= 0x100;
		CHECK(write(1, &command, 1) == 1);
	}
	return 0;
}
