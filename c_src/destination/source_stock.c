/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/source_stock.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/io.h"

enum {
	CLOSE_TIMEOUT_S = 30,
	/* Where in the buffer the next page to come begins. Pages of later answers are some headers further in theirs: none
	 * of them begins 1 to 31 bytes into one, which is slow (page.h). */
	FIRST_PAGE = 64,
};

static const uint8_t first_byte_of_a_get = CL_WIRE_GET;

void cl_remote_init(struct cl_remote *remote, int fd, struct cl_tls *tls, int version)
{
	int on = 1;

	memset(remote, 0, sizeof(*remote));
	remote->fd = fd;
	remote->tls = tls;
	remote->version = version;
	/* A request must leave at once. Not a TCP socket: nothing to set. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

void cl_remote_ask(struct cl_remote *remote, const struct cl_request *request, uint8_t *out)
{
	struct cl_wire_header header = {
		.cmd = CL_WIRE_GET,
		.nr_pages = request->nr_pages,
		.vaddr = cl_image_vaddr(request->image, request->index),
		.dst_id = (uint64_t)request->image->pid,
	};

	remote->requests[remote->asked++ % CL_REMOTE_REQUESTS] = *request;
	cl_wire_pack(remote->version, &header, out);
}

int cl_remote_send(struct cl_remote *remote, const uint8_t *data, size_t bytes, bool byte_ahead)
{
	size_t skip = remote->byte_ahead && bytes;
	int ret;

	if (remote->tls) {
		/* No stock source speaks TLS, and ours needs no byte ahead; but one came with the hello. */
		ret = bytes > skip ? cl_tls_send(remote->tls, data + skip, bytes - skip) : 0;
		if (ret == 0 && bytes)
			remote->byte_ahead = false;
		return ret;
	}
	if (!bytes && remote->byte_ahead)
		return 0;
	ret = cl_send_all(remote->fd, data + skip, bytes - skip, byte_ahead ? MSG_MORE : 0);
	if (ret == 0 && byte_ahead)
		ret = cl_send_all(remote->fd, &first_byte_of_a_get, sizeof(first_byte_of_a_get), 0);
	if (ret == 0)
		remote->byte_ahead = byte_ahead;
	return ret;
}

static struct cl_conn conn_of(const struct cl_remote *remote)
{
	return (struct cl_conn){ remote->fd, remote->tls };
}

int64_t cl_remote_receive(struct cl_remote *remote, uint8_t *buffer, size_t size, struct cl_arrived *arrived,
			  struct cl_error *error)
{
	size_t skip = FIRST_PAGE - (remote->answer.nr_pages ? 0 : cl_wire_header_bytes(remote->version));
	int64_t got;

	buffer += skip;
	memcpy(buffer, remote->carry, remote->carried);
	got = cl_conn_receive(conn_of(remote), buffer + remote->carried, size - skip - remote->carried, error);
	if (got > 0)
		*arrived = (struct cl_arrived){ buffer, remote->carried + (size_t)got };
	return got;
}

