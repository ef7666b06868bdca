/* SPDX-License-Identifier: Apache-2.0 */
#include "source/dump_stream.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/io.h"

/* Places that PARENT and the end may need besides clients' requests. */
enum { RESERVED_OWED = 4 };

int cl_dump_stream_version(const struct cl_dump_stream *stream)
{
	return (int)atomic_load(&stream->shared->wire_version);
}

void cl_dump_stream_set_version(struct cl_dump_stream *stream, int version)
{
	atomic_store(&stream->shared->wire_version, (uint32_t)version);
	stream->header_bytes = cl_wire_header_bytes(version);
}

bool cl_dump_stream_stands(const struct cl_dump_stream *stream)
{
	/* A dying process closes what it has open before its tracees are let go. */
	struct pollfd p = { .fd = stream->fd, .events = POLLRDHUP };

	return poll(&p, 1, 0) == 0;
}

void cl_dump_stream_free(struct cl_dump_stream *stream)
{
	if (stream->fd >= 0)
		close(stream->fd);
	cl_dump_guardian_state_unmap(stream->shared);
}

static void owe(struct cl_dump_stream *stream, struct cl_dump_owed answer)
{
	stream->owed[(stream->owed_head + stream->nr_owed++) % CL_DUMP_MAX_OWED] = answer;
}

/* ---- requests ---- */

/* All of it. Requests are few enough that this does not block; should it, it waits. */
static int send_bytes(struct cl_dump_stream *stream, const uint8_t *data, size_t length, struct cl_error *error)
{
	int ret = cl_send_all(stream->fd, data, length, 0);

	return ret < 0 ? cl_error_set(error, -EPIPE, "the lazy dump can't be reached any more: %s", strerror(-ret)) : 0;
}

int cl_dump_stream_begin(struct cl_dump_stream *stream, int wire_version, struct cl_error *error)
{
	const uint8_t first = CL_WIRE_PARENT;

	if (!wire_version)
		return 0;
	cl_dump_stream_set_version(stream, wire_version);
	stream->ahead = CL_DUMP_AHEAD_PARENT;
	atomic_store(&stream->shared->parent_first, 1);
	return send_bytes(stream, &first, 1, error);
}

/* Append what is left to send of our own question PARENT, whose answer is dropped. Returns its size. */
static size_t finish_parent(struct cl_dump_stream *stream, uint8_t *out)
{
	/* Type 1 (a pagemap) in the low byte, an id above it: the dump looks whether its parent images have it. */
	const struct cl_wire_header parent = { .cmd = CL_WIRE_PARENT, .dst_id = 0x101 };
	uint8_t packed[CL_WIRE_MAX_BYTES];

	cl_wire_pack(cl_dump_stream_version(stream), &parent, packed);
	memcpy(out, packed + 1, stream->header_bytes - 1);
	owe(stream, (struct cl_dump_owed){ .kind = CL_DUMP_ANSWER_PARENT });
	return stream->header_bytes - 1;
}

bool cl_dump_stream_takes_get(const struct cl_dump_stream *stream)
{
	return stream->nr_owed < CL_DUMP_MAX_OWED - RESERVED_OWED;
}

/* Each request of a batch is sent less the byte sent ahead. */
void cl_dump_stream_add_get(struct cl_dump_stream *stream, struct cl_dump_batch *batch, const struct cl_wire_header *get,
			    uint64_t client)
{
	size_t skip = stream->ahead == CL_DUMP_AHEAD_GET;
	uint8_t packed[CL_WIRE_MAX_BYTES];

	if (stream->ahead == CL_DUMP_AHEAD_PARENT)
		batch->used += finish_parent(stream, batch->bytes + batch->used);
	cl_wire_pack(cl_dump_stream_version(stream), get, packed);
	memcpy(batch->bytes + batch->used, packed + skip, stream->header_bytes - skip);
	batch->used += stream->header_bytes - skip;
	owe(stream, (struct cl_dump_owed){ .kind = CL_DUMP_ANSWER_PAGES,
					   .client = client,
					   .nr_pages = get->nr_pages,
					   .vaddr = get->vaddr,
					   .dst_id = get->dst_id });
	stream->ahead = CL_DUMP_AHEAD_NONE;
}

int cl_dump_stream_send(struct cl_dump_stream *stream, struct cl_dump_batch *batch, struct cl_error *error)
{
	if (!batch->used)
		return 0;
	batch->bytes[batch->used++] = CL_WIRE_GET;
	stream->ahead = CL_DUMP_AHEAD_GET;
	return send_bytes(stream, batch->bytes, batch->used, error);
}

