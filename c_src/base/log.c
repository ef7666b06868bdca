/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void cl_log(const struct cl_log *log, enum cl_log_level level, const char *format, ...)
{
	static const char *const prefix[] = { "", "Error (criu-lazy): ", "Warn  (criu-lazy): ", "", "" };
	const char *migration = getenv("CRIU_LAZY_MIGRATION");
	int error = errno;
	char line[512];
	uint64_t us;
	va_list args;
	int length, more;

	if (log->fd < 0 || (int)level > log->level)
		return;
	us = cl_now_us() - log->start_us;
	length = snprintf(line, sizeof(line), "(%02" PRIu64 ".%06" PRIu64 ") %s%.32s%s%s%s: ", us / 1000000, us % 1000000,
			  migration ? "[" : "", migration ? migration : "", migration ? "] " : "", prefix[level], log->from);
	va_start(args, format);
	more = vsnprintf(line + length, sizeof(line) - (size_t)length - 1, format, args);
	va_end(args);
	if (more < 0)
		return;
	length += more;
	if ((size_t)length > sizeof(line) - 2)
		length = sizeof(line) - 2;
	line[length++] = '\n';
	while (write(log->fd, line, (size_t)length) < 0 && errno == EINTR)
		;
	errno = error;
}
