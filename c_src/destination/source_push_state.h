/* SPDX-License-Identifier: Apache-2.0 */
/*
 * source_push_state (internal to source_push): a session with a page server that pushes, and its connections; the engine's
 * lock guards all of it. Its parts: source_push.c (the session), source_push_streams.c (connections and their threads),
 * source_push_receive.c (what comes by them).
 */
#ifndef CL_SOURCE_PUSH_STATE_H
#define CL_SOURCE_PUSH_STATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/compression.h"
#include "wire/conn.h"
#include "wire/push_protocol.h"

struct cl_engine;
struct cl_image;

/* What a header announced and has not come yet. */
struct cl_push_run {
	struct cl_image *image;
	uint64_t vaddr;
	uint64_t nr_pages;
	enum cl_packing_way way;
	size_t packed_bytes; /* in which they come; 0: as they are */
};

struct cl_push_stream {
	struct cl_engine *engine;
	unsigned int number; /* 0: the demand connection, whose descriptor is the engine's remote's */
	pthread_t thread;
	struct cl_conn conn;
	int window;         /* bytes that the server may have under way; 0: the kernel's */
	uint64_t window_us; /* when it was last set */
	int min_window;
	struct cl_push_run run;
	struct cl_push_run also[CL_PUSH_MAX_ALSO]; /* what the same pages are, too; nr_also of them */
	unsigned int nr_also;
	uint8_t *buffer;
	size_t filled;     /* bytes in it that are not understood yet: less than a header, a page, a packed run */
	uint8_t *unpacked; /* CL_PUSH_PACKED_PAGES */
	struct cl_packer packer;
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

#endif
