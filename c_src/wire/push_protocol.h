/* SPDX-License-Identifier: Apache-2.0 */
/*
 * push_protocol: the messages by which a page server pushes and its client steers it (docs/protocol.md): pack, unpack,
 * validate. Pure functions, no I/O, no state. Little-endian on every host.
 */
#ifndef CL_PUSH_PROTOCOL_H
#define CL_PUSH_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/compression.h"
#include "wire/page_protocol.h"

enum {
	CL_PUSH_VERSION = 1,
	CL_PUSH_MAX_PAGES = 256,   /* in one PAGES */
	CL_PUSH_PACKED_PAGES = 64, /* in one PACKED */
	CL_PUSH_MAX_SIGNAL = 64,
	CL_PUSH_TOLD_PAGES = 65536, /* in one ZERO or SAME */
	CL_PUSH_MAX_ALSO = 15,      /* ALSO in a row */
	CL_PUSH_TOKEN_BYTES = 16,
	CL_PUSH_HELLO_MAX_BYTES = CL_WIRE_MAX_BYTES + CL_PUSH_TOKEN_BYTES + 1,
	CL_PUSH_ANSWER_BYTES = 24,
	CL_PUSH_HEADER_BYTES = 32,
};

#define CL_PUSH_MAX_CLIENT ((1ULL << 55) - 1)
#define CL_PUSH_UNNAMED 1ULL /* any client that has no name */

/* ---- the hello: a PARENT header, which a stock page server answers with an i32 ---- */

struct cl_push_hello {
	bool stores;             /* wants pages to store, before the dump: nr_streams is 1, stream 0 */
	unsigned int stream;     /* 0: opens a session; else: this background stream of the session of `token` */
	unsigned int nr_streams; /* of stream 0: background streams wanted, 1..CL_PUSH_MAX_STREAMS */
	unsigned int unpacks;    /* of stream 0: of packing ways those that the client understands, a bit each */
	bool shares;             /* of stream 0: the client understands ALSO */
	bool early;              /* of a background stream: its client stores what comes before GO */
	uint64_t client;         /* opening a session: who, 1..CL_PUSH_MAX_CLIENT; a successor of a daemon is the same */
	uint8_t token[CL_PUSH_TOKEN_BYTES];
};

/* Writes at most CL_PUSH_HELLO_MAX_BYTES, the byte ahead after a hello without token included; returns how many. */
size_t cl_push_pack_hello(int wire_version, const struct cl_push_hello *hello, uint8_t *out);

/* The wire version of what is a hello by the first 24 bytes that a client sends; 0: it is something else. */
int cl_push_tell_hello(const uint8_t first[CL_WIRE_V1_BYTES]);

/* Whether this header is a hello, whose numbers are then read; a background stream's token follows. */
int cl_push_is_hello(const struct cl_wire_header *header, struct cl_push_hello *hello);

/* The answer to any hello. A stock server's i32 never looks like its first 4 bytes. */
struct cl_push_answer {
	unsigned int nr_streams; /* granted, 1..CL_PUSH_MAX_STREAMS; to a background stream: its own number */
	uint8_t token[CL_PUSH_TOKEN_BYTES];
	int32_t plain; /* of a server that does not push, the i32 that it says instead */
};

/* What a server says instead that pushed once and can't read its tasks any more: ask for what the dump has of them. */
#define CL_PUSH_PLAIN_GONE 2

void cl_push_pack_answer(const struct cl_push_answer *answer, uint8_t *out);

/* Whether these 4 bytes begin an answer of a page server that pushes. */
int cl_push_is_answer(const uint8_t in[4]);

/* A refusal, as long as an answer; the server closes then. */
enum cl_push_reason {
	CL_PUSH_BUSY = 1, /* another client's session is open, or its tasks run */
	CL_PUSH_OVER = 2, /* rolled back, committed, or about to be */
};

void cl_push_pack_refusal(enum cl_push_reason reason, uint8_t *out);
bool cl_push_is_refusal(const uint8_t in[4]);

/* Reads CL_PUSH_ANSWER_BYTES of a refusal. The reason, or 0 for one that isn't known. */
unsigned int cl_push_unpack_refusal(const uint8_t *in);

/* Reads CL_PUSH_ANSWER_BYTES. 0, or -EBADMSG for another version or numbers out of range. */
int cl_push_unpack_answer(const uint8_t *in, struct cl_push_answer *answer);

/* ---- messages ---- */

enum cl_push_type {
	/* from the server */
	CL_PUSH_PAGES = 1,       /* nr_pages * 4096 bytes follow */
	CL_PUSH_ZERO = 2,        /* these pages are zero */
	CL_PUSH_CLOSED = 3,      /* the answer to DONE */
	CL_PUSH_PACKED = 4,      /* nr_pages, in fewer bytes: an LZ4 block follows */
	CL_PUSH_SAME = 5,        /* these pages are as in the client's store */
	CL_PUSH_ROUND = 6,       /* to a store: round nr_pages was sent */
	CL_PUSH_END = 7,         /* to a store: there will be no more */
	CL_PUSH_ALSO = 8,        /* the pages of the next PAGES or PACKED are these, too */
	CL_PUSH_PACKED_ZSTD = 9, /* as PACKED: a zstd frame follows */
	/* from the client, on the demand connection */
	CL_PUSH_GET = 16,     /* a thread waits for these pages */
	CL_PUSH_MISSING = 17, /* these pages are missing: push them once */
	CL_PUSH_GO = 18,      /* nothing else is: start to push */
	CL_PUSH_DONE = 19,    /* nothing is missing any more: this was the last page */
	CL_PUSH_STORE = 20,   /* the client has the store whose token follows */
	CL_PUSH_LOST = 22,    /* task dst_id ended with nr_pages missing; vaddr: the signal that killed it, 0: not known */
	/* from a store */
	CL_PUSH_STORED = 21, /* the answer to ROUND, by its number, and to END, by 0: everything before is stored */
};

struct cl_push_header {
	uint16_t type;  /* enum cl_push_type */
	uint32_t bytes; /* that follow */
	uint64_t nr_pages;
	uint64_t vaddr;  /* at the dump */
	uint64_t dst_id; /* the task's pid, as in CRIU's headers */
};

/* In which way the pages of a message of this type come: CL_AS_IT_IS also for those without pages. */
enum cl_packing_way cl_push_way(unsigned int type);

/* Writes CL_PUSH_HEADER_BYTES. */
void cl_push_pack(const struct cl_push_header *header, uint8_t *out);

/*
 * Reads CL_PUSH_HEADER_BYTES. 0; or -EBADMSG for an unknown type, a range that is empty, unaligned or passes the end of
 * the address space, a length that doesn't fit the type, or fields that should be zero and are not.
 */
int cl_push_unpack(const uint8_t *in, struct cl_push_header *header);

#endif
