/* SPDX-License-Identifier: Apache-2.0 */
/*
 * source_push: the client of a page server that pushes (docs/protocol.md). A session is one demand connection, the
 * engine's remote.fd, and some background streams, opened to the same address. Each has a thread of its own that
 * receives and installs what comes. Demand faults are asked for, and answered, on the demand connection; everything else
 * comes unasked on the streams, in the server's order, as soon as it is told (resync) what is missing.
 *
 * In this mode the engine's `sending` role is the demand connection's; the `receiving` role stands for connecting again.
 * A session ends as a whole: when any of its connections breaks, all threads leave theirs and wait (parked); one
 * connects again, the server is told what is missing by then, and the threads open new streams.
 *
 * What a hostile server can do: nothing but give wrong contents to pages that are missing. Every range is checked to
 * lie in the pages that it was asked for by the images; what is not missing (any more) is dropped.
 */
#ifndef CL_SOURCE_PUSH_H
#define CL_SOURCE_PUSH_H

struct cl_engine;
struct cl_error;

/*
 * Ask the server, on the connection that was just made, whether it pushes. 1 if it does: from then on it is the engine's
 * page source, for good; should it fall back to answering requests, as its tasks are gone, it is asked as one that does.
 * 0 if it only answers requests (and nothing has happened); -ENOMEM, or as cl_push_say_hello(), with error->text.
 * Lock held; dropped while waiting, up to 10 s.
 */
int cl_push_agree(struct cl_engine *engine, struct cl_error *error);

#endif
