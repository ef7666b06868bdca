/* SPDX-License-Identifier: Apache-2.0 */
#include "source/push_batch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

enum {
	CATCH_UP_US = 5000, /* of time in which nothing was sent that could have been */
	MAX_BATCH_US = 10000,
	FULL_BATCH_US = 1000, /* a fault's page may have to wait for so much, on the link */
	FULL_BATCH_PAGES = 8,
	TOLD_WAITS_US = 1000,
};

void cl_push_pace_set(struct cl_push_pace *pace, uint64_t bytes_per_s)
{
	uint64_t now_us = cl_now_us(), owed_us = pace->busy_until_us > now_us ? pace->busy_until_us - now_us : 0;

	if (bytes_per_s > pace->rate && pace->rate)
		owed_us = (uint64_t)((double)owed_us * (double)pace->rate / (double)bytes_per_s);
	*pace = (struct cl_push_pace){ .rate = bytes_per_s, .busy_until_us = bytes_per_s ? now_us + owed_us : 0 };
}

void cl_push_pace_owe(struct cl_push_pace *pace, uint64_t bytes)
{
	uint64_t until_us = pace->rate ? cl_now_us() + bytes * 1000000 / pace->rate : 0;

	if (pace->busy_until_us < until_us)
		pace->busy_until_us = until_us;
}

void cl_push_pace_charge(struct cl_push_pace *pace, uint64_t bytes)
{
	uint64_t now_us;

	if (!pace->rate)
		return;
	now_us = cl_now_us();
	if (pace->busy_until_us + CATCH_UP_US < now_us)
		pace->busy_until_us = now_us - CATCH_UP_US;
	pace->busy_until_us += bytes * 1000000 / pace->rate;
}

uint64_t cl_push_pace_held_until(const struct cl_push_pace *pace)
{
	return pace->rate && pace->busy_until_us > cl_now_us() ? pace->busy_until_us : 0;
}

uint64_t cl_push_pace_batch_pages(const struct cl_push_pace *pace)
{
	uint64_t most = 1 + pace->rate * MAX_BATCH_US / 1000000 / CL_PAGE_SIZE;
	uint64_t full = 1 + pace->rate * FULL_BATCH_US / 1000000 / CL_PAGE_SIZE;

	if (!pace->rate || full > CL_PUSH_BATCH_PAGES)
		return CL_PUSH_BATCH_PAGES;
	full = full > FULL_BATCH_PAGES ? full : FULL_BATCH_PAGES;
	return most < full ? most : full;
}

int cl_push_batch_init(struct cl_push_batch *out)
{
	_Static_assert((CL_PUSH_MAX_ALSO + 1) * CL_PUSH_HEADER_BYTES + sizeof(out->told) <= CL_PUSH_HEAD_BYTES,
		       "all headers fit in front");

	*out = (struct cl_push_batch){ .conn.fd = -1 };
	out->buffer = cl_pages_alloc(1 + CL_PUSH_BATCH_PAGES);
	out->packed = cl_pages_alloc(1 + CL_PUSH_BATCH_PAGES);
	cl_packing_init(&out->packing, 0);
	return out->buffer && out->packed ? 0 : -ENOMEM;
}

void cl_push_batch_free(struct cl_push_batch *out)
{
	free(out->buffer);
	free(out->packed);
	cl_packer_free(&out->packer);
}

static int send_message(struct cl_push_batch *out, const uint8_t *message, size_t bytes)
{
	int ret;

	if (out->sending)
		pthread_mutex_lock(out->sending);
	ret = cl_conn_send(out->conn, message, bytes);
	if (out->sending)
		pthread_mutex_unlock(out->sending);
	out->sent_bytes += bytes;
	return ret;
}

int cl_push_batch_header(struct cl_push_batch *out, const struct cl_push_header *header)
{
	uint8_t message[CL_PUSH_HEADER_BYTES];

	cl_push_pack(header, message);
	return send_message(out, message, sizeof(message));
}

