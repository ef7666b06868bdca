/* SPDX-License-Identifier: Apache-2.0 */
/*
 * error: why something failed: a code for the program, one line for the user.
 *
 * A function that can fail takes `struct cl_error *error` as its last parameter, never NULL, and returns 0 or the negative
 * errno that it set there. It is set once, where the failure happens, prefixed by those who know more on the way up, and
 * printed once. Untouched on success.
 */
#ifndef CL_ERROR_H
#define CL_ERROR_H

#include <stdarg.h>

#include "criu_lazy.h" /* the struct: Python sees it */

/* code: a negative errno. Whatever was there before is replaced; arguments may point into error->text. Returns code. */
int cl_error_set(struct cl_error *error, int code, const char *format, ...) __attribute__((nonnull, format(printf, 3, 4)));

int cl_error_vset(struct cl_error *error, int code, const char *format, va_list args) __attribute__((nonnull(1, 3)));

/* Put "FORMATTED" before the text, as in cl_error_prefix(error, "task %d: ", pid). Returns error->code. */
int cl_error_prefix(struct cl_error *error, const char *format, ...) __attribute__((nonnull, format(printf, 2, 3)));

#endif