void cl_remote_acknowledge(const struct cl_remote *remote)
{
	int on = 1;

	(void)setsockopt(remote->fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
}

static int broken(struct cl_error *error, const char *why)
{
	return cl_error_set(error, -EPROTO, "%s", why);
}

/* An answer's header: it must be the answer to the oldest request, of at most as many pages. */
static int begin_answer(struct cl_remote *remote, const uint8_t *at, uint64_t *cancelled_bytes, struct cl_error *error)
{
	struct cl_wire_header header;
	struct cl_request *request;

	if (cl_wire_unpack(remote->version, at, &header) < 0)
		return broken(error, "sent a damaged header");
	if (remote->asked == remote->answered)
		return broken(error, "answered what was not asked");
	request = &remote->requests[remote->answered % CL_REMOTE_REQUESTS];
	if (header.cmd != CL_WIRE_ADD_F || !(header.flags & CL_WIRE_FLAG_PRESENT))
		return broken(error, "answered with a command that is no answer");
	if (header.vaddr != cl_image_vaddr(request->image, request->index))
		return broken(error, "answered for another address than asked");
	if (header.nr_pages == 0 || header.nr_pages > request->nr_pages)
		return broken(error, "answered with no page, or with more pages than asked");
	remote->answered++;
	remote->answer = *request;
	remote->answer.nr_pages = (uint32_t)header.nr_pages;
	if (header.nr_pages < request->nr_pages) {
		cl_image_ask_again(request->image, request->index + header.nr_pages, request->index + request->nr_pages);
		*cancelled_bytes += (request->nr_pages - header.nr_pages) * CL_PAGE_SIZE;
	}
	return 0;
}

int cl_remote_parse(struct cl_remote *remote, const struct cl_arrived *arrived, struct cl_segment *segments,
		    uint64_t *cancelled_bytes, struct cl_error *error)
{
	const uint8_t *data = arrived->data;
	size_t header_bytes = cl_wire_header_bytes(remote->version), at = 0;
	struct cl_request *answer = &remote->answer;
	int nr_segments = 0, ret;

	*cancelled_bytes = 0;
	for (;;) {
		if (answer->nr_pages == 0) {
			if (arrived->bytes - at < header_bytes)
				break;
			ret = begin_answer(remote, data + at, cancelled_bytes, error);
			if (ret < 0) {
				/* Nobody installs what came before it: it is to come again. */
				while (nr_segments--)
					cl_image_ask_again(segments[nr_segments].image, segments[nr_segments].index,
							   segments[nr_segments].index + segments[nr_segments].nr_pages);
				return ret;
			}
			at += header_bytes;
		} else {
			size_t pages = (arrived->bytes - at) / CL_PAGE_SIZE;

			if (pages == 0)
				break;
			if (pages > answer->nr_pages)
				pages = answer->nr_pages;
			segments[nr_segments++] = (struct cl_segment){
				.image = answer->image,
				.index = answer->index,
				.nr_pages = (uint32_t)pages,
				.data = data + at,
			};
			answer->index += pages;
			answer->nr_pages -= (uint32_t)pages;
			at += pages * CL_PAGE_SIZE;
		}
	}
	remote->carried = arrived->bytes - at;
	memcpy(remote->carry, data + at, remote->carried);
	return nr_segments;
}

void cl_remote_forget(struct cl_remote *remote)
{
	struct cl_request *request = &remote->answer;

	if (request->nr_pages)
		cl_image_ask_again(request->image, request->index, request->index + request->nr_pages);
	request->nr_pages = 0;
	for (; remote->answered < remote->asked; remote->answered++) {
		request = &remote->requests[remote->answered % CL_REMOTE_REQUESTS];
		cl_image_ask_again(request->image, request->index, request->index + request->nr_pages);
	}
	remote->carried = 0;
}

static int send_command(struct cl_remote *remote, enum cl_wire_cmd command)
{
	struct cl_wire_header header = { .cmd = (uint16_t)command };
	uint8_t out[CL_WIRE_MAX_BYTES];

	cl_wire_pack(remote->version, &header, out);
	return cl_remote_send(remote, out, cl_wire_header_bytes(remote->version), false);
}

int cl_remote_roll_back(struct cl_remote *remote)
{
	/* The byte ahead began a GET. What follows makes a command of it that nobody knows. */
	remote->byte_ahead = false;
	return send_command(remote, CL_WIRE_ROLLBACK);
}

int cl_remote_close(struct cl_remote *remote, struct cl_error *error)
{
	const struct timeval timeout = { .tv_sec = CLOSE_TIMEOUT_S };
	uint8_t status[4];
	int ret = send_command(remote, CL_WIRE_CLOSE);

	if (ret < 0)
		return cl_conn_error(ret, error);
	ret = cl_conn_receive_exactly(conn_of(remote), status, sizeof(status), CLOSE_TIMEOUT_S, error);
	if (ret < 0)
		return ret;
	if (memcmp(status, "\0\0\0", sizeof(status)) != 0)
		return broken(error, "ended with an error of its own");
	if (remote->tls) {
		(void)setsockopt(remote->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
		cl_tls_await_bye(remote->tls);
	}
	return 0;
}

uint64_t cl_remote_min_rtt_us(const struct cl_remote *remote)
{
	struct tcp_info info;
	socklen_t length = sizeof(info);

	memset(&info, 0, sizeof(info));
	if (getsockopt(remote->fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0)
		return 0;
	return info.tcpi_min_rtt == UINT32_MAX ? 0 : info.tcpi_min_rtt;
}
