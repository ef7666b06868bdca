/* SPDX-License-Identifier: Apache-2.0 */
/* precopy_task: where the task of precopy_task.c has what. */
#ifndef PRECOPY_TASK_H
#define PRECOPY_TASK_H

#define BASE 0x100000000000ULL
#define BRIEF 0x110000000000ULL
#define SPARE 0x120000000000ULL
#define SPARSE 0x130000000000ULL
#define SPARSE_BYTES (1ULL << 40)
enum { PAGES = 2048, HALF = PAGES / 2 };

/* The only pages that are there in SPARSE. */
static const unsigned long long sparse[] = { 0, SPARSE_BYTES / 2 + (5 << 12), SPARSE_BYTES - (1 << 12) };
enum { NR_SPARSE = sizeof(sparse) / sizeof(sparse[0]) };

#endif
