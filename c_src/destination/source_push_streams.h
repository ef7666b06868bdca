/* SPDX-License-Identifier: Apache-2.0 */
/*
 * source_push_streams (internal to source_push): the threads of a session's connections. Each receives and installs what
 * comes; when the session is lost, it leaves its connection, waits (parked), and opens a new one in the next session.
 */
#ifndef CL_SOURCE_PUSH_STREAMS_H
#define CL_SOURCE_PUSH_STREAMS_H

struct cl_engine;

/* As struct cl_page_source's start, join, each_stream and shut_down. */
int cl_push_start_streams(struct cl_engine *engine);
void cl_push_join_streams(struct cl_engine *engine);
void cl_push_each_stream(struct cl_engine *engine, void (*each)(const struct cl_engine *engine, int fd));
void cl_push_shut_down_streams(struct cl_engine *engine);

#endif
