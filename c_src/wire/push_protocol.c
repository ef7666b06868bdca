/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/push_protocol.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

/* A hello's address field: 6 characters, then the kind and the version. As an address it is no user's. */
#define HELLO_MAGIC 0x434c50555348ULL /* "CLPUSH" */
enum { KIND_SESSION, KIND_STREAM, KIND_STORE, HELLO_KINDS };
/* A pagemap's type; the id is the client's: what a stock server is asked for, whether its parent images have it. */
#define HELLO_TYPE 1
#define HELLO_UNPACKS 0x100 /* beside the number of streams */
#define HELLO_SHARES 0x400
/* Beside the client, where an older server doesn't look; a background stream has no such ways. */
#define HELLO_UNPACKS_ZSTD (1ULL << 63)
#define HELLO_EARLY (1ULL << 63)
#define MAX_VADDR (UINT64_MAX - CL_PAGE_SIZE + 1)

static const uint8_t answer_magic[4] = "CLPA", refusal_magic[4] = "CLPR";

static void put(uint8_t *out, uint64_t value, unsigned int bytes)
{
	for (; bytes; bytes--, value >>= 8)
		*out++ = (uint8_t)value;
}

static uint64_t get(const uint8_t *in, unsigned int bytes)
{
	uint64_t value = 0;

	while (bytes--)
		value = value << 8 | in[bytes];
	return value;
}

size_t cl_push_pack_hello(int wire_version, const struct cl_push_hello *hello, uint8_t *out)
{
	uint64_t kind = hello->stores ? KIND_STORE : hello->stream ? KIND_STREAM : KIND_SESSION;
	size_t bytes = cl_wire_header_bytes(wire_version);
	struct cl_wire_header header = {
		.cmd = CL_WIRE_PARENT,
		.nr_pages = hello->stream ? hello->stream :
					    hello->nr_streams | (hello->unpacks & 1U << CL_LZ4 ? HELLO_UNPACKS : 0) |
						    (hello->shares ? HELLO_SHARES : 0),
		.vaddr = HELLO_MAGIC << 16 | kind << 8 | CL_PUSH_VERSION,
		.dst_id = (kind == KIND_SESSION && hello->client ? hello->client : CL_PUSH_UNNAMED) << 8 | HELLO_TYPE |
			  (!hello->stream && hello->unpacks & 1U << CL_ZSTD ? HELLO_UNPACKS_ZSTD : 0) |
			  (hello->stream && hello->early ? HELLO_EARLY : 0),
	};

	cl_wire_pack(wire_version, &header, out);
	if (!hello->stream) {
		out[bytes] = CL_WIRE_GET;
		return bytes + 1;
	}
	memcpy(out + bytes, hello->token, CL_PUSH_TOKEN_BYTES);
	return bytes + CL_PUSH_TOKEN_BYTES;
}

int cl_push_tell_hello(const uint8_t first[CL_WIRE_V1_BYTES])
{
	int version;

	if (get(first, 4) != CL_WIRE_PARENT)
		return 0;
	for (version = 1; version <= 2; version++) /* the address is at 8 or at 16 */
		if (get(first + 8 * version, 8) >> 16 == HELLO_MAGIC)
			return version;
	return 0;
}

int cl_push_is_hello(const struct cl_wire_header *header, struct cl_push_hello *hello)
{
	uint64_t kind = header->vaddr >> 8 & 0xff;
	bool joins = kind == KIND_STREAM;
	uint64_t flags = joins ? 0 : HELLO_UNPACKS | (kind == KIND_SESSION ? HELLO_SHARES : 0);
	uint64_t number = header->nr_pages & ~flags;
	unsigned int unpacks = header->nr_pages & flags & HELLO_UNPACKS ? 1U << CL_LZ4 : 0;

	if (header->cmd != CL_WIRE_PARENT || header->flags || header->vaddr >> 16 != HELLO_MAGIC ||
	    (header->vaddr & 0xff) != CL_PUSH_VERSION || kind >= HELLO_KINDS || number == 0 ||
	    number > (kind == KIND_STORE ? 1 : CL_PUSH_MAX_STREAMS))
		return 0;
	if (!joins && header->dst_id & HELLO_UNPACKS_ZSTD)
		unpacks |= 1U << CL_ZSTD;
	*hello = (struct cl_push_hello){ .stores = kind == KIND_STORE,
					 .client = kind == KIND_SESSION ? header->dst_id >> 8 & CL_PUSH_MAX_CLIENT : 0,
					 .unpacks = unpacks,
					 .early = joins && header->dst_id & HELLO_EARLY,
					 .shares = header->nr_pages & flags & HELLO_SHARES };
	*(joins ? &hello->stream : &hello->nr_streams) = (unsigned int)number;
	return 1;
}

void cl_push_pack_answer(const struct cl_push_answer *answer, uint8_t *out)
{
	memcpy(out, answer_magic, sizeof(answer_magic));
	put(out + 4, CL_PUSH_VERSION, 2);
	put(out + 6, answer->nr_streams, 2);
	memcpy(out + 8, answer->token, CL_PUSH_TOKEN_BYTES);
}

