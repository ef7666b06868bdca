/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dump_proxy: stands between a stock `criu dump --lazy-pages` and its clients. It holds the dump's one connection for
 * the whole life, lets clients of the page-server protocol come and go, and alone decides what the dump hears at the
 * end: CLOSE (the source task is killed) or nonsense (the source task runs on). listener.h accepts clients: those of CRIU's
 * protocol come here; push clients go to push_server.h, and the proxy is only told when they begin and end.
 *
 * Threads: cl_dump_proxy_run() blocks in its caller; the calls marked "any thread" may be made meanwhile.
 */
#ifndef CL_DUMP_PROXY_H
#define CL_DUMP_PROXY_H

#include <stdbool.h>
#include <stdint.h>

#include "criu_lazy.h"

/*
 * A client, a connected stream socket from which nothing was read; `name` tells it in the log. It waits until it is its
 * turn. The proxy owns it from now on. 0; or it is closed: -EBUSY if too many wait, -EPIPE if there is no dump. Any thread.
 */
int cl_dump_proxy_offer(struct cl_dump_proxy *proxy, int fd, const char *name);

/*
 * Whether the source's tasks are as the dump froze them. While that is being found out, as the dump has just died, it
 * waits. Any thread.
 */
bool cl_dump_proxy_holds_source(struct cl_dump_proxy *proxy);

/*
 * Which client, by its hello, has said that it has restored everything: also to a proxy before this one. 0: none. Any
 * thread.
 */
uint64_t cl_dump_proxy_restored_client(const struct cl_dump_proxy *proxy);

/*
 * A push client has come, misses something, misses nothing, has gone. While there is one no other client is
 * served, and who was is dropped. Any thread.
 */
void cl_dump_proxy_push_begins(struct cl_dump_proxy *proxy, const char *name);
void cl_dump_proxy_push_misses(struct cl_dump_proxy *proxy, uint64_t client);
void cl_dump_proxy_push_is_done(struct cl_dump_proxy *proxy);
void cl_dump_proxy_push_ends(struct cl_dump_proxy *proxy);

#endif
