/* SPDX-License-Identifier: Apache-2.0 */
/* collapse: give a range of another process's memory its huge page back. */
#ifndef CL_COLLAPSE_H
#define CL_COLLAPSE_H

#include <stdint.h>

/* CFFI-BEGIN */
/*
 * MADV_COLLAPSE on [start, start + size), aligned to huge pages, in the process that pidfd holds. 0; or -errno: -EAGAIN
 * and -EBUSY (its pages are in use), -ENOMEM (no free huge page, or nothing mapped there), -EINVAL (not allowed there,
 * or a kernel before 6.1), -ESRCH (the process is gone), -EPERM (CAP_SYS_NICE is missing).
 */
int cl_collapse(int pidfd, uint64_t start, uint64_t size);
/* CFFI-END */

#endif
