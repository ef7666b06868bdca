/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limit: what this machine can do at most with one stream: process_vm_readv -> TCP -> UFFDIO_COPY.
 *
 *   limit serve PORT MIB           prints "ready", waits for one connection, sends MIB of another process's memory
 *   limit fetch ADDRESS PORT MIB BUSY
 *                                  receives MIB and installs it, prints {"bytes": N, "seconds": S}; meanwhile BUSY
 *                                  threads read random pages of memory that is there, as a migrated task's would
 *
 *   limit warm MIB                 keeps so much free memory warm (below): prints "ready", stays until it is killed
 *
 * No page is looked at, nothing is asked for: a lazy-pages daemon can come near this, not beyond it. Exit status
 * 1 and a line on stderr if anything fails.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define PIECE (1UL << 20)
#define PAGE 4096UL
#define KEPT_EACH (256 * PAGE)
#define BUSY_BYTES (256UL << 20)
#define MAX_BUSY 64

static unsigned long number(const char *text, unsigned long high)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);
	if (end == text || *end != '\0' || *text == '-' || n > high)
		errx(1, "%s: not a number up to %lu", text, high);
	return n;
}

static uint8_t *memory(size_t bytes, int fill)
{
	uint8_t *area = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED)
		err(1, "mmap");
	if (fill)
		memset(area, fill, bytes);
	return area;
}

static void serve(unsigned short port, size_t bytes)
{
	uint8_t *area = memory(bytes, 0x5a), *buffer = memory(PIECE, 1);
	int filled[2];
	if (pipe(filled) != 0)
		err(1, "pipe");
	pid_t owner = fork();
	if (owner == 0) {
		memset(area, 0xa5, bytes);
		close(filled[0]);
		close(filled[1]);
		for (;;)
			pause();
	}
	if (owner < 0)
		err(1, "fork");
	munmap(area, bytes);
	close(filled[1]);
	if (read(filled[0], buffer, 1) != 0) /* its memory is its own now, and there */
		err(1, "the memory's owner");
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
	    bind(listener, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(listener, 1) != 0)
		err(1, "port %u", port);
	puts("ready");
	fflush(stdout);
	int peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (peer < 0)
		err(1, "accept");
	for (size_t done = 0; done < bytes; done += PIECE) {
		struct iovec local = {buffer, PIECE}, remote = {area + done, PIECE};
		if (process_vm_readv(owner, &local, 1, &remote, 1, 0) != (ssize_t)PIECE)
			err(1, "process_vm_readv");
		for (size_t sent = 0; sent < PIECE;) {
			ssize_t n = send(peer, buffer + sent, PIECE - sent, MSG_NOSIGNAL);
			if (n < 0)
				err(1, "send");
			sent += (size_t)n;
		}
	}
	shutdown(peer, SHUT_WR);
	(void)!recv(peer, buffer, 1, 0);
	kill(owner, SIGKILL);
}

struct busy {
	const uint8_t *area;
	uint64_t seed;
	atomic_bool *stop;
};

static void *read_pages(void *arg)
{
	struct busy *b = arg;
	uint64_t x = b->seed, sum = 0;
	while (!atomic_load_explicit(b->stop, memory_order_relaxed)) {
		x = x * 6364136223846793005ULL + 1442695040888963407ULL;
		sum += *(const volatile uint64_t *)(const void *)(b->area + (x >> 32) % (BUSY_BYTES / PAGE) * PAGE);
	}
	b->seed = sum;
	return NULL;
}

static void fetch(const char *host, unsigned short port, size_t bytes, unsigned int nr_busy)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	struct uffdio_api api = {.api = UFFD_API};
	uint8_t *area = memory(bytes, 0), *buffer = memory(PIECE, 1);
	struct uffdio_register range = {.range = {(uintptr_t)area, bytes}, .mode = UFFDIO_REGISTER_MODE_MISSING};
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) != 0 || ioctl(fd, UFFDIO_REGISTER, &range) != 0)
		err(1, "userfaultfd");
	int peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	if (peer < 0 || inet_pton(AF_INET, host, &address.sin_addr) != 1 ||
	    connect(peer, (struct sockaddr *)&address, sizeof(address)) != 0)
		err(1, "%s port %u", host, port);

	atomic_bool stop = false;
	struct busy busy[MAX_BUSY];
	pthread_t threads[MAX_BUSY];
	const uint8_t *busy_area = nr_busy > 0 ? memory(BUSY_BYTES, 1) : NULL;
	for (unsigned int i = 0; i < nr_busy; i++) {
		busy[i] = (struct busy){busy_area, i + 1, &stop};
		if (pthread_create(&threads[i], NULL, read_pages, &busy[i]) != 0)
			errx(1, "pthread_create");
	}
	struct timespec start, end;
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (size_t done = 0; done < bytes; done += PIECE) {
		for (size_t got = 0; got < PIECE;) {
			ssize_t n = recv(peer, buffer + got, PIECE - got, 0);
			if (n <= 0)
				err(1, "recv");
			got += (size_t)n;
		}
		struct uffdio_copy copy = {(uintptr_t)(area + done), (uintptr_t)buffer, PIECE, 0, 0};
		if (ioctl(fd, UFFDIO_COPY, &copy) != 0)
			err(1, "UFFDIO_COPY");
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	atomic_store(&stop, true);
	for (unsigned int i = 0; i < nr_busy; i++)
		pthread_join(threads[i], NULL);
	printf("{\"bytes\": %zu, \"seconds\": %.6f}\n", bytes,
	       (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) / 1e9);
}

/*
 * The host of a virtual machine may take back what is free, in blocks of 2 MiB and more; to touch that again costs a second
 * a GB. So use it, and give back all but a page of every MiB: what is free then is in smaller blocks, and stays.
 */
static void keep_warm(size_t bytes)
{
	uint8_t *area = memory(bytes, 0);
	if (madvise(area, bytes, MADV_NOHUGEPAGE) != 0)
		err(1, "MADV_NOHUGEPAGE");
	memset(area, 1, bytes);
	for (size_t at = 0; at < bytes; at += KEPT_EACH)
		if (madvise(area + at + PAGE, KEPT_EACH - PAGE, MADV_DONTNEED) != 0)
			err(1, "MADV_DONTNEED");
	puts("ready");
	fflush(stdout);
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "serve") == 0)
		serve((unsigned short)number(argv[2], 65535), number(argv[3], 1 << 20) << 20);
	else if (argc == 6 && strcmp(argv[1], "fetch") == 0)
		fetch(argv[2], (unsigned short)number(argv[3], 65535), number(argv[4], 1 << 20) << 20,
		      (unsigned int)number(argv[5], MAX_BUSY));
	else if (argc == 3 && strcmp(argv[1], "warm") == 0)
		keep_warm(number(argv[2], 1 << 20) << 20);
	else
		errx(1, "usage: limit serve PORT MIB | limit fetch ADDRESS PORT MIB BUSY | limit warm MIB");
	return 0;
}