int cl_dump_stream_send_close(struct cl_dump_stream *stream, struct cl_error *error)
{
	const struct cl_wire_header close_header = { .cmd = CL_WIRE_CLOSE };
	struct cl_dump_batch batch;

	batch.used = 0;
	stream->close_sent = true;
	if (!stream->header_bytes) {
		/* Nothing was ever sent: to the dump, the end of the connection is a success too. */
		stream->status_received = true;
		return shutdown(stream->fd, SHUT_WR) < 0 ? cl_error_set(error, -EPIPE, "the lazy dump has gone") : 0;
	}
	if (stream->ahead == CL_DUMP_AHEAD_PARENT) {
		batch.used = finish_parent(stream, batch.bytes);
	} else if (stream->ahead == CL_DUMP_AHEAD_GET) {
		/* Complete it as the last GET that was answered: that page exists. */
		const struct cl_wire_header again = {
			.cmd = CL_WIRE_GET, .nr_pages = 1, .vaddr = stream->progress.vaddr, .dst_id = stream->progress.dst_id
		};

		cl_dump_stream_add_get(stream, &batch, &again, 0);
	}
	stream->ahead = CL_DUMP_AHEAD_NONE;
	cl_wire_pack(cl_dump_stream_version(stream), &close_header, batch.bytes + batch.used);
	batch.used += stream->header_bytes;
	owe(stream, (struct cl_dump_owed){ .kind = CL_DUMP_ANSWER_STATUS });
	return send_bytes(stream, batch.bytes, batch.used, error);
}

/* ---- answers ---- */

static void ring_read(const struct cl_dump_stream *stream, uint64_t offset, uint8_t *out, size_t length)
{
	for (size_t i = 0; i < length; i++)
		out[i] = stream->shared->ring[(offset + i) % CL_DUMP_GUARDIAN_RING_BYTES];
}

/* Up to two pieces of the ring for the stream's [offset, offset + length). */
static size_t ring_pieces(struct cl_dump_stream *stream, uint64_t offset, size_t length, struct iovec out[2])
{
	size_t start = offset % CL_DUMP_GUARDIAN_RING_BYTES;
	size_t first = CL_DUMP_GUARDIAN_RING_BYTES - start;

	out[0].iov_base = stream->shared->ring + start;
	out[0].iov_len = length < first ? length : first;
	out[1].iov_base = stream->shared->ring;
	out[1].iov_len = length - out[0].iov_len;
	return out[1].iov_len ? 2 : 1;
}

static size_t ring_room(const struct cl_dump_stream *stream)
{
	return CL_DUMP_GUARDIAN_RING_BYTES - (size_t)(stream->consumed - stream->forwarded);
}

bool cl_dump_stream_has_room(const struct cl_dump_stream *stream)
{
	return ring_room(stream) > 0;
}

