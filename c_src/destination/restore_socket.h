/* SPDX-License-Identifier: Apache-2.0 */
/*
 * restore_socket: what criu restore says: for each task its pid and its userfaultfd, in the task's own name, and in the
 * end that all are restored. The events thread's.
 */
#ifndef CL_RESTORE_SOCKET_H
#define CL_RESTORE_SOCKET_H

#include <stdbool.h>

struct cl_engine;

/* Read one message. False if that was the last one. Lock not held. */
bool cl_restore_read(struct cl_engine *engine);

/* All tasks are restored: what no task asked for is not needed; background transfer may run. Lock held. */
void cl_restore_finished(struct cl_engine *engine);

/*
 * The engine ends before it knows how the restore did. What it says from now on fails, and so does the restore; but if
 * its last word was on its way, its tasks run, and must not read zeroes. Lock not held.
 */
void cl_restore_settle(struct cl_engine *engine);

#endif