int cl_push_is_answer(const uint8_t in[4])
{
	return memcmp(in, answer_magic, sizeof(answer_magic)) == 0;
}

void cl_push_pack_refusal(enum cl_push_reason reason, uint8_t *out)
{
	memset(out, 0, CL_PUSH_ANSWER_BYTES);
	memcpy(out, refusal_magic, sizeof(refusal_magic));
	put(out + 4, CL_PUSH_VERSION, 2);
	put(out + 6, reason, 2);
}

bool cl_push_is_refusal(const uint8_t in[4])
{
	return memcmp(in, refusal_magic, sizeof(refusal_magic)) == 0;
}

unsigned int cl_push_unpack_refusal(const uint8_t *in)
{
	uint64_t reason = get(in + 6, 2);

	if (!cl_push_is_refusal(in) || get(in + 4, 2) != CL_PUSH_VERSION || reason > CL_PUSH_OVER)
		return 0;
	return (unsigned int)reason;
}

int cl_push_unpack_answer(const uint8_t *in, struct cl_push_answer *answer)
{
	answer->nr_streams = (unsigned int)get(in + 6, 2);
	memcpy(answer->token, in + 8, CL_PUSH_TOKEN_BYTES);
	if (!cl_push_is_answer(in) || get(in + 4, 2) != CL_PUSH_VERSION || answer->nr_streams == 0 ||
	    answer->nr_streams > CL_PUSH_MAX_STREAMS)
		return -EBADMSG;
	return 0;
}

enum cl_packing_way cl_push_way(unsigned int type)
{
	return type == CL_PUSH_PACKED ? CL_LZ4 : type == CL_PUSH_PACKED_ZSTD ? CL_ZSTD : CL_AS_IT_IS;
}

void cl_push_pack(const struct cl_push_header *header, uint8_t *out)
{
	put(out, header->type, 2);
	put(out + 2, 0, 2);
	put(out + 4, header->bytes, 4);
	put(out + 8, header->nr_pages, 8);
	put(out + 16, header->vaddr, 8);
	put(out + 24, header->dst_id, 8);
}

static bool is_range(const struct cl_push_header *header)
{
	return header->nr_pages && header->vaddr % CL_PAGE_SIZE == 0 && header->vaddr < MAX_VADDR &&
	       header->nr_pages <= (MAX_VADDR - header->vaddr) / CL_PAGE_SIZE;
}

int cl_push_unpack(const uint8_t *in, struct cl_push_header *header)
{
	bool fits;

	header->type = (uint16_t)get(in, 2);
	header->bytes = (uint32_t)get(in + 4, 4);
	header->nr_pages = get(in + 8, 8);
	header->vaddr = get(in + 16, 8);
	header->dst_id = get(in + 24, 8);
	switch (header->type) {
	case CL_PUSH_PAGES:
		fits = is_range(header) && header->nr_pages <= CL_PUSH_MAX_PAGES &&
		       header->bytes == header->nr_pages * CL_PAGE_SIZE;
		break;
	case CL_PUSH_PACKED:
	case CL_PUSH_PACKED_ZSTD:
		fits = is_range(header) && header->nr_pages <= CL_PUSH_PACKED_PAGES && header->bytes &&
		       header->bytes < header->nr_pages * CL_PAGE_SIZE;
		break;
	case CL_PUSH_ALSO:
		fits = is_range(header) && header->nr_pages <= CL_PUSH_MAX_PAGES && !header->bytes;
		break;
	case CL_PUSH_ZERO:
	case CL_PUSH_SAME:
		fits = is_range(header) && header->nr_pages <= CL_PUSH_TOLD_PAGES && !header->bytes;
		break;
	case CL_PUSH_LOST:
		fits = header->nr_pages && header->vaddr <= CL_PUSH_MAX_SIGNAL && !header->bytes;
		break;
	case CL_PUSH_ROUND:
		fits = header->nr_pages && !header->bytes && !header->vaddr && !header->dst_id;
		break;
	case CL_PUSH_STORED:
		fits = !header->bytes && !header->vaddr && !header->dst_id;
		break;
	case CL_PUSH_STORE:
		fits = header->bytes == CL_PUSH_TOKEN_BYTES && !header->nr_pages && !header->vaddr && !header->dst_id;
		break;
	case CL_PUSH_GET:
	case CL_PUSH_MISSING:
		fits = is_range(header) && !header->bytes;
		break;
	case CL_PUSH_CLOSED:
	case CL_PUSH_END:
	case CL_PUSH_GO:
	case CL_PUSH_DONE:
		fits = !header->bytes && !header->nr_pages && !header->vaddr && !header->dst_id;
		break;
	default:
		fits = false;
	}
	return fits && get(in + 2, 2) == 0 ? 0 : -EBADMSG;
}
