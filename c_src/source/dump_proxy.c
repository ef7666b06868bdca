/* SPDX-License-Identifier: Apache-2.0 */
#include "source/dump_proxy.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "source/dump_guardian.h"
#include "base/log.h"
#include "wire/page_protocol.h"

/*
 * Requests not answered yet. Their headers (32 KiB) fit any socket's send buffer, so that sending one to the dump
 * never blocks and is never cut in two.
 */
#define MAX_OWED 1024
#define INPUT_BYTES 16384
/* A client whose host has not even answered a keepalive for so long gives way to the next one in the queue. */
#define SILENT_MS 5000
#define KEEPALIVE_SECONDS 2
#define NEWCOMER_CHECK_MS 1000
#define MAX_WAITING 8
/* A client that waits for so long beside one whose host lives is not that one's reconnect. */
#define MAX_WAIT_US (15 * 1000000ULL)

enum answer_kind {
	ANSWER_PARENT, /* a bare u32 */
	ANSWER_PAGES, /* ADD_F header and pages */
	ANSWER_STATUS, /* a bare u32: the dump's last word */
};

struct owed {
	enum answer_kind kind;
	uint64_t client; /* whose request it was: serial number; 0 for our own */
	uint64_t nr_pages;
	uint64_t vaddr;
	uint64_t dst_id;
};

/* Who keeps the source's tasks as they were dumped. */
enum holder { HELD_BY_DUMP, HELD_BY_FENCE, HELD_BY_NOBODY };

/* What the dump has of the next header already. */
enum ahead { AHEAD_NONE, AHEAD_PARENT, AHEAD_GET };

struct cl_relay {
	int upstream, client, wake, lifeline;
	struct cl_log log;
	int hold_close;
	uint64_t max_request_pages;
	uint64_t *tasks;
	size_t nr_tasks;

	struct cl_guard_state *shared;
	size_t header_bytes; /* 0 until the version is known */
	enum ahead ahead;

	/* The stream of answers, as offsets: forwarded <= consumed, and next_header is where understanding ends. */
	uint64_t consumed, forwarded, next_header;
	int span_wanted; /* [forwarded, next_header) is for the present client; otherwise dropped */
	struct cl_guard_progress progress;
	struct owed owed[MAX_OWED];
	size_t owed_head, nr_owed;

	uint8_t input[INPUT_BYTES]; /* from the client: not understood yet */
	size_t input_bytes;
	uint64_t client_serial; /* 0: before the first */
	int client_closing; /* it said CLOSE and waits for our answer */
	int client_blocked; /* its socket is full */
	int close_sent, status_received;
	uint32_t status;

	_Atomic int state, want_commit, want_abort, want_drop;
	_Atomic uint64_t requests, bytes, discarded_bytes, clients;
	int dump_is_dead; /* as this relay found it */
	pthread_cond_t holder_changed; /* or the state is final */
	pthread_mutex_t lock; /* state once it is written; and: */
	enum holder holder;
	int client_fd_for_info;
	char client_text[CL_RELAY_TEXT_BYTES];
	struct waiting {
		int fd;
		uint64_t since_us;
		char name[CL_RELAY_TEXT_BYTES];
	} waiting[MAX_WAITING]; /* clients whose turn will come, in order */
	size_t nr_waiting;
	int pushing; /* a client is pushed to: */
	char push_text[CL_RELAY_TEXT_BYTES];
	char error[CL_RELAY_TEXT_BYTES];
};

