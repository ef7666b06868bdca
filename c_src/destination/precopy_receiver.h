/* SPDX-License-Identifier: Apache-2.0 */
/*
 * precopy_receiver: the destination's end of pre-copy (docs/protocol.md): receives what the page server sends of a running
 * task, and keeps it in a store (precopy_store.h), until the server says that it is complete.
 *
 * What a hostile server can do: fill the disk, with pages that it must send; nothing that is used before a daemon is told
 * to use it.
 */
#ifndef CL_PRECOPY_RECEIVER_H
#define CL_PRECOPY_RECEIVER_H

#include "criu_lazy.h"

#endif
