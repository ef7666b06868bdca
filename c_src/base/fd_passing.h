/* SPDX-License-Identifier: Apache-2.0 */
/* fd_passing: descriptors over unix sockets (SCM_RIGHTS), and closing all but a few. */
#ifndef CL_FD_PASSING_H
#define CL_FD_PASSING_H

#include <stddef.h>
#include <sys/types.h>

enum { CL_FDS_MAX = 4 };

/* Send `size` bytes and, with them, nr_fds <= CL_FDS_MAX descriptors. 0 or -errno; -EPIPE if the peer is gone. */
int cl_fds_send(int socket_fd, const void *data, size_t size, const int *fds, int nr_fds);

/*
 * Receive up to `size` bytes as recvmsg(2) with `flags` does, and as many descriptors (close-on-exec, the caller's) as
 * came with them, at most nr_fds <= CL_FDS_MAX; the rest of fds[] is -1. The bytes' number, 0 at the end, or -errno.
 */
long cl_fds_receive(int socket_fd, void *data, size_t size, int flags, int *fds, int nr_fds);

/*
 * The same, with one descriptor, or none if fd is NULL. *sender: whose message it is, in our pid namespace, where
 * SO_PASSCRED asks for it; 0: it isn't known.
 */
long cl_fds_receive_from(int socket_fd, void *data, size_t size, int flags, int *fd, pid_t *sender);

/* For a child: close every descriptor but these (negative ones are none). */
void cl_fds_close_all_but(const int *keep, int nr_keep);

#endif
