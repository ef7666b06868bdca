/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page_protocol: headers of CRIU's page-server protocol: pack, unpack, validate. Pure functions, no I/O, no state.
 *
 * Version 1 (CRIU <= 4.1), 24 bytes: u32 cmd, u32 nr_pages, u64 vaddr, u64 dst_id.
 * Version 2 (CRIU >= 4.2), 32 bytes: u32 cmd, 4 bytes of padding (any value), u64 nr_pages, u64 vaddr, u64 dst_id.
 * Little-endian on every host. The wire's u32 cmd carries the command in its low 16 bits, pagemap flags above.
 */
#ifndef CL_PAGE_PROTOCOL_H
#define CL_PAGE_PROTOCOL_H

#include <stddef.h>
#include <stdint.h>

#include "base/page.h"

#include "criu_lazy.h"

enum {
	CL_WIRE_V1_BYTES = 24,
	CL_WIRE_V2_BYTES = 32,
	CL_WIRE_MAX_BYTES = CL_WIRE_V2_BYTES,
};

/* What criu restore sends its lazy-pages daemon, instead of a pid, when all tasks are restored. */
#define CL_RESTORE_FINISHED 0x52535446

enum cl_wire_cmd {
	CL_WIRE_ADD = 1,
	CL_WIRE_HOLE = 2,
	CL_WIRE_OPEN = 3,
	CL_WIRE_OPEN2 = 4,
	CL_WIRE_PARENT = 5,
	CL_WIRE_ADD_F = 6, /* the answer to a GET: this header, then nr_pages pages */
	CL_WIRE_GET = 7,
	CL_WIRE_ROLLBACK = CL_ROLL_BACK_BYTE, /* ours: no CRIU knows it, so `criu dump` gives up and its task runs on */
	CL_WIRE_CLOSE = 0x1023,               /* answered by a u32 status, 0 for success */
	CL_WIRE_FORCE_CLOSE = 0x1024,
};

/* Bits of cl_wire_header.flags, as in a pagemap entry. */
enum {
	CL_WIRE_FLAG_PARENT = 1,
	CL_WIRE_FLAG_LAZY = 2,
	CL_WIRE_FLAG_PRESENT = 4,
};

struct cl_wire_header {
	uint16_t cmd; /* enum cl_wire_cmd */
	uint16_t flags;
	uint64_t nr_pages; /* version 1 carries 32 bits of it */
	uint64_t vaddr;
	uint64_t dst_id; /* pid in the dumped task's pid namespace */
};

/* Size of a header: version 1: 24, version 2: 32. Any other version: 0. */
size_t cl_wire_header_bytes(int version);

/* Writes cl_wire_header_bytes(version) bytes. In version 1 nr_pages must be below 2^32 (the rest is cut off). */
void cl_wire_pack(int version, const struct cl_wire_header *h, uint8_t *out);

/*
 * Reads cl_wire_header_bytes(version) bytes. 0, or -EBADMSG with *h still filled in when the command is not one
 * that CRIU's page server or client sends, or, for a command with a range, when vaddr is not page aligned or
 * the range passes the end of the address space. nr_pages may be 0.
 */
int cl_wire_unpack(int version, const uint8_t *in, struct cl_wire_header *h);

/* NULL for a GET of 1..max_pages pages for a plausible task; otherwise why not, as a static text. */
const char *cl_wire_refuse_get(const struct cl_wire_header *h, uint64_t max_pages);

/*
 * The version of a connection whose first 24 bytes from the client are `first`: 1, 2, or 0 where both are possible
 * (or neither). Sure for a GET: what version 2 has at bytes 16..23, the address, is no pid in version 1 unless it
 * lies below 4 MiB.
 */
int cl_wire_tell_version(const uint8_t first[CL_WIRE_V1_BYTES]);

#endif
