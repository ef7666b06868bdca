/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uffd: the userfaultfd system calls, one by one. No state, no policy.
 *
 * What the errors of copy and zero mean to a caller (all as negative errno):
 *   -EEXIST  the first page not done is present already: it needs no filling, but its waiters need a wake.
 *   -EAGAIN  the address space is changing: an event (fork, remap, unmap, remove) is pending or was read a moment
 *            ago; read events, look the address up again, retry.
 *   -ENOENT  the range isn't inside one VMA registered with this userfaultfd: retry in smaller pieces; a single
 *            page that gets it is gone, if the address space isn't changing. (From Linux 6.8 on the kernel looks for
 *            the VMA before it looks whether events are pending.)
 *   -ESRCH   (kernels before 4.13: -ENOSPC) the task exited.
 *   -ENOMEM  no memory (now): retry later.
 *   others   a bug of ours, or a data page that can't be read (-EFAULT).
 */
#ifndef CL_UFFD_H
#define CL_UFFD_H

#include <linux/userfaultfd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Up to `max` events. Their number, 0 if none is pending, or -errno. uffd must be non-blocking. */
int cl_uffd_read(int uffd, struct uffd_msg *events, size_t max);

/* Install `length` bytes at `address` and wake its waiters. *done_bytes were; 0 only if all were. */
int cl_uffd_copy(int uffd, uint64_t address, const void *data, uint64_t length, uint64_t *done_bytes);

/* The same with zero pages. */
int cl_uffd_zero(int uffd, uint64_t address, uint64_t length, uint64_t *done_bytes);

int cl_uffd_wake(int uffd, uint64_t address, uint64_t length);

/* Wake all threads that wait, wherever. 0 or -errno. */
int cl_uffd_wake_all(int uffd);

/*
 * Whether the address space is changing: events are pending, or a thread doesn't know yet that its event was read.
 * Then copies fail with -EAGAIN.
 */
bool cl_uffd_is_changing(int uffd);

/*
 * Whether the range is inside one VMA registered with this userfaultfd: 1, 0, or -EAGAIN (the address space is
 * changing). A 0 is only sure if the address space isn't changing afterwards either. Nothing is installed.
 */
int cl_uffd_has(int uffd, uint64_t address, uint64_t length);

/* Whether the address space exists still: not once all its threads have exited or called execve. */
bool cl_uffd_is_alive(int uffd);

/* Accesses to the range raise SIGBUS from now on (Linux >= 6.6; -EINVAL before). */
int cl_uffd_poison(int uffd, uint64_t address, uint64_t length, uint64_t *done_bytes);

#endif
