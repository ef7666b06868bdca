/* SPDX-License-Identifier: Apache-2.0 */
/*
 * precedence: threads that a task's threads wait for run as soon as they wake.
 *
 * A short time slice (Linux >= 6.12; ignored before) lets a thread run at once when it wakes, also where the task's own
 * threads keep every CPU busy; nice alone only gives it more of the time.
 */
#ifndef CL_PRECEDENCE_H
#define CL_PRECEDENCE_H

/* The calling thread takes precedence. Where it may not, it stays as it is. */
void cl_take_precedence(void);

#endif
