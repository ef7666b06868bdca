/* SPDX-License-Identifier: Apache-2.0 */
/*
 * source_push_receive (internal to source_push): takes apart what comes by a connection, checks it, and installs it. Every
 * range must lie in the pages that are the page server's by the images; what is not missing (any more) is dropped.
 */
#ifndef CL_SOURCE_PUSH_RECEIVE_H
#define CL_SOURCE_PUSH_RECEIVE_H

struct cl_engine;
struct cl_error;
struct cl_push_stream;

/*
 * Install what is understood of the first stream->filled bytes of stream->buffer; the rest stays there. Lock held; dropped
 * while reading, unpacking and copying. 0, or error->code: -EPROTO (it is not as agreed), -ESTALE (the store is bad).
 */
int cl_push_install(struct cl_engine *engine, struct cl_push_stream *stream, struct cl_error *error);

#endif
