/* SPDX-License-Identifier: Apache-2.0 */
#include "base/survivor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd_passing.h"

static const char oom_path[] = "/proc/self/oom_score_adj";

static void set_signals(void (*handler)(int))
{
	const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGQUIT, SIGUSR1, SIGUSR2 };
	size_t i;

	for (i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		signal(signals[i], handler);
}

static void set_oom_score(int score)
{
	int fd = open(oom_path, O_WRONLY | O_CLOEXEC), length;
	char text[16];

	if (fd < 0)
		return;
	length = snprintf(text, sizeof(text), "%d", score);
	(void)!write(fd, text, (size_t)length);
	close(fd);
}

/* Where it may not be done, it is as likely a victim as others of its size. What the score was. */
static int protect_from_oom(void)
{
	int fd = open(oom_path, O_RDONLY | O_CLOEXEC);
	char before[16] = "";

	if (fd < 0)
		return 0;
	(void)!read(fd, before, sizeof(before) - 1);
	close(fd);
	set_oom_score(-1000);
	return atoi(before);
}

int cl_survivor_detach(const char *name)
{
	setsid();
	set_signals(SIG_IGN);
	prctl(PR_SET_NAME, name);
	return protect_from_oom();
}

int cl_survivor_fork(struct cl_survivor *survivor, const char *name, int socket_type, const int *keep, int nr_keep)
{
	int kept[CL_SURVIVOR_KEEPS + 1], pair[2], error;

	*survivor = (struct cl_survivor){ .pid = -1, .channel = -1 };
	if (socketpair(AF_UNIX, socket_type | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	survivor->pid = fork();
	if (survivor->pid < 0) {
		error = -errno;
		close(pair[0]);
		close(pair[1]);
		return error;
	}
	if (survivor->pid > 0) {
		close(pair[1]);
		survivor->channel = pair[0];
		return 0;
	}
	survivor->channel = pair[1];
	survivor->oom_score_adj = cl_survivor_detach(name);
	/* The rest belongs to the owner, and an end of file there must be seen. */
	memcpy(kept, keep, (size_t)nr_keep * sizeof(*keep));
	kept[nr_keep] = pair[1];
	cl_fds_close_all_but(kept, nr_keep + 1);
	return 0;
}

int cl_survivor_start_program(const struct cl_survivor *survivor, char *const *argv)
{
	pid_t child = fork();
	int pidfd;

	if (child == 0) {
		setsid();
		set_signals(SIG_DFL);
		set_oom_score(survivor->oom_score_adj);
		cl_fds_close_all_but(NULL, 0);
		if (open("/dev/null", O_RDWR) == 0 && dup(0) == 1 && dup(0) == 2)
			execv(argv[0], argv);
		_exit(127);
	}
	if (child < 0)
		return -errno;
	pidfd = (int)syscall(SYS_pidfd_open, child, 0);
	return pidfd < 0 ? -errno : pidfd;
}

bool cl_survivor_trusts(int socket_fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	return getsockopt(socket_fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && (peer.uid == 0 || peer.uid == geteuid());
}

int cl_survivor_accept(int listener_fd)
{
	int fd = accept4(listener_fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return -1;
	if (!cl_survivor_trusts(fd)) {
		close(fd);
		return -1;
	}
	cl_survivor_set_send_timeout(fd);
	return fd;
}

void cl_survivor_set_send_timeout(int socket_fd)
{
	const struct timeval timeout = { .tv_sec = CL_SURVIVOR_TIMEOUT_S };

	(void)setsockopt(socket_fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
}

void cl_survivor_kill(pid_t *pid)
{
	if (*pid < 0)
		return;
	kill(*pid, SIGKILL);
	while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
		;
	*pid = -1;
}
