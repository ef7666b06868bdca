/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/source_push_receive.h"

#include <errno.h>
#include <string.h>

#include "destination/engine.h"
#include "destination/precopied.h"
#include "destination/source_push_state.h"
#include "destination/uffd_fill.h"
#include "wire/compression.h"

enum { ZERO_PAGES = 64 };

/*
 * Install the next pages of the run. What comes by a stream while the tasks are restored is stored: into memory that isn't
 * registered yet nothing can be copied. Lock held; dropped while copying.
 */
static void install(struct cl_engine *engine, const struct cl_push_stream *stream, struct cl_push_run *run,
		    uint64_t nr_pages, const uint8_t *data)
{
	while (nr_pages) {
		uint64_t index = cl_image_index(run->image, run->vaddr);
		uint64_t pages = cl_image_extent(run->image, index)[1].first - index;

		if (pages > nr_pages)
			pages = nr_pages;
		if (stream->number && !engine->restored) {
			cl_precopied_store(engine, run->image, index, pages, data);
		} else {
			cl_engine_fill(engine, run->image, index, pages, data);
			(void)cl_precopied_drop(engine, run->image, index, pages);
		}
		run->vaddr += pages * CL_PAGE_SIZE;
		run->nr_pages -= pages;
		nr_pages -= pages;
		data += pages * CL_PAGE_SIZE;
	}
}

/* The same, and in all runs of which these are the pages. */
static void install_all(struct cl_engine *engine, struct cl_push_stream *stream, uint64_t nr_pages, const uint8_t *data)
{
	unsigned int i;

	for (i = 0; i < stream->nr_also; i++)
		install(engine, stream, &stream->also[i], nr_pages, data);
	install(engine, stream, &stream->run, nr_pages, data);
	if (!stream->run.nr_pages)
		stream->nr_also = 0;
}

/* Zero pages need no payload. Lock held; dropped while copying. */
static void install_zeroes(struct cl_engine *engine, struct cl_push_stream *stream)
{
	static const uint8_t zeroes[ZERO_PAGES * CL_PAGE_SIZE];
	struct cl_push_run *run = &stream->run;

	if (stream->number && !engine->restored)
		run->nr_pages = 0; /* told missing, it comes by as few bytes again */
	while (run->nr_pages && !engine->stopping)
		install(engine, stream, run, run->nr_pages < ZERO_PAGES ? run->nr_pages : ZERO_PAGES, zeroes);
}

/* The pages of the next message are these, too. 0, or error->code: -EPROTO. */
static int note_also(struct cl_push_stream *stream, struct cl_error *error)
{
	if (stream->nr_also == CL_PUSH_MAX_ALSO)
		return cl_error_set(error, -EPROTO, "it sent too many ALSO in a row, where they have no place");
	stream->also[stream->nr_also++] = stream->run;
	stream->run.nr_pages = 0;
	return 0;
}

/* Whether this message may follow those ALSO that there were. */
static bool fits_also(const struct cl_push_stream *stream, const struct cl_push_header *header)
{
	unsigned int i;

	if (stream->nr_also && header->type != CL_PUSH_ALSO && header->type != CL_PUSH_PAGES &&
	    cl_push_way(header->type) == CL_AS_IT_IS)
		return false;
	for (i = 0; i < stream->nr_also; i++)
		if (stream->also[i].nr_pages != header->nr_pages)
			return false;
	return true;
}

/* Whether it has pages in a form that this server may send on this stream. */
static bool may_come(const struct cl_engine *engine, const struct cl_push_stream *stream,
		     const struct cl_push_header *header)
{
	switch (header->type) {
	case CL_PUSH_PAGES:
	case CL_PUSH_ZERO:
		return true;
	case CL_PUSH_SAME:
		return engine->push->has_store;
	case CL_PUSH_PACKED:
	case CL_PUSH_PACKED_ZSTD:
		return cl_compression_has(cl_push_way(header->type));
	case CL_PUSH_ALSO:
		return stream->number;
	default:
		return false;
	}
}

/* A message's header. Lock held; dropped while copying. 0, or error->code: -EPROTO, -ESTALE. */
static int begin(struct cl_engine *engine, struct cl_push_stream *stream, const uint8_t *at, struct cl_error *error)
{
	struct cl_push_header header;

	if (cl_push_unpack(at, &header) < 0)
		return cl_error_set(error, -EPROTO, "it sent a damaged message");
	if (header.type == CL_PUSH_CLOSED && engine->push->closing && !stream->number) {
		engine->push->confirmed = true;
		pthread_cond_broadcast(&engine->gate);
		return 0;
	}
	if (!may_come(engine, stream, &header) || !fits_also(stream, &header))
		return cl_error_set(error, -EPROTO, "it sent what only a client sends, or where or when it has no place");
	stream->run.image = cl_image_find(engine->images, header.dst_id);
	stream->run.vaddr = header.vaddr;
	stream->run.nr_pages = header.nr_pages;
	stream->run.way = cl_push_way(header.type);
	stream->run.packed_bytes = stream->run.way == CL_AS_IT_IS ? 0 : header.bytes;
	if (!stream->run.image || !cl_image_has_remote(stream->run.image, header.vaddr, header.nr_pages))
		return cl_error_set(error, -EPROTO, "it sent pages that were not asked for");
	if (header.type == CL_PUSH_ALSO)
		return note_also(stream, error);
	if (header.type == CL_PUSH_ZERO)
		install_zeroes(engine, stream);
	return header.type == CL_PUSH_SAME ? cl_precopied_note(engine, &stream->run, error) : 0;
}

/* Install a run that has come as a whole. Lock held; dropped while unpacking and copying. 0, or error->code: -EPROTO. */
static int install_packed(struct cl_engine *engine, struct cl_push_stream *stream, const uint8_t *packed,
			  struct cl_error *error)
{
	struct cl_push_run *run = &stream->run;
	int ret;

	pthread_mutex_unlock(&engine->lock);
	ret = cl_compression_unpack(&stream->packer, run->way, packed, run->packed_bytes, stream->unpacked,
				    run->nr_pages * CL_PAGE_SIZE);
	pthread_mutex_lock(&engine->lock);
	if (ret < 0)
		return cl_error_set(error, -EPROTO, "what it sent can't be unpacked");
	run->packed_bytes = 0;
	install_all(engine, stream, run->nr_pages, stream->unpacked);
	return 0;
}

int cl_push_install(struct cl_engine *engine, struct cl_push_stream *stream, struct cl_error *error)
{
	struct cl_push_run *run = &stream->run;
	size_t at = 0;
	int ret = 0;

	while (ret == 0 && !engine->stopping) {
		size_t left = stream->filled - at;

		if (run->nr_pages == 0) {
			if (left < CL_PUSH_HEADER_BYTES)
				break;
			ret = begin(engine, stream, stream->buffer + at, error);
			at += CL_PUSH_HEADER_BYTES;
		} else if (run->packed_bytes) {
			size_t bytes = run->packed_bytes;

			if (left < bytes)
				break;
			ret = install_packed(engine, stream, stream->buffer + at, error);
			at += bytes;
		} else {
			uint64_t pages = left / CL_PAGE_SIZE;

			if (pages == 0)
				break;
			if (pages > run->nr_pages)
				pages = run->nr_pages;
			install_all(engine, stream, pages, stream->buffer + at);
			at += pages * CL_PAGE_SIZE;
		}
	}
	stream->filled -= at;
	memmove(stream->buffer, stream->buffer + at, stream->filled);
	return ret;
}
