/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guardian of a lazy dump (dump_guardian.h): it is no candidate of the OOM killer's, hands the dump's connection to root
 * and its own user only, and starts successors that inherit nothing of what makes it a survivor.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "source/dump_guardian.h"
#include "tcp.h"

enum { ATTEMPTS = 2000, OWN_SCORE = 17, NOBODY = 65534 };

static char *read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, text, size - 1);

	text[got > 0 ? got : 0] = 0;
	if (fd >= 0)
		close(fd);
	return text;
}

/* 0 if the connection to the dump is handed over, else as cl_dump_guardian_take_over() says. */
static int take_over(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), upstream, memfd, ret;

	CHECK(connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0);
	ret = cl_dump_guardian_take_over(fd, &upstream, &memfd);
	return ret;
}

/* As another user, whom the socket's mode lets connect: the guardian must refuse by itself. */
static void a_stranger_gets_nothing(const struct sockaddr_un *address)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		char byte;

		CHECK(setgid(NOBODY) == 0 && setuid(NOBODY) == 0);
		CHECK(connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0);
		CHECK(recv(fd, &byte, 1, 0) <= 0);
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static pid_t only_child(void)
{
	char text[64];

	return atoi(read_text("/proc/thread-self/children", text, sizeof(text)));
}

/* The successor is a shell which writes down what it has got. Its pid. */
static pid_t successors_are_ordinary(const char *directory, const char *was_written)
{
	char path[256], text[4096], *mask;

	snprintf(path, sizeof(path), "%s/done", directory);
	for (int i = 0; access(path, F_OK) < 0; i++) {
		CHECK(i < ATTEMPTS);
		usleep(10000);
	}
	CHECK(atoi(read_text(was_written, text, sizeof(text))) == OWN_SCORE);
	mask = strstr(text, "SigIgn:");
	/* Not glibc's own, 32 and 33: posix_spawn() ignores them in whatever it starts, and so does make's whole tree. */
	CHECK(mask && (strtoull(mask + 7, NULL, 16) & 0x7fffffff) == 0);
	return atoi(read_text(path, text, sizeof(text)));
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char command[512], text[64], written[256];
	char *resume[] = { (char *)"/bin/sh", (char *)"-c", command, NULL };
	struct cl_dump_guardian_state *state;
	int tcp[2], memfd, takeover, lifeline, fd;
	bool may_protect;
	pid_t guardian, successor;

	CHECK(argc == 2 && geteuid() == 0);
	snprintf(written, sizeof(written), "%s/written", argv[1]);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/takeover", argv[1]);
	snprintf(command, sizeof(command),
		 "cd %s; cat /proc/self/oom_score_adj /proc/self/status > written; echo $$ > new; "
		 "mv new done; exec sleep 600",
		 argv[1]);
	connect_tcp(tcp);
	takeover = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(bind(takeover, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(takeover, 4) == 0);
	CHECK(chmod(address.sun_path, 0666) == 0);

	fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	may_protect = write(fd, "-1000", 5) == 5;
	CHECK(write(fd, "17", 2) == 2);
	close(fd);
	CHECK(cl_dump_guardian_state_new(tcp[0], &state, &memfd) == 0);
	atomic_store(&state->phase, CL_DUMP_GUARDIAN_HOLD);
	lifeline = cl_dump_guardian_start(tcp[0], memfd, takeover, resume);
	CHECK(lifeline >= 0);
	close(takeover);
	guardian = only_child();
	a_stranger_gets_nothing(&address); /* by now the guardian has set itself up */
	snprintf(text, sizeof(text), "/proc/%d/oom_score_adj", (int)guardian);
	CHECK(atoi(read_text(text, text, sizeof(text))) == (may_protect ? -1000 : OWN_SCORE));
	CHECK(take_over(&address) == -EPIPE); /* the owner lives */

	close(lifeline);
	successor = successors_are_ordinary(argv[1], written);
	a_stranger_gets_nothing(&address);
	CHECK(kill(guardian, SIGTERM) == 0 && kill(guardian, SIGUSR1) == 0);
	CHECK(take_over(&address) == 0);
	CHECK(kill(guardian, SIGKILL) == 0 && waitpid(guardian, NULL, 0) == guardian);
	CHECK(kill(successor, SIGKILL) == 0);
	return 0;
}
