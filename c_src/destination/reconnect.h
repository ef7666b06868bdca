/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reconnect: a page server that was lost once the restored task runs is connected to again, at the address that the
 * engine's first connection led to. It must be one that outlives its clients (docs/page-server.md): a stock source ends
 * with its one connection. One that pushes is known to: it is connected to again before, too, for a moment, as the task
 * at the source can still run on instead. Afterwards the task waits, by default without limit: what the page server has
 * can still come, hours later. Only an operator knows that it never will (SIGTERM ends this daemon, and SIGBUS the task).
 */
#ifndef CL_RECONNECT_H
#define CL_RECONNECT_H

#include <stdbool.h>

struct cl_engine;
struct cl_error;
struct cl_tls;

/*
 * The connection to the page server broke; the error tells why. True: it will be made again, `lost` is set; demand faults
 * wait. False if it can't be: the restored task doesn't run yet, or nobody wants it. Lock held.
 */
bool cl_engine_lose(struct cl_engine *engine, const struct cl_error *error);

/*
 * A connection broke, or the protocol was broken on it (-EPROTO): it is lost, or the engine fails. Sender and receiver call
 * it, whoever is the first to see it. Lock held.
 */
void cl_engine_broken(struct cl_engine *engine, const struct cl_error *error);

/* The same; code: what sending on it returned. */
void cl_engine_send_failed(struct cl_engine *engine, int code);

/*
 * Put back what was in flight and connect to the page server until it answers, or time is up (then the engine fails).
 * For a worker, in the role of the receiver; nobody may be sending. Lock held; dropped while waiting.
 */
void cl_engine_reconnect(struct cl_engine *engine);

/* The page server outlives its clients: it can be connected to again. Lock held, or no other thread. */
bool cl_engine_is_held(const struct cl_engine *engine);

/* Notice soon when the page server's host is gone, from now on. Lock held. */
void cl_engine_watch_connections(struct cl_engine *engine);

/*
 * Connect to the page server's address. *fd is the new socket from the start, on failure too, so that cl_engine_fail()
 * and cl_engine_lose() can shut it down; *tls is set where TLS is spoken. Lock held; dropped while waiting. 0 or
 * error->code.
 */
int cl_engine_call(struct cl_engine *engine, int *fd, struct cl_tls **tls, struct cl_error *error);

#endif