static int fail(struct cl_relay *r, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Notes the first failure; returns `error`. */
static int fail(struct cl_relay *r, int error, const char *format, ...)
{
	va_list args;

	if (!r->error[0]) {
		va_start(args, format);
		vsnprintf(r->error, sizeof(r->error), format, args);
		va_end(args);
		cl_log(&r->log, CL_LOG_ERROR, "%s", r->error);
	}
	return error;
}

static void set_phase(struct cl_relay *r, enum cl_guard_phase phase)
{
	atomic_store(&r->shared->phase, phase);
}

static struct owed *owed_front(struct cl_relay *r)
{
	return r->nr_owed ? &r->owed[r->owed_head] : NULL;
}

static void owe(struct cl_relay *r, struct owed answer)
{
	r->owed[(r->owed_head + r->nr_owed++) % MAX_OWED] = answer;
}

static void owed_pop(struct cl_relay *r)
{
	r->owed_head = (r->owed_head + 1) % MAX_OWED;
	r->nr_owed--;
}

/* ---- to the dump ---- */

/* All of it. Requests are few enough that this does not block; should it, it waits. */
static int send_upstream(struct cl_relay *r, const uint8_t *data, size_t length)
{
	while (length) {
		ssize_t n = send(r->upstream, data, length, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail(r, -EPIPE, "the lazy dump can't be reached any more: %s", strerror(errno));
		data += n;
		length -= (size_t)n;
	}
	return 0;
}

/* Append what is left to send of our own question PARENT, whose answer is dropped. */
static size_t finish_parent(struct cl_relay *r, uint8_t *out)
{
	/* Type 1 (a pagemap) in the low byte, an id above it: the dump looks whether its parent images have it. */
	const struct cl_wire_header parent = { .cmd = CL_WIRE_PARENT, .dst_id = 0x101 };
	uint8_t packed[CL_WIRE_MAX_BYTES];

	cl_wire_pack((int)atomic_load(&r->shared->wire_version), &parent, packed);
	memcpy(out, packed + 1, r->header_bytes - 1);
	owe(r, (struct owed){ .kind = ANSWER_PARENT });
	return r->header_bytes - 1;
}

static int send_ahead(struct cl_relay *r)
{
	const uint8_t first = CL_WIRE_PARENT;

	if (!r->header_bytes || r->ahead != AHEAD_NONE)
		return 0;
	r->ahead = AHEAD_PARENT;
	atomic_store(&r->shared->parent_first, 1);
	return send_upstream(r, &first, 1);
}

static void know_version(struct cl_relay *r, int version)
{
	atomic_store(&r->shared->wire_version, (uint32_t)version);
	r->header_bytes = cl_wire_header_bytes(version);
}

/* Append a GET to a batch in which every request is sent less the byte sent ahead. */
static size_t append_get(struct cl_relay *r, const struct cl_wire_header *get, uint64_t client, uint8_t *out)
{
	uint8_t packed[CL_WIRE_MAX_BYTES];
	size_t skip = r->ahead == AHEAD_GET, used = 0;

	if (r->ahead == AHEAD_PARENT)
		used = finish_parent(r, out);
	cl_wire_pack((int)atomic_load(&r->shared->wire_version), get, packed);
	memcpy(out + used, packed + skip, r->header_bytes - skip);
	used += r->header_bytes - skip;
	owe(r, (struct owed){ .kind = ANSWER_PAGES,
			      .client = client,
			      .nr_pages = get->nr_pages,
			      .vaddr = get->vaddr,
			      .dst_id = get->dst_id });
	r->ahead = AHEAD_NONE;
	return used;
}

/* The whole batch in one send: there is never an instant without a byte ahead. */
static int send_batch(struct cl_relay *r, uint8_t *batch, size_t used)
{
	batch[used++] = CL_WIRE_GET;
	r->ahead = AHEAD_GET;
	return send_upstream(r, batch, used);
}

static int send_close(struct cl_relay *r)
{
	uint8_t out[3 * CL_WIRE_MAX_BYTES];
	const struct cl_wire_header close_header = { .cmd = CL_WIRE_CLOSE };
	size_t used = 0;

	set_phase(r, CL_GUARD_COMMIT);
	r->close_sent = 1;
	cl_log(&r->log, CL_LOG_INFO, "committing: the dump is told that every page has arrived");
	if (!r->header_bytes) {
		/* Nothing was ever sent: to the dump, the end of the connection is a success too. */
		r->status_received = 1;
		return shutdown(r->upstream, SHUT_WR) < 0 ? fail(r, -EPIPE, "the lazy dump has gone") : 0;
	}
	if (r->ahead == AHEAD_PARENT) {
		used = finish_parent(r, out);
	} else if (r->ahead == AHEAD_GET) {
		/* Complete it as the last GET that was answered: that page exists. */
		const struct cl_wire_header again = { .cmd = CL_WIRE_GET,
						      .nr_pages = 1,
						      .vaddr = r->progress.vaddr,
						      .dst_id = r->progress.dst_id };

		used = append_get(r, &again, 0, out);
	}
	r->ahead = AHEAD_NONE;
	cl_wire_pack((int)atomic_load(&r->shared->wire_version), &close_header, out + used);
	used += r->header_bytes;
	owe(r, (struct owed){ .kind = ANSWER_STATUS });
	return send_upstream(r, out, used);
}

/* ---- from the dump ---- */

static void ring_read(const struct cl_relay *r, uint64_t offset, uint8_t *out, size_t length)
{
	for (size_t i = 0; i < length; i++)
		out[i] = r->shared->ring[(offset + i) % CL_GUARD_RING_BYTES];
}

/* Up to two pieces of the ring for the stream's [offset, offset + length). */
static int ring_pieces(struct cl_relay *r, uint64_t offset, size_t length, struct iovec out[2])
{
	size_t start = offset % CL_GUARD_RING_BYTES;
	size_t first = CL_GUARD_RING_BYTES - start;

	out[0].iov_base = r->shared->ring + start;
	out[0].iov_len = length < first ? length : first;
	out[1].iov_base = r->shared->ring;
	out[1].iov_len = length - out[0].iov_len;
	return out[1].iov_len ? 2 : 1;
}

static size_t ring_room(const struct cl_relay *r)
{
	return CL_GUARD_RING_BYTES - (size_t)(r->consumed - r->forwarded);
}

/* What a relay that takes over must know, before any byte of this answer may be overwritten in the ring. */
static void publish_progress(struct cl_relay *r)
{
	uint32_t unused = !atomic_load(&r->shared->slot);

	r->progress.next_header = r->next_header;
	r->shared->progress[unused] = r->progress;
	atomic_store(&r->shared->slot, unused);
}

/* Understand answers as far as they have arrived and are for the same reader. */
static int understand(struct cl_relay *r)
{
	while (r->next_header < r->consumed) {
		const struct owed *front = owed_front(r);
		uint8_t raw[CL_WIRE_MAX_BYTES];
		struct cl_wire_header h;
		uint64_t length = sizeof(uint32_t);
		size_t need;
		int wanted;

		if (!front)
			return fail(r, -EPROTO, "the lazy dump sent more than it was asked for");
		need = front->kind == ANSWER_PAGES ? r->header_bytes : sizeof(uint32_t);
		if (r->consumed - r->next_header < need)
			return 0;
		wanted = front->kind == ANSWER_PAGES && r->client >= 0 && front->client == r->client_serial;
		if (r->forwarded < r->next_header && wanted != r->span_wanted)
			return 0;
		ring_read(r, r->next_header, raw, need);
		switch (front->kind) {
		case ANSWER_STATUS:
			r->status_received = 1;
			r->status = (uint32_t)raw[0] | (uint32_t)raw[1] << 8 | (uint32_t)raw[2] << 16 |
				    (uint32_t)raw[3] << 24;
			break;
		case ANSWER_PAGES:
			if (cl_wire_unpack((int)atomic_load(&r->shared->wire_version), raw, &h) ||
			    h.cmd != CL_WIRE_ADD_F || h.nr_pages > (front->nr_pages ? front->nr_pages : UINT32_MAX) ||
			    (front->nr_pages && (h.vaddr != front->vaddr || h.dst_id != front->dst_id)))
				return fail(r, -EPROTO,
					    "the lazy dump's answer is no page header: is --wire-version %u right?",
					    atomic_load(&r->shared->wire_version));
			length = r->header_bytes + h.nr_pages * CL_PAGE_SIZE;
			r->progress.gets++;
			r->progress.vaddr = h.vaddr;
			r->progress.dst_id = h.dst_id;
			break;
		case ANSWER_PARENT:
			break;
		}
		r->span_wanted = wanted;
		r->next_header += length;
		r->progress.answers++;
		publish_progress(r);
		owed_pop(r);
	}
	return 0;
}

static void lose_client(struct cl_relay *r, const char *why);

/* Give the client what is there for it; drop what nobody waits for. 1 if something moved. */
static int forward(struct cl_relay *r)
{
	uint64_t end = r->consumed < r->next_header ? r->consumed : r->next_header;
	struct iovec pieces[2];
	struct msghdr message = { .msg_iov = pieces };
	ssize_t n;

	if (r->forwarded == end)
		return 0;
	if (!r->span_wanted) {
		atomic_fetch_add(&r->discarded_bytes, end - r->forwarded);
		r->forwarded = end;
		return 1;
	}
	if (r->client_blocked)
		return 0;
	message.msg_iovlen = (size_t)ring_pieces(r, r->forwarded, (size_t)(end - r->forwarded), pieces);
	n = sendmsg(r->client, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n > 0) {
		r->forwarded += (uint64_t)n;
		atomic_fetch_add(&r->bytes, (uint64_t)n);
		return 1;
	}
	if (errno == EAGAIN)
		r->client_blocked = 1;
	else if (errno != EINTR)
		lose_client(r, strerror(errno));
	return 1;
}

/* 1 if something was read, 0 if not, negative on failure or the end (-ENODATA). */
static int receive(struct cl_relay *r)
{
	struct iovec pieces[2];
	struct msghdr message = { .msg_iov = pieces };
	ssize_t n;

	if (!ring_room(r))
		return 0;
	message.msg_iovlen = (size_t)ring_pieces(r, r->consumed, ring_room(r), pieces);
	n = recvmsg(r->upstream, &message, MSG_DONTWAIT);
	if (n > 0) {
		const int on = 1;

		r->consumed += (uint64_t)n;
		/* The dump corks its answers: without this, their tails wait for our delayed acknowledgment. */
		setsockopt(r->upstream, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
		return 1;
	}
	if (n == 0)
		return -ENODATA;
	if (errno == EAGAIN || errno == EINTR)
		return 0;
	return fail(r, -EPIPE, "the connection to the lazy dump broke: %s", strerror(errno));
}

/* ---- the client ---- */

/* It is over: nothing that clients do changes that. */
static void set_end(struct cl_relay *r, enum cl_relay_state state)
{
	pthread_mutex_lock(&r->lock);
	atomic_store(&r->state, state);
	pthread_cond_broadcast(&r->holder_changed);
	pthread_mutex_unlock(&r->lock);
}

/* How things stand with the clients. r->lock held. */
static void set_state(struct cl_relay *r)
{
	int drained = (int)atomic_load(&r->shared->drained);

	if (atomic_load(&r->state) >= CL_RELAY_COMMITTED)
		return;
	if (r->pushing ? !drained : r->client_fd_for_info >= 0)
		atomic_store(&r->state, CL_RELAY_SERVING);
	else if (drained)
		atomic_store(&r->state, CL_RELAY_DRAINED);
	else if (atomic_load(&r->clients))
		atomic_store(&r->state, CL_RELAY_PAUSED);
}

static void lose_client(struct cl_relay *r, const char *why)
{
	uint64_t end = r->consumed < r->next_header ? r->consumed : r->next_header;

	if (r->client < 0)
		return;
	pthread_mutex_lock(&r->lock);
	cl_log(&r->log, why ? CL_LOG_WARN : CL_LOG_INFO, "client %s %s%s", r->client_text, why ? "lost: " : "has every page", why ? why : "");
	r->client_fd_for_info = -1;
	r->client_text[0] = '\0';
	set_state(r);
	pthread_mutex_unlock(&r->lock);
	close(r->client);
	r->client = -1;
	r->input_bytes = 0;
	r->client_closing = 0;
	r->client_blocked = 0;
	if (r->span_wanted && r->forwarded < end)
		atomic_fetch_add(&r->discarded_bytes, end - r->forwarded);
	if (r->span_wanted)
		r->forwarded = end;
	r->span_wanted = 0;
}

/* The next client's turn, if nobody else is served. */
static void take_client(struct cl_relay *r)
{
	pthread_mutex_lock(&r->lock);
	if (r->client < 0 && !r->close_sent && !r->pushing && r->nr_waiting) {
		struct waiting *next = &r->waiting[0];

		r->client = r->client_fd_for_info = next->fd;
		memcpy(r->client_text, next->name, sizeof(r->client_text));
		memmove(next, next + 1, --r->nr_waiting * sizeof(*next));
		r->client_serial++;
		atomic_fetch_add(&r->clients, 1);
		cl_log(&r->log, CL_LOG_INFO, "client %s connected", r->client_text);
		set_state(r);
	}
	pthread_mutex_unlock(&r->lock);
}

static uint64_t silent_ms(int fd)
{
	struct tcp_info info;
	socklen_t length = sizeof(info);
	uint32_t data, ack;

	memset(&info, 0, sizeof(info));
	if (fd < 0 || getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0)
		return 0;
	data = info.tcpi_last_data_recv;
	ack = info.tcpi_last_ack_recv;
	return data < ack ? data : ack;
}

static int client_waits(struct cl_relay *r)
{
	int waits;

	pthread_mutex_lock(&r->lock);
	waits = r->nr_waiting > 0;
	pthread_mutex_unlock(&r->lock);
	return waits;
}

/* Another daemon at this dump is not to wait for ever. */
static void refuse_waiting(struct cl_relay *r)
{
	pthread_mutex_lock(&r->lock);
	while (r->nr_waiting && cl_now_us() - r->waiting[0].since_us > MAX_WAIT_US) {
		cl_log(&r->log, CL_LOG_WARN, "client %s is refused: client %s is served", r->waiting[0].name,
		       r->client_text);
		close(r->waiting[0].fd);
		memmove(r->waiting, r->waiting + 1, --r->nr_waiting * sizeof(r->waiting[0]));
	}
	pthread_mutex_unlock(&r->lock);
}

static int task_is_known(const struct cl_relay *r, uint64_t id)
{
	for (size_t i = 0; i < r->nr_tasks; i++)
		if (r->tasks[i] == id)
			return 1;
	return r->nr_tasks == 0;
}

static void client_said_close(struct cl_relay *r)
{
	r->client_closing = 1;
	r->input_bytes = 0;
	cl_log(&r->log, CL_LOG_INFO, "the client says that it has every page");
}

/* First bytes of the first client. 1 if the header size is known now, 0 if more bytes are needed or it was lost. */
static int learn_version(struct cl_relay *r)
{
	int version;

	if (r->input_bytes < CL_WIRE_V1_BYTES)
		return 0;
	if ((r->input[0] | r->input[1] << 8) == CL_WIRE_CLOSE || (r->input[0] | r->input[1] << 8) == CL_WIRE_FORCE_CLOSE) {
		/* The last thing it says, whatever its size. */
		client_said_close(r);
		return 0;
	}
	version = cl_wire_tell_version(r->input);
	if (!version) {
		lose_client(r, "its first request does not tell the protocol's version (see --wire-version)");
		return 0;
	}
	know_version(r, version);
	cl_log(&r->log, CL_LOG_INFO, "the client speaks protocol version %d", version);
	return 1;
}

/* Forward the requests at hand: as many as there is room for answers owed. */
static int handle_requests(struct cl_relay *r)
{
	/* Two of ours, PARENT and the byte ahead, may come on top. */
	uint8_t batch[INPUT_BYTES + 2 * CL_WIRE_MAX_BYTES];
	size_t used = 0, taken = 0;
	const char *refusal = NULL;

	if (!r->input_bytes || r->client_closing || r->close_sent)
		return 0;
	if (!r->header_bytes && !learn_version(r))
		return 0;
	/* One place for PARENT here, three for the end. */
	while (r->input_bytes - taken >= r->header_bytes && r->nr_owed < MAX_OWED - 4) {
		struct cl_wire_header h;
		int error = cl_wire_unpack((int)atomic_load(&r->shared->wire_version), r->input + taken, &h);

		if (h.cmd == CL_WIRE_CLOSE || h.cmd == CL_WIRE_FORCE_CLOSE) {
			client_said_close(r);
			taken = 0;
			break;
		}
		refusal = cl_wire_refuse_get(&h, r->max_request_pages);
		if (!refusal && error)
			refusal = "malformed";
		if (!refusal && h.flags)
			refusal = "a GET has no flags";
		if (!refusal && !task_is_known(r, h.dst_id))
			refusal = "the dump has no such task";
		if (refusal) {
			cl_log(&r->log, CL_LOG_ERROR, "request refused: %s (cmd %#x, %llu pages at %#llx of task %llu): client is closed",
				 refusal, h.cmd | (unsigned int)h.flags << 16, (unsigned long long)h.nr_pages,
				 (unsigned long long)h.vaddr, (unsigned long long)h.dst_id);
			break;
		}
		used += append_get(r, &h, r->client_serial, batch + used);
		taken += r->header_bytes;
		atomic_store(&r->shared->drained, 0);
		atomic_fetch_add(&r->requests, 1);
	}
	if (refusal)
		lose_client(r, refusal);
	else if (taken) {
		memmove(r->input, r->input + taken, r->input_bytes - taken);
		r->input_bytes -= taken;
	}
	return used ? send_batch(r, batch, used) : 0;
}

static int may_read_client(const struct cl_relay *r)
{
	return r->client >= 0 && !r->client_closing && !r->close_sent && r->input_bytes < INPUT_BYTES &&
	       r->nr_owed < MAX_OWED / 2;
}

static void read_client(struct cl_relay *r)
{
	ssize_t n = recv(r->client, r->input + r->input_bytes, INPUT_BYTES - r->input_bytes, MSG_DONTWAIT);

	if (n > 0)
		r->input_bytes += (size_t)n;
	else if (n == 0)
		lose_client(r, "it hung up without CLOSE");
	else if (errno != EAGAIN && errno != EINTR)
		lose_client(r, strerror(errno));
}

/* Nothing is on its way to the client any more. */
static int client_has_all(const struct cl_relay *r)
{
	return r->nr_owed == 0 && r->forwarded == r->next_header;
}

/* The client said CLOSE and has all its answers: answer it now, or after the dump has. */
static void finish_client(struct cl_relay *r)
{
	const uint32_t zero = 0;

	if (!r->client_closing || !client_has_all(r))
		return;
	atomic_store(&r->shared->drained, 1);
	if (!r->hold_close && !r->status_received) {
		atomic_store(&r->want_commit, 1);
		return;
	}
	if (send(r->client, &zero, sizeof(zero), MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof(zero))
		cl_log(&r->log, CL_LOG_WARN, "the client did not wait for the answer to its CLOSE");
	lose_client(r, NULL);
}

/* ---- the loop ---- */

/* Everything that can be done without waiting. */
static int work(struct cl_relay *r)
{
	int moved, error;

	do {
		error = handle_requests(r);
		if (error)
			return error;
		moved = receive(r);
		if (moved < 0)
			return moved;
		error = understand(r);
		if (error)
			return error;
		moved |= forward(r);
	} while (moved);
	finish_client(r);
	if (atomic_load(&r->want_commit) && !r->close_sent && r->nr_owed == 0 && r->forwarded == r->next_header) {
		error = send_close(r);
		if (error)
			return error;
	}
	return 0;
}

static int roll_back(struct cl_relay *r)
{
	int error;

	cl_log(&r->log, CL_LOG_INFO, "rolling back: the dump is told to give up");
	lose_client(r, "the dump is rolled back");
	error = cl_guard_roll_back(r->upstream);
	if (error)
		return fail(r, error, "the lazy dump did not end after it was told to give up: %s", strerror(-error));
	set_phase(r, CL_GUARD_DONE);
	set_end(r, CL_RELAY_ABORTED);
	return -ECANCELED;
}

/* The dump hung up. */
static int upstream_ended(struct cl_relay *r)
{
	if (!r->close_sent || !r->status_received)
		return fail(r, -EPIPE, "the lazy dump ended by itself: look at its log");
	finish_client(r);
	if (r->status)
		return fail(r, -EPROTO, "the lazy dump answered CLOSE with status %u", r->status);
	set_phase(r, CL_GUARD_DONE);
	set_end(r, CL_RELAY_COMMITTED);
	cl_log(&r->log, CL_LOG_INFO, "committed: the dump has ended");
	return 0;
}

static bool has_dump(const struct cl_relay *r)
{
	/* A dying process closes what it has open before its tracees are let go. */
	struct pollfd p = { .fd = r->upstream, .events = POLLRDHUP };

	return poll(&p, 1, 0) == 0;
}

bool cl_relay_holds_source(struct cl_relay *r)
{
	bool held;

	if (has_dump(r))
		return true;
	pthread_mutex_lock(&r->lock);
	while (r->holder == HELD_BY_DUMP && atomic_load(&r->state) < CL_RELAY_COMMITTED)
		pthread_cond_wait(&r->holder_changed, &r->lock);
	held = r->holder == HELD_BY_FENCE;
	pthread_mutex_unlock(&r->lock);
	return held;
}

static int wait_for_events(struct cl_relay *r)
{
	struct pollfd p[3] = {
		{ .fd = r->wake, .events = POLLIN },
		{ .fd = ring_room(r) ? r->upstream : -1, .events = POLLIN },
		{ .fd = r->client, .events = (short)((may_read_client(r) ? POLLIN : 0) | (r->client_blocked ? POLLOUT : 0)) },
	};
	uint64_t count;

	if (poll(p, 3, r->client >= 0 ? NEWCOMER_CHECK_MS : -1) < 0)
		return errno == EINTR ? 0 : fail(r, -errno, "poll: %s", strerror(errno));
	if (p[0].revents && read(r->wake, &count, sizeof(count)) < 0 && errno != EAGAIN)
		return fail(r, -errno, "eventfd: %s", strerror(errno));
	if (r->client >= 0 && p[2].revents) {
		if (p[2].revents & POLLOUT)
			r->client_blocked = 0;
		if (may_read_client(r) && p[2].revents & (POLLIN | POLLHUP | POLLERR))
			read_client(r);
		else if (p[2].revents & (POLLHUP | POLLERR))
			lose_client(r, "its connection broke");
	} else if (r->client >= 0 && silent_ms(r->client) >= SILENT_MS && client_waits(r)) {
		lose_client(r, "its host has been silent, and another client waits");
	} else if (r->client >= 0) {
		refuse_waiting(r);
	}
	return 0;
}

static int serve(struct cl_relay *r)
{
	int error = 0, write_side_open = 1;

	while (!error) {
		if (atomic_exchange(&r->want_drop, 0))
			lose_client(r, "dropped on request, or a client has come that is pushed to");
		take_client(r);
		if (atomic_load(&r->want_abort) && !r->close_sent)
			return roll_back(r);
		error = work(r);
		if (error == -ENODATA)
			return upstream_ended(r);
		if (error)
			break;
		if (r->status_received && write_side_open) {
			/* The dump now waits for our end of file, and would take anything else for a failure. */
			shutdown(r->upstream, SHUT_WR);
			write_side_open = 0;
			continue;
		}
		error = wait_for_events(r);
	}
	return error;
}

static int give_up(struct cl_relay *r, int error)
{
	lose_client(r, r->error);
	set_end(r, CL_RELAY_FAILED);
	if (error == -EPIPE)
		set_phase(r, CL_GUARD_DONE);
	return error;
}

int cl_relay_run(struct cl_relay *r)
{
	int result = r->dump_is_dead ? fail(r, -EPIPE, "the lazy dump is dead") : serve(r);

	if (result == -EPIPE && atomic_load(&r->shared->running) && !has_dump(r))
		return -EOWNERDEAD;
	return result && result != -ECANCELED ? give_up(r, result) : result;
}

/* ---- without a dump ---- */

static void set_holder(struct cl_relay *r, enum holder holder)
{
	pthread_mutex_lock(&r->lock);
	r->holder = holder;
	pthread_cond_broadcast(&r->holder_changed);
	for (; holder != HELD_BY_DUMP && r->nr_waiting; r->nr_waiting--)
		close(r->waiting[r->nr_waiting - 1].fd);
	pthread_mutex_unlock(&r->lock);
}

/* Until it is to end. Whether something holds the source's tasks still. */
static bool await_end(struct cl_relay *r)
{
	struct pollfd p = { .fd = r->wake, .events = POLLIN };
	bool held = true;
	uint64_t count;

	while (held && !r->close_sent && !atomic_load(&r->want_commit) && !atomic_load(&r->want_abort)) {
		if (poll(&p, 1, -1) > 0 && read(r->wake, &count, sizeof(count)) < 0 && errno != EAGAIN)
			return false;
		pthread_mutex_lock(&r->lock);
		held = r->holder == HELD_BY_FENCE;
		pthread_mutex_unlock(&r->lock);
	}
	return held;
}

int cl_relay_run_alone(struct cl_relay *r, int held)
{
	lose_client(r, "the dump is dead");
	if (!held) {
		set_holder(r, HELD_BY_NOBODY);
		return give_up(r, -EPIPE);
	}
	r->error[0] = '\0';
	cl_log(&r->log, CL_LOG_WARN, "going on without the dump: the source task is stopped, with all of its memory");
	set_holder(r, HELD_BY_FENCE);
	if (!await_end(r)) {
		fail(r, -EPIPE, "the lazy dump ended by itself, and then the source task did not stay as it was");
		return give_up(r, -EPIPE);
	}
	if (!r->close_sent && !atomic_load(&r->want_commit))
		return -ECANCELED;
	set_phase(r, CL_GUARD_COMMIT);
	cl_log(&r->log, CL_LOG_INFO, "committing: every page has arrived");
	return 0;
}

void cl_relay_end_alone(struct cl_relay *r, int state)
{
	if (state != CL_RELAY_FAILED)
		set_phase(r, CL_GUARD_DONE);
	else
		fail(r, 0, "the source task was sent SIGKILL, and is not gone");
	set_end(r, state);
}

/* ---- making and freeing ---- */

void cl_relay_free(struct cl_relay *r)
{
	const int fds[] = { r ? r->upstream : -1, r ? r->client : -1, r ? r->wake : -1, r ? r->lifeline : -1 };

	if (!r)
		return;
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	for (size_t i = 0; i < r->nr_waiting; i++)
		close(r->waiting[i].fd);
	cl_guard_state_unmap(r->shared);
	pthread_cond_destroy(&r->holder_changed);
	pthread_mutex_destroy(&r->lock);
	free(r->tasks);
	free(r);
}

static struct cl_relay *relay_alloc(const struct cl_relay_config *config)
{
	struct cl_relay *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->holder_changed, NULL);
	r->upstream = r->client = r->wake = r->lifeline = r->client_fd_for_info = -1;
	r->log = (struct cl_log){
		.fd = config->log_fd, .level = config->log_level, .start_us = cl_now_us(), .from = "page-server"
	};
	r->hold_close = config->hold_close;
	r->max_request_pages = config->max_request_pages;
	r->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->wake < 0) {
		cl_relay_free(r);
		return NULL;
	}
	return r;
}

int cl_relay_set_tasks(struct cl_relay *r, const uint64_t *tasks, size_t nr_tasks)
{
	uint64_t *copy = calloc(nr_tasks + 1, sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	if (nr_tasks)
		memcpy(copy, tasks, nr_tasks * sizeof(*copy));
	free(r->tasks);
	r->tasks = copy;
	r->nr_tasks = nr_tasks;
	return 0;
}

struct cl_relay *cl_relay_new(const struct cl_relay_config *config, char *error_out, size_t error_bytes)
{
	struct cl_relay *r = relay_alloc(config);
	const char *step = "out of memory or descriptors";
	int memfd = -1, error = -ENOMEM;

	if (r) {
		r->upstream = config->upstream_fd;
		(void)setsockopt(r->upstream, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)); /* just quicker */
		step = "no state to share with the guardian";
		error = cl_guard_state_new(r->upstream, &r->shared, &memfd);
	}
	if (!error) {
		step = "the dump does not listen any more";
		if (config->wire_version) {
			know_version(r, config->wire_version);
			error = send_ahead(r);
		}
	}
	if (!error) {
		step = "no guardian";
		error = r->lifeline = cl_guard_start(r->upstream, memfd, config->takeover_fd, config->resume);
	}
	if (memfd >= 0)
		close(memfd);
	if (error >= 0)
		return r;
	snprintf(error_out, error_bytes, "%s: %s", step, strerror(-error));
	cl_guard_roll_back(config->upstream_fd);
	if (r) {
		cl_relay_free(r);
	} else {
		close(config->upstream_fd);
	}
	return NULL;
}

/* Go on where the dead relay was: see dump_guardian.h. */
static int restore_progress(struct cl_relay *r, uint64_t sent, uint64_t consumed)
{
	int parent_first = (int)atomic_load(&r->shared->parent_first);
	uint64_t requests;
	size_t byte_ahead;

	sent -= r->shared->sent_base_bytes;
	r->header_bytes = cl_wire_header_bytes((int)atomic_load(&r->shared->wire_version));
	r->progress = r->shared->progress[atomic_load(&r->shared->slot) % 2];
	r->next_header = r->progress.next_header;
	r->consumed = consumed - r->shared->consumed_base_bytes;
	r->forwarded = r->consumed < r->next_header ? r->consumed : r->next_header;
	/* Their clients are gone: all that is still owed is dropped (serial numbers start anew, above theirs). */
	r->client_serial = 1;
	if (!r->header_bytes || !sent)
		return sent ? -EBADMSG : 0;
	requests = (sent - 1) / r->header_bytes;
	byte_ahead = (sent - 1) % r->header_bytes;
	if (byte_ahead || requests < r->progress.answers || requests - r->progress.answers > MAX_OWED - 4)
		return -EBADMSG;
	r->ahead = requests ? AHEAD_GET : AHEAD_PARENT;
	for (uint64_t i = r->progress.answers; i < requests; i++)
		owe(r, (struct owed){ .kind = i || !parent_first ? ANSWER_PAGES : ANSWER_PARENT });
	return 0;
}

struct cl_relay *cl_relay_resume(const struct cl_relay_config *config, int lifeline_fd, char *error_out,
				 size_t error_bytes)
{
	struct cl_relay *r = relay_alloc(config);
	const char *step = "out of memory or descriptors";
	uint64_t sent, consumed;
	int memfd = -1, error = -ENOMEM;

	if (!r) {
		close(lifeline_fd);
	} else {
		r->lifeline = lifeline_fd;
		error = cl_guard_take_over(lifeline_fd, &r->upstream, &memfd);
		step = error == -EPIPE ? "another page server has taken over, or the dump has ended"
				       : "the guardian did not hand the connection over";
	}
	if (!error) {
		r->shared = cl_guard_state_map(memfd);
		close(memfd);
		step = "the shared state can't be mapped";
		error = r->shared ? 0 : -errno;
	}
	if (!error)
		r->dump_is_dead = !has_dump(r);
	if (!error && !r->dump_is_dead) {
		step = "the connection to the dump can't be looked at";
		error = cl_guard_counts(r->upstream, &sent, &consumed);
	}
	if (!error && !r->dump_is_dead) {
		step = "the connection to the dump was left in the middle of a request";
		error = restore_progress(r, sent, consumed);
	}
	if (!error) {
		if (atomic_load(&r->shared->phase) == CL_GUARD_COMMIT)
			atomic_store(&r->shared->running, 1); /* whoever told it or not */
		set_phase(r, atomic_load(&r->shared->running) ? CL_GUARD_HOLD : CL_GUARD_ROLLBACK);
		atomic_store(&r->state, atomic_load(&r->shared->drained) ? CL_RELAY_DRAINED : CL_RELAY_PAUSED);
		return r;
	}
	snprintf(error_out, error_bytes, "%s: %s", step, strerror(-error));
	cl_relay_free(r);
	return NULL;
}

/* ---- from other threads ---- */

static void wake_up(struct cl_relay *r)
{
	const uint64_t one = 1;

	if (write(r->wake, &one, sizeof(one)) < 0)
		return; /* full: it will wake up anyway */
}

void cl_relay_set_running(struct cl_relay *r, int running)
{
	const enum cl_guard_phase from = running ? CL_GUARD_ROLLBACK : CL_GUARD_HOLD;

	/* Should we die in between, the next relay finds that it doesn't run, and rolls back. */
	if (!running)
		atomic_store(&r->shared->running, 0);
	if (atomic_load(&r->shared->phase) == from)
		set_phase(r, running ? CL_GUARD_HOLD : CL_GUARD_ROLLBACK);
	if (running)
		atomic_store(&r->shared->running, 1);
	cl_log(&r->log, CL_LOG_INFO, running ? "the restored task runs: this end holds until every page is there"
					     : "the restored task does not run");
}

int cl_relay_commit(struct cl_relay *r, int force)
{
	if (!force && atomic_load(&r->state) != CL_RELAY_DRAINED)
		return -EBUSY;
	atomic_store(&r->want_commit, 1);
	wake_up(r);
	return 0;
}

int cl_relay_abort(struct cl_relay *r, int force)
{
	if (!force && atomic_load(&r->shared->running))
		return -EBUSY;
	atomic_store(&r->want_abort, 1);
	wake_up(r);
	return 0;
}

void cl_relay_source_lost(struct cl_relay *r, const char *why)
{
	bool is_news;

	pthread_mutex_lock(&r->lock);
	is_news = r->holder != HELD_BY_NOBODY;
	pthread_mutex_unlock(&r->lock);
	if (is_news && why)
		cl_log(&r->log, CL_LOG_ERROR, "%s: no page is sent any more", why);
	set_holder(r, HELD_BY_NOBODY);
	wake_up(r);
}

void cl_relay_drop_client(struct cl_relay *r)
{
	atomic_store(&r->want_drop, 1);
	wake_up(r);
}

int cl_relay_offer(struct cl_relay *r, int fd, const char *name)
{
	int error = -EBUSY;

	pthread_mutex_lock(&r->lock);
	if (r->holder != HELD_BY_DUMP) {
		error = -EPIPE;
	} else if (r->nr_waiting < MAX_WAITING) {
		struct waiting *last = &r->waiting[r->nr_waiting++];

		last->fd = fd;
		last->since_us = cl_now_us();
		snprintf(last->name, sizeof(last->name), "%s", name);
		error = 0;
	}
	pthread_mutex_unlock(&r->lock);
	if (error)
		close(fd);
	else
		wake_up(r);
	return error;
}

static void tell_pushing(struct cl_relay *r, int pushing, int drained, const char *name)
{
	pthread_mutex_lock(&r->lock);
	r->pushing = pushing;
	if (name) {
		snprintf(r->push_text, sizeof(r->push_text), "%s", name);
		atomic_fetch_add(&r->clients, 1);
	}
	if (drained >= 0)
		atomic_store(&r->shared->drained, (uint32_t)drained);
	set_state(r);
	pthread_mutex_unlock(&r->lock);
}

void cl_relay_push_begins(struct cl_relay *r, const char *name)
{
	cl_log(&r->log, CL_LOG_INFO, "client %s connected: its pages are pushed", name);
	tell_pushing(r, 1, -1, name);
	cl_relay_drop_client(r);
}

uint64_t cl_relay_restored_client(const struct cl_relay *r)
{
	return atomic_load(&r->shared->restored_client);
}

void cl_relay_push_misses(struct cl_relay *r, uint64_t client)
{
	atomic_store(&r->shared->restored_client, client);
	tell_pushing(r, 1, 0, NULL);
}

void cl_relay_push_is_done(struct cl_relay *r)
{
	cl_log(&r->log, CL_LOG_INFO, "the client says that it has every page");
	tell_pushing(r, 1, 1, NULL);
	if (!r->hold_close)
		cl_relay_commit(r, 1);
}

void cl_relay_push_ends(struct cl_relay *r)
{
	cl_log(&r->log, CL_LOG_INFO, "the client's session is over");
	tell_pushing(r, 0, -1, NULL);
	wake_up(r);
}

void cl_relay_info(struct cl_relay *r, struct cl_relay_info *out)
{
	uint32_t phase = atomic_load(&r->shared->phase);

	memset(out, 0, sizeof(*out));
	out->held = phase == CL_GUARD_HOLD || phase == CL_GUARD_COMMIT;
	out->state = atomic_load(&r->state);
	out->running = (int)atomic_load(&r->shared->running);
	out->wire_version = (int)atomic_load(&r->shared->wire_version);
	out->requests = atomic_load(&r->requests);
	out->bytes = atomic_load(&r->bytes);
	out->discarded_bytes = atomic_load(&r->discarded_bytes);
	out->clients = atomic_load(&r->clients);
	pthread_mutex_lock(&r->lock);
	out->alone = r->holder == HELD_BY_FENCE;
	out->silent_ms = silent_ms(r->client_fd_for_info);
	memcpy(out->client, r->pushing ? r->push_text : r->client_text, sizeof(out->client));
	pthread_mutex_unlock(&r->lock);
}

const char *cl_relay_error(const struct cl_relay *r)
{
	return r->error;
}
