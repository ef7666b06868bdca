/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listener: the network side of the page server: listens, speaks TLS where it is asked to, finds out what a client is, and
 * brings it to whom it wants: a client that speaks the push protocol to push_server.h, any other to the proxy.
 *
 * Each connection has a thread, at most CL_LISTENER_CONNECTIONS of them, and at most CL_LISTENER_STRANGERS that have not
 * shown the key yet (without one: that have not said what they want). If more come, the oldest of the address that most
 * of those come from gives way; who was admitted never does. Until a client's first 24 bytes are there nothing is done
 * for it.
 *
 * Lock: over the list of connections, their descriptors and counts, and the rate; not held while a client is served.
 *
 * Before the dump there is no proxy, and only a store is served (precopy_sender.h); afterwards no store is.
 */
#ifndef CL_LISTENER_H
#define CL_LISTENER_H

#include "criu_lazy.h"
#include "source/dump_proxy.h"
#include "source/precopy_sender.h"

#endif
