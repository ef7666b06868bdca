/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cleanup: variables that give up what they own when they go out of scope, whichever way that is.
 *
 *	CL_CLEANUP_FD int fd = open(...);
 *	...
 *	*fd_out = cl_steal_fd(&fd);  (the caller's from here on)
 *
 * Each must be initialised where it is declared: to -1 or NULL if it owns nothing yet. `errno` stays as it is.
 */
#ifndef CL_CLEANUP_H
#define CL_CLEANUP_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CL_CLEANUP(function) __attribute__((cleanup(function)))
#define CL_CLEANUP_FD CL_CLEANUP(cl_cleanup_fd)
#define CL_CLEANUP_FILE CL_CLEANUP(cl_cleanup_file)
#define CL_CLEANUP_FREE CL_CLEANUP(cl_cleanup_free) /* what malloc(3) gave */

static inline void cl_cleanup_fd(int *fd)
{
	int error = errno;

	if (*fd >= 0)
		close(*fd);
	errno = error;
}

static inline void cl_cleanup_file(FILE **file)
{
	int error = errno;

	if (*file)
		fclose(*file);
	errno = error;
}

/* `pointer`: the address of a pointer of any type. */
static inline void cl_cleanup_free(void *pointer)
{
	free(*(void *const *)pointer); /* free(3) keeps errno (glibc >= 2.33) */
}

static inline int cl_steal_fd(int *fd)
{
	int stolen = *fd;

	*fd = -1;
	return stolen;
}

/* The value of the pointer at this address, which is NULL from then on. */
#define cl_steal(address) \
	({ \
		__typeof__(*(address)) cl_stolen = *(address); \
		*(address) = NULL; \
		cl_stolen; \
	})

#endif
