/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/page_protocol.h"

#include <errno.h>
#include <string.h>

#define PID_LIMIT (UINT64_C(1) << 22) /* the kernel's PID_MAX_LIMIT */

static uint32_t load32(const uint8_t *in)
{
	return (uint32_t)in[0] | (uint32_t)in[1] << 8 | (uint32_t)in[2] << 16 | (uint32_t)in[3] << 24;
}

static uint64_t load64(const uint8_t *in)
{
	return load32(in) | (uint64_t)load32(in + 4) << 32;
}

static void store32(uint8_t *out, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		out[i] = (uint8_t)(value >> (8 * i));
}

static void store64(uint8_t *out, uint64_t value)
{
	store32(out, (uint32_t)value);
	store32(out + 4, (uint32_t)(value >> 32));
}

size_t cl_wire_header_bytes(int version)
{
	switch (version) {
	case 1:
		return CL_WIRE_V1_BYTES;
	case 2:
		return CL_WIRE_V2_BYTES;
	default:
		return 0;
	}
}

void cl_wire_pack(int version, const struct cl_wire_header *h, uint8_t *out)
{
	store32(out, h->cmd | (uint32_t)h->flags << 16);
	if (version == 1) {
		store32(out + 4, (uint32_t)h->nr_pages);
	} else {
		store32(out + 4, 0);
		store64(out + 8, h->nr_pages);
		out += 8;
	}
	store64(out + 8, h->vaddr);
	store64(out + 16, h->dst_id);
}

static int has_range(uint16_t cmd)
{
	switch (cmd) {
	case CL_WIRE_ADD:
	case CL_WIRE_HOLE:
	case CL_WIRE_ADD_F:
	case CL_WIRE_GET:
		return 1;
	default:
		return 0;
	}
}

static int is_known(uint16_t cmd)
{
	switch (cmd) {
	case CL_WIRE_OPEN:
	case CL_WIRE_OPEN2:
	case CL_WIRE_PARENT:
	case CL_WIRE_CLOSE:
	case CL_WIRE_FORCE_CLOSE:
		return 1;
	default:
		return has_range(cmd);
	}
}

int cl_wire_unpack(int version, const uint8_t *in, struct cl_wire_header *h)
{
	uint32_t cmd = load32(in);

	h->cmd = (uint16_t)cmd;
	h->flags = (uint16_t)(cmd >> 16);
	if (version == 1) {
		h->nr_pages = load32(in + 4);
	} else {
		h->nr_pages = load64(in + 8);
		in += 8;
	}
	h->vaddr = load64(in + 8);
	h->dst_id = load64(in + 16);

	if (!is_known(h->cmd))
		return -EBADMSG;
	if (has_range(h->cmd)) {
		if (h->vaddr % CL_PAGE_SIZE)
			return -EBADMSG;
		/* The range may end at 2^64 exactly, no further. */
		if (h->nr_pages > (UINT64_MAX - h->vaddr) / CL_PAGE_SIZE + 1)
			return -EBADMSG;
	}
	return 0;
}

const char *cl_wire_refuse_get(const struct cl_wire_header *h, uint64_t max_pages)
{
	if (h->cmd != CL_WIRE_GET)
		return "not a GET";
	if (h->nr_pages == 0)
		return "asks for no page";
	if (h->nr_pages > max_pages)
		return "asks for too many pages at once";
	if (h->vaddr % CL_PAGE_SIZE)
		return "address is not page aligned";
	if (h->nr_pages > (UINT64_MAX - h->vaddr) / CL_PAGE_SIZE + 1)
		return "range passes the end of the address space";
	if (h->dst_id == 0 || h->dst_id >= PID_LIMIT)
		return "task id is no pid";
	return NULL;
}

int cl_wire_tell_version(const uint8_t first[CL_WIRE_V1_BYTES])
{
	uint64_t second = load64(first + 8); /* v1 vaddr, v2 nr_pages */
	uint64_t third = load64(first + 16); /* v1 dst_id, v2 vaddr */
	int may_be_v1, may_be_v2;

	if ((uint16_t)load32(first) != CL_WIRE_GET)
		return 0;
	may_be_v1 = load32(first + 4) != 0 && second % CL_PAGE_SIZE == 0 && third > 0 && third < PID_LIMIT;
	may_be_v2 = second != 0 && second <= UINT64_MAX / CL_PAGE_SIZE && third % CL_PAGE_SIZE == 0;
	if (may_be_v1 == may_be_v2)
		return 0;
	return may_be_v1 ? 1 : 2;
}
