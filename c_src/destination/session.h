/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session: the beginning and the end of what is said to the page server: TLS, whether it pushes, and the last word: that
 * every page arrived, or that the source's tasks must not go. (In between: page_source.h. After a loss: reconnect.h.)
 */
#ifndef CL_SESSION_H
#define CL_SESSION_H

struct cl_engine;
struct cl_error;

/* The version of the page-server protocol is settled: as configured, or as the images tell. */
void cl_session_know_version(struct cl_engine *engine);

/* Ask the page server, once, whether it pushes, if it is to. 0 or error->code. Lock not held. */
int cl_session_agree(struct cl_engine *engine, struct cl_error *error);

/* All is served, or the engine has failed: say CLOSE, or what there is to say instead. Lock not held. */
void cl_session_end(struct cl_engine *engine);

#endif
