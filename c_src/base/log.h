/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log: lines in criu's own format, "(seconds.microseconds) Error (criu-lazy): FROM: text", each written by one write(2), so
 * that lines of several threads never mix. Thread safe; allocates nothing; errors of the log are ignored. In a migration
 * (CRIU_LAZY_MIGRATION in the environment: its id) "[id] " stands behind the time.
 */
#ifndef CL_LOG_H
#define CL_LOG_H

#include <stdint.h>

#include "base/deadline.h"

enum cl_log_level { CL_LOG_ERROR = 1, CL_LOG_WARN = 2, CL_LOG_INFO = 3, CL_LOG_DEBUG = 4 };

struct cl_log {
	int fd;            /* -1: nothing is written */
	int level;         /* lines above this level are skipped */
	uint64_t start_us; /* times are told since then */
	const char *from;  /* static: who is speaking, as "uffd" */
};

/* `errno` stays as it is. */
void cl_log(const struct cl_log *log, enum cl_log_level level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
