/* SPDX-License-Identifier: Apache-2.0 */
/*
 * push_hello: how a client of a page server that pushes begins: it says hello (push_protocol.h) and hears the answer.
 */
#ifndef CL_PUSH_HELLO_H
#define CL_PUSH_HELLO_H

#include "wire/conn.h"
#include "wire/push_protocol.h"

/*
 * On any connection; waits up to 10 s. 1; 0 if it was a stock server's, answer->plain; or error->code: -EBUSY, -ESHUTDOWN if
 * it refuses (CL_PUSH_BUSY, CL_PUSH_OVER).
 */
int cl_push_say_hello(struct cl_conn conn, int version, const struct cl_push_hello *hello, struct cl_push_answer *answer,
		      struct cl_error *error);

#endif
