/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io: all of it, or an error: read and write calls that go on after short counts and after signals.
 *
 * A socket's own timeouts (SO_SNDTIMEO, SO_RCVTIMEO) hold for each system call, and give -EAGAIN.
 */
#ifndef CL_IO_H
#define CL_IO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* 0 or -errno. */
int cl_pwrite_all(int fd, const void *data, size_t bytes, off_t at);

/* Exactly `bytes`. 0, -EBADMSG where the file ends before, or -errno. */
int cl_pread_all(int fd, void *out, size_t bytes, off_t at);

/* flags as send(2) takes them, MSG_NOSIGNAL is added. 0 or -errno. */
int cl_send_all(int socket_fd, const void *data, size_t bytes, int flags);

/* What has arrived, up to `size` bytes. Their number, -ECONNRESET at the end of the stream, or -errno. */
int64_t cl_receive(int socket_fd, void *out, size_t size, int flags);

/* Exactly `bytes`, until a deadline (deadline.h). 0, -ETIMEDOUT, -ECONNRESET at the end of the stream, or -errno. */
int cl_receive_all(int socket_fd, void *out, size_t bytes, uint64_t deadline_us);

#endif