int cl_push_batch_tell(struct cl_push_batch *out, const struct cl_push_header *header)
{
	struct cl_push_header *last = &out->last_told;
	int ret = 0;

	if (out->told_bytes && last->type == header->type && last->dst_id == header->dst_id &&
	    last->vaddr + last->nr_pages * CL_PAGE_SIZE == header->vaddr &&
	    last->nr_pages + header->nr_pages <= CL_PUSH_TOLD_PAGES) {
		last->nr_pages += header->nr_pages;
		out->told_bytes -= CL_PUSH_HEADER_BYTES;
	} else {
		if (out->told_bytes == sizeof(out->told))
			ret = cl_push_batch_flush(out);
		if (!out->told_bytes)
			out->told_us = cl_now_us();
		*last = *header;
	}
	cl_push_pack(last, out->told + out->told_bytes);
	out->told_bytes += CL_PUSH_HEADER_BYTES;
	return ret;
}

int cl_push_batch_flush(struct cl_push_batch *out)
{
	size_t bytes = out->told_bytes;

	out->told_bytes = 0;
	return bytes ? send_message(out, out->told, bytes) : 0;
}

bool cl_push_batch_may_wait(const struct cl_push_batch *out)
{
	return cl_now_us() - out->told_us < TOLD_WAITS_US;
}

/* Pages at `data`, in the buffer, of which `also` is true. Headers are put in front, over what was sent before. */
static int send_pages(struct cl_push_batch *out, struct cl_push_header *header, uint8_t *data, uint16_t also)
{
	enum cl_packing_way way = out->packing.way;
	uint8_t *message = data;
	size_t bytes = 0;
	unsigned int k;

	header->type = CL_PUSH_PAGES;
	if (way != CL_AS_IT_IS)
		bytes = cl_compression_pack(&out->packer, way, data, header->nr_pages * CL_PAGE_SIZE,
					    cl_push_batch_scratch(out));
	if (bytes) {
		message = cl_push_batch_scratch(out);
		header->type = way == CL_LZ4 ? CL_PUSH_PACKED : CL_PUSH_PACKED_ZSTD;
		out->packed_pages += header->nr_pages;
	} else {
		bytes = header->nr_pages * CL_PAGE_SIZE;
	}
	header->bytes = (uint32_t)bytes;
	message -= CL_PUSH_HEADER_BYTES;
	bytes += CL_PUSH_HEADER_BYTES;
	cl_push_pack(header, message);
	header->type = CL_PUSH_ALSO;
	header->bytes = 0;
	for (k = 0; also; k++, also >>= 1) {
		if (!(also & 1))
			continue;
		header->dst_id = out->also_ids[k];
		message -= CL_PUSH_HEADER_BYTES;
		bytes += CL_PUSH_HEADER_BYTES;
		cl_push_pack(header, message);
		out->also_pages += header->nr_pages;
	}
	message -= out->told_bytes;
	memcpy(message, out->told, out->told_bytes);
	bytes += out->told_bytes;
	out->told_bytes = 0;
	return send_message(out, message, bytes);
}

int cl_push_batch_send(struct cl_push_batch *out, const struct cl_push_header *batch, const uint8_t *kinds,
		       uint64_t began_us, uint64_t held_us)
{
	uint64_t from, to, nr_whole = 0, read_us = cl_now_us() - began_us;
	int ret = 0;

	out->sent_bytes = out->zero_pages = out->same_pages = out->packed_pages = out->also_pages = 0;
	for (from = 0; ret == 0 && from < batch->nr_pages; from = to) {
		struct cl_push_header header = { .type = kinds[from],
						 .vaddr = batch->vaddr + from * CL_PAGE_SIZE,
						 .dst_id = batch->dst_id };

		for (to = from + 1; to < batch->nr_pages && kinds[to] == kinds[from] && out->also[to] == out->also[from];
		     to++)
			;
		header.nr_pages = to - from;
		if (kinds[from] == CL_PUSH_PAGES) {
			ret = send_pages(out, &header, cl_push_batch_pages(out) + from * CL_PAGE_SIZE, out->also[from]);
			nr_whole += to - from;
		} else if (kinds[from]) {
			*(kinds[from] == CL_PUSH_ZERO ? &out->zero_pages : &out->same_pages) += to - from;
			ret = cl_push_batch_tell(out, &header);
		}
	}
	/* What reading the others took says nothing of packing. */
	if (nr_whole)
		cl_packing_note(&out->packing, nr_whole,
				held_us + cl_now_us() - began_us - read_us * (batch->nr_pages - nr_whole) / batch->nr_pages);
	return ret;
}
