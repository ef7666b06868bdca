/* SPDX-License-Identifier: Apache-2.0 */
/* A small task tree for tests/images: a thread, a child, a zombie; argv[1]: pages of memory to fill. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void *sleeper(void *unused)
{
	for (;;)
		pause();
	return unused;
}

int main(int argc, char **argv)
{
	size_t pages = argc > 1 ? (size_t)atoi(argv[1]) : 64;
	char *memory = mmap(NULL, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_t thread;

	if (memory == MAP_FAILED)
		return 1;
	for (size_t i = 0; i < pages; i++)
		memset(memory + i * 4096, (int)i + 1, 4096);
	if (pthread_create(&thread, NULL, sleeper, NULL))
		return 1;
	if (fork() == 0)
		sleeper(NULL);
	if (fork() == 0)
		_exit(7);
	sleeper(NULL);
}
