/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/push_hello.h"

#include <errno.h>

enum { ANSWER_TIMEOUT_S = 10 };

static int refused(const uint8_t *in, struct cl_error *error)
{
	switch (cl_push_unpack_refusal(in)) {
	case CL_PUSH_BUSY:
		return cl_error_set(error, -EBUSY, "it refuses: it serves another lazy-pages daemon");
	case CL_PUSH_OVER:
		return cl_error_set(error, -ESHUTDOWN, "it refuses: the source's dump is committed or rolled back");
	default:
		return cl_error_set(error, -EPROTO, "it refuses, for a reason that isn't known here");
	}
}

int cl_push_say_hello(struct cl_conn conn, int version, const struct cl_push_hello *hello, struct cl_push_answer *answer,
		      struct cl_error *error)
{
	uint8_t out[CL_PUSH_HELLO_MAX_BYTES], in[CL_PUSH_ANSWER_BYTES];
	int ret = cl_conn_send(conn, out, cl_push_pack_hello(version, hello, out));

	if (ret < 0)
		return cl_conn_error(ret, error);
	ret = cl_conn_receive_exactly(conn, in, 4, ANSWER_TIMEOUT_S, error);
	if (ret < 0)
		return ret;
	*answer = (struct cl_push_answer){ .plain = in[0] | in[1] << 8 | in[2] << 16 }; /* small, or not ours */
	if (!cl_push_is_answer(in) && !cl_push_is_refusal(in))
		return 0;
	ret = cl_conn_receive_exactly(conn, in + 4, sizeof(in) - 4, ANSWER_TIMEOUT_S, error);
	if (ret < 0)
		return ret;
	if (cl_push_is_refusal(in))
		return refused(in, error);
	if (cl_push_unpack_answer(in, answer) == 0)
		return 1;
	return cl_error_set(error, -EPROTO, "it speaks another version of the push protocol");
}
