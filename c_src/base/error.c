/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <stdio.h>
#include <string.h>

/* `length`: what the whole text would have taken. */
static void mark_cut(struct cl_error *error, int length)
{
	static const char cut[] = "...";

	if (length >= CL_ERROR_TEXT_BYTES)
		memcpy(error->text + CL_ERROR_TEXT_BYTES - sizeof(cut), cut, sizeof(cut));
}

int cl_error_vset(struct cl_error *error, int code, const char *format, va_list args)
{
	char text[CL_ERROR_TEXT_BYTES];
	int length = vsnprintf(text, sizeof(text), format, args);

	error->code = code;
	memcpy(error->text, text, sizeof(text));
	mark_cut(error, length);
	return code;
}

int cl_error_set(struct cl_error *error, int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)cl_error_vset(error, code, format, args);
	va_end(args);
	return code;
}

int cl_error_prefix(struct cl_error *error, const char *format, ...)
{
	char text[CL_ERROR_TEXT_BYTES];
	va_list args;
	int length;

	memcpy(text, error->text, sizeof(text));
	va_start(args, format);
	length = vsnprintf(error->text, sizeof(error->text), format, args);
	va_end(args);
	if (length >= 0 && length < CL_ERROR_TEXT_BYTES)
		length += snprintf(error->text + length, sizeof(error->text) - (size_t)length, "%s", text);
	mark_cut(error, length);
	return error->code;
}
