/* A server that forks for each connection: `forking_server ADDRESS PORT`. Each line is sent back; after one that begins
 * with "short" the connection is closed. */
#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void serve(int fd)
{
	char line[256];
	size_t length = 0;

	for (;;) {
		ssize_t got = read(fd, line + length, sizeof(line) - length);
		if (got <= 0)
			_exit(got < 0);
		length += (size_t)got;
		if (line[length - 1] != '\n')
			continue;
		if (write(fd, line, length) != (ssize_t)length)
			_exit(1);
		if (memcmp(line, "short", 5) == 0)
			_exit(0);
		length = 0;
	}
}

/* Memory of this process alone that takes a while to follow. */
static void hold_ballast(void)
{
	size_t length = 4 << 20;
	char *ballast = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (ballast == MAP_FAILED || madvise(ballast, length, MADV_DONTFORK) != 0)
		fail("ballast");
	for (size_t got = 0; got < length; got += 256)
		if (getrandom(ballast + got, 256, 0) != 256)
			fail("getrandom");
}

int main(int argc, char **argv)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST}, *found;
	int one = 1;

	if (argc != 3 || getaddrinfo(argv[1], argv[2], &hints, &found) != 0)
		return 2;
	hold_ballast();
	signal(SIGCHLD, SIG_IGN); /* the kernel reaps */
	int listener = socket(found->ai_family, SOCK_STREAM, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (listener < 0 || bind(listener, found->ai_addr, found->ai_addrlen) != 0 || listen(listener, 4096) != 0)
		fail(argv[1]);
	freeaddrinfo(found);
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		if (fd < 0 && errno == EINTR)
			continue;
		if (fd < 0)
			fail("accept");
		pid_t child = fork();
		if (child < 0)
			fail("fork");
		if (child == 0) {
			close(listener);
			serve(fd);
		}
		close(fd);
	}
}