int cl_dump_stream_receive(struct cl_dump_stream *stream, struct cl_error *error)
{
	struct iovec pieces[2];
	struct msghdr message = { .msg_iov = pieces };
	ssize_t n;

	if (!ring_room(stream))
		return 0;
	message.msg_iovlen = ring_pieces(stream, stream->consumed, ring_room(stream), pieces);
	n = recvmsg(stream->fd, &message, MSG_DONTWAIT);
	if (n > 0) {
		const int on = 1;

		stream->consumed += (uint64_t)n;
		/* The dump corks its answers: without this, their tails wait for our delayed acknowledgment. */
		(void)setsockopt(stream->fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
		return 1;
	}
	/* The kernel resets a connection whose owner dies with something of it unread. */
	if (n == 0 || errno == ECONNRESET)
		return -ENODATA;
	if (errno == EAGAIN || errno == EINTR)
		return 0;
	return cl_error_set(error, -EPIPE, "the connection to the lazy dump broke: %s", strerror(errno));
}

/* What a page server that takes over must know, before any byte of this answer may be overwritten in the ring. */
static void publish_progress(struct cl_dump_stream *stream)
{
	uint32_t unused = !atomic_load(&stream->shared->slot);

	stream->progress.next_header = stream->next_header;
	stream->shared->progress[unused] = stream->progress;
	atomic_store(&stream->shared->slot, unused);
}

/* The header of an answer that is owed as `owed` has it. Returns its size with its pages; 0: it is something else. */
static uint64_t take_pages_header(struct cl_dump_stream *stream, const struct cl_dump_owed *owed, const uint8_t *raw)
{
	struct cl_wire_header h;

	if (cl_wire_unpack(cl_dump_stream_version(stream), raw, &h) || h.cmd != CL_WIRE_ADD_F ||
	    h.nr_pages > (owed->nr_pages ? owed->nr_pages : UINT32_MAX) ||
	    (owed->nr_pages && (h.vaddr != owed->vaddr || h.dst_id != owed->dst_id)))
		return 0;
	stream->progress.gets++;
	stream->progress.vaddr = h.vaddr;
	stream->progress.dst_id = h.dst_id;
	return stream->header_bytes + h.nr_pages * CL_PAGE_SIZE;
}

int cl_dump_stream_understand(struct cl_dump_stream *stream, uint64_t client, struct cl_error *error)
{
	while (stream->next_header < stream->consumed) {
		const struct cl_dump_owed *owed = &stream->owed[stream->owed_head];
		uint8_t raw[CL_WIRE_MAX_BYTES];
		uint64_t length = sizeof(uint32_t);
		size_t need;
		bool wanted;

		if (!stream->nr_owed)
			return cl_error_set(error, -EPROTO, "the lazy dump sent more than it was asked for");
		need = owed->kind == CL_DUMP_ANSWER_PAGES ? stream->header_bytes : sizeof(uint32_t);
		if (stream->consumed - stream->next_header < need)
			return 0;
		wanted = owed->kind == CL_DUMP_ANSWER_PAGES && client && owed->client == client;
		if (stream->forwarded < stream->next_header && wanted != stream->wanted)
			return 0;
		ring_read(stream, stream->next_header, raw, need);
		if (owed->kind == CL_DUMP_ANSWER_PAGES)
			length = take_pages_header(stream, owed, raw);
		if (!length)
			return cl_error_set(error, -EPROTO,
					    "the lazy dump's answer is no page header: is --wire-version %d right?",
					    cl_dump_stream_version(stream));
		if (owed->kind == CL_DUMP_ANSWER_STATUS) {
			stream->status_received = true;
			stream->status = (uint32_t)raw[0] | (uint32_t)raw[1] << 8 | (uint32_t)raw[2] << 16 |
					 (uint32_t)raw[3] << 24;
		}
		stream->wanted = wanted;
		stream->next_header += length;
		stream->progress.answers++;
		publish_progress(stream);
		stream->owed_head = (stream->owed_head + 1) % CL_DUMP_MAX_OWED;
		stream->nr_owed--;
	}
	return 0;
}

/* Up to where what has come is understood. */
static uint64_t understood(const struct cl_dump_stream *stream)
{
	return stream->consumed < stream->next_header ? stream->consumed : stream->next_header;
}

bool cl_dump_stream_waits_for_client(const struct cl_dump_stream *stream)
{
	return stream->wanted && stream->forwarded < understood(stream);
}

static void discard(struct cl_dump_stream *stream)
{
	uint64_t end = understood(stream);

	atomic_fetch_add(&stream->discarded_bytes, end - stream->forwarded);
	stream->forwarded = end;
}

int64_t cl_dump_stream_forward(struct cl_dump_stream *stream, int client_fd)
{
	uint64_t end = understood(stream);
	struct iovec pieces[2];
	struct msghdr message = { .msg_iov = pieces };
	ssize_t n;

	if (stream->forwarded == end)
		return -ENODATA;
	if (!stream->wanted) {
		discard(stream);
		return 0;
	}
	message.msg_iovlen = ring_pieces(stream, stream->forwarded, (size_t)(end - stream->forwarded), pieces);
	do
		n = sendmsg(client_fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	stream->forwarded += (uint64_t)n;
	return n;
}

void cl_dump_stream_drop_client(struct cl_dump_stream *stream)
{
	if (stream->wanted)
		discard(stream);
	stream->wanted = false;
}

bool cl_dump_stream_is_settled(const struct cl_dump_stream *stream)
{
	return stream->nr_owed == 0 && stream->forwarded == stream->next_header;
}

/* ---- taking over ---- */

/*
 * From what was sent and consumed on the connection so far: what is owed. 0, or -EBADMSG: it ends in the middle of a
 * request.
 */
static int restore(struct cl_dump_stream *stream, uint64_t sent, uint64_t consumed)
{
	struct cl_dump_guardian_state *shared = stream->shared;
	int parent_first = (int)atomic_load(&shared->parent_first);
	uint64_t requests;
	size_t byte_ahead;

	sent -= shared->sent_base_bytes;
	stream->header_bytes = cl_wire_header_bytes(cl_dump_stream_version(stream));
	stream->progress = shared->progress[atomic_load(&shared->slot) % 2];
	stream->next_header = stream->progress.next_header;
	stream->consumed = consumed - shared->consumed_base_bytes;
	stream->forwarded = understood(stream);
	if (!stream->header_bytes || !sent)
		return sent ? -EBADMSG : 0;
	requests = (sent - 1) / stream->header_bytes;
	byte_ahead = (sent - 1) % stream->header_bytes;
	if (byte_ahead || requests < stream->progress.answers ||
	    requests - stream->progress.answers > CL_DUMP_MAX_OWED - RESERVED_OWED)
		return -EBADMSG;
	stream->ahead = requests ? CL_DUMP_AHEAD_GET : CL_DUMP_AHEAD_PARENT;
	for (uint64_t i = stream->progress.answers; i < requests; i++)
		owe(stream,
		    (struct cl_dump_owed){ .kind = i || !parent_first ? CL_DUMP_ANSWER_PAGES : CL_DUMP_ANSWER_PARENT });
	return 0;
}

int cl_dump_stream_resume(struct cl_dump_stream *stream, struct cl_error *error)
{
	uint64_t sent, consumed;
	int ret = cl_dump_guardian_counts(stream->fd, &sent, &consumed);

	if (ret < 0)
		return cl_error_set(error, ret, "the connection to the dump can't be looked at: %s", strerror(-ret));
	ret = restore(stream, sent, consumed);
	if (ret < 0)
		return cl_error_set(error, ret, "the connection to the dump was left in the middle of a request: %s",
				    strerror(-ret));
	return 0;
}
