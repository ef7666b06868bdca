/* SPDX-License-Identifier: Apache-2.0 */
/*
 * workers: the threads that take turns at receiving from a page server that answers requests, install what came, copy
 * from local images, and connect again to a page server that was lost.
 */
#ifndef CL_WORKERS_H
#define CL_WORKERS_H

struct cl_engine;

/* Start as many as the configuration or the CPUs say. 0, or -errno if there is none. Lock not held. */
int cl_workers_start(struct cl_engine *engine);

/* Make all threads but the caller leave (engine->stopping), the page source's too, and join them. Lock not held. */
void cl_workers_join(struct cl_engine *engine);

#endif
