/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pages_push: the client of a page server that pushes (docs/protocol.md). A session is one demand connection, the
 * engine's remote.fd, and some background streams, opened to the same address. Each has a thread of its own that
 * receives and installs what comes. Demand faults are asked for, and answered, on the demand connection; everything else
 * comes unasked on the streams, in the server's order, as soon as it is told (resync) what is missing.
 *
 * In this mode the engine's `sending` role is the demand connection's; the `receiving` role stands for calling again.
 * A session ends as a whole: when any of its connections breaks, all threads leave theirs and wait (parked); one
 * calls again, the server is told what is missing by then, and the threads open new streams.
 *
 * What a hostile server can do: nothing but give wrong contents to pages that are missing. Every range is checked to
 * lie in the pages that it was asked for by the images; what is not missing (any more) is dropped.
 *
 * All functions: engine's lock held, unless they say otherwise.
 */
#ifndef CL_PAGES_PUSH_H
#define CL_PAGES_PUSH_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/conn.h"
#include "wire/push_protocol.h"
#include "destination/address_space.h"

struct cl_engine;

/* What a header announced and has not come yet. */
struct cl_push_run {
	struct cl_image *image;
	uint64_t vaddr;
	uint64_t nr_pages;
	size_t packed_bytes;     /* in which they come; 0: as they are */
};

struct cl_push_stream {
	struct cl_engine *engine;
	unsigned int number;     /* 0: the demand connection, whose descriptor is the engine's remote's */
	pthread_t thread;
	struct cl_conn conn;
	int window;              /* bytes that the server may have under way; 0: the kernel's */
	uint64_t window_us;      /* when it was last set */
	int min_window;
	struct cl_push_run run;
	struct cl_push_run also[CL_PUSH_MAX_ALSO]; /* what the same pages are, too; nr_also of them */
	unsigned int nr_also;
	uint8_t *buffer;
	size_t filled;           /* bytes in it that are not understood yet: less than a header, a page, a packed run */
	uint8_t *unpacked;       /* CL_PUSH_PACKED_PAGES */
};

struct cl_push {
	bool on;                 /* the server agreed */
	bool agreed;             /* it did once: if it isn't on, it has fallen back to requests, on the same connections */
	bool has_store;          /* it was told of the store, and may say that pages are as there */
	bool closing;            /* it was told the end: whatever it does with its streams is right */
	bool confirmed;          /* and said that it knows */
	unsigned int nr_streams; /* background ones */
	unsigned int nr_threads, nr_parked;
	uint8_t token[CL_PUSH_TOKEN_BYTES];
	struct cl_push_stream streams[1 + CL_PUSH_MAX_STREAMS];
};

/*
 * Say hello on any connection, hear the answer: waits up to 10 s. 1; 0 if it was a stock server's, answer->plain; or
 * error->code: -EBUSY, -ESHUTDOWN if it refuses (CL_PUSH_BUSY, CL_PUSH_OVER). No lock.
 */
int cl_push_say_hello(struct cl_conn conn, int version, const struct cl_push_hello *hello,
		      struct cl_push_answer *answer, struct cl_error *error);

/*
 * Ask the server, on the connection that was just made, whether it pushes. Dropped while waiting, up to 10 s. 1 if it
 * does, 0 if it only answers requests (and nothing has happened), or as cl_push_say_hello().
 */
int cl_push_agree(struct cl_engine *engine, struct cl_error *error);

/*
 * The same on a new connection to a server that has pushed. Once all is restored, it is told what is missing; one that
 * doesn't push any more, as its tasks are gone, is going to be asked for it. 0 or as cl_push_agree().
 */
int cl_push_agree_again(struct cl_engine *engine, struct cl_error *error);

/* Start the threads; join them after engine->stopping was set. Lock not held. 0 or -errno. */
int cl_push_start(struct cl_engine *engine);
void cl_push_join(struct cl_engine *engine);

/* Tell the server what is missing, which starts (again) what it pushes. Dropped while sending. 0 or -errno. */
int cl_push_tell_missing(struct cl_engine *engine);

/* Send demand faults. Dropped while sending. */
void cl_push_ask(struct cl_engine *engine);

/* Nothing is missing: tell the server, wait for its word. Dropped while waiting. 0 or -errno. */
int cl_push_close(struct cl_engine *engine);

/*
 * A restored task ended with so many pages missing, by that signal (0: it isn't known how): tell the server, which keeps
 * them. Who passes on what this process says may be gone. Dropped while sending.
 */
void cl_push_tell_lost(struct cl_engine *engine, int32_t pid, uint64_t nr_pages, int signal);

/* Whoever waits on a connection returns. */
void cl_push_shut_down(struct cl_engine *engine);

/* No thread has a connection of a lost session in its hands. */
bool cl_push_is_parked(const struct cl_engine *engine);

#endif
