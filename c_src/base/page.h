/* SPDX-License-Identifier: Apache-2.0 */
/* page: the one page size that there is here. cl_engine_new() refuses a kernel with another. */
#ifndef CL_PAGE_H
#define CL_PAGE_H

enum { CL_PAGE_SIZE = 4096 };

#endif
