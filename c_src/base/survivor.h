/* SPDX-License-Identifier: Apache-2.0 */
/*
 * survivor: a process that outlives its owner, the one that started it, and keeps descriptors that must not be closed. What
 * it does with them once the owner is dead is its own business (dump_guardian.h, uffd_guardian.h).
 *
 * Owner and survivor have a channel, a unix socket, whose end tells each that the other is gone. A survivor has a session of
 * its own, ignores what a terminal or an operator sends to end its owner, and is no candidate of the OOM killer's where
 * it may ask for that (CAP_SYS_RESOURCE). Nothing here allocates memory, so the owner may have threads.
 */
#ifndef CL_SURVIVOR_H
#define CL_SURVIVOR_H

#include <stdbool.h>
#include <sys/types.h>

enum { CL_SURVIVOR_KEEPS = 7 };

struct cl_survivor {
	pid_t pid;         /* 0 in the survivor itself; -1: none */
	int channel;       /* to the other one; -1: none */
	int oom_score_adj; /* in the survivor: what it was before, for programs that it starts */
};

/*
 * Fork a survivor. It keeps its standard descriptors only if they are among keep[], of which negative ones are none, and at
 * most CL_SURVIVOR_KEEPS count. name: of the process, at most 15 characters. socket_type: of the channel, SOCK_STREAM or
 * SOCK_SEQPACKET. 0, in both processes (survivor->pid tells which), or -errno.
 */
int cl_survivor_fork(struct cl_survivor *survivor, const char *name, int socket_type, const int *keep, int nr_keep);

/* For a child made otherwise: session, signals, name and OOM score as above. What the OOM score was. */
int cl_survivor_detach(const char *name);

/*
 * From a survivor, start a program (argv, with a path in [0], NULL at the end): in a session of its own, with nothing of the
 * survivor's but the environment. Its pidfd, or -errno.
 */
int cl_survivor_start_program(const struct cl_survivor *survivor, char *const *argv);

/* Whether a unix socket's peer is root or our own user. */
bool cl_survivor_trusts(int socket_fd);

/* Accept a successor of the owner: root or our own user. A socket with a send timeout, or -1. */
int cl_survivor_accept(int listener_fd);

/* No send on this socket waits for longer than CL_SURVIVOR_TIMEOUT_S. */
enum { CL_SURVIVOR_TIMEOUT_S = 10 };
void cl_survivor_set_send_timeout(int socket_fd);

/* Kill a child and reap it, if there is one; *pid is -1 then. */
void cl_survivor_kill(pid_t *pid);

#endif
