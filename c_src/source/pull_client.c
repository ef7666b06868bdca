/* SPDX-License-Identifier: Apache-2.0 */
#include "source/pull_client.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io.h"

void cl_pull_client_begin(struct cl_pull_client *client, int fd)
{
	client->fd = fd;
	client->serial++;
}

void cl_pull_client_end(struct cl_pull_client *client)
{
	close(client->fd);
	client->fd = -1;
	client->input_bytes = 0;
	client->closing = false;
	client->blocked = false;
}

bool cl_pull_client_may_read(const struct cl_pull_client *client, const struct cl_dump_stream *stream)
{
	return client->fd >= 0 && !client->closing && !stream->close_sent && client->input_bytes < sizeof(client->input) &&
	       stream->nr_owed < CL_DUMP_MAX_OWED / 2;
}

const char *cl_pull_client_read(struct cl_pull_client *client)
{
	int64_t got = cl_receive(client->fd, client->input + client->input_bytes,
				 sizeof(client->input) - client->input_bytes, MSG_DONTWAIT);

	if (got > 0)
		client->input_bytes += (size_t)got;
	else if (got == -ECONNRESET)
		return "it hung up without CLOSE";
	else if (got != -EAGAIN)
		return strerror((int)-got);
	return NULL;
}

static void said_close(struct cl_pull_client *client, const struct cl_log *log)
{
	client->closing = true;
	client->input_bytes = 0;
	cl_log(log, CL_LOG_INFO, "the client says that it has every page");
}

int cl_pull_client_tell_version(struct cl_pull_client *client, struct cl_dump_stream *stream, const struct cl_log *log)
{
	int cmd = client->input[0] | client->input[1] << 8, version;

	if (client->input_bytes < CL_WIRE_V1_BYTES)
		return 0;
	if (cmd == CL_WIRE_CLOSE || cmd == CL_WIRE_FORCE_CLOSE) {
		/* The last thing it says, whatever its size. */
		said_close(client, log);
		return 0;
	}
	version = cl_wire_tell_version(client->input);
	if (!version)
		return -EPROTO;
	cl_dump_stream_set_version(stream, version);
	cl_log(log, CL_LOG_INFO, "the client speaks protocol version %d", version);
	return 1;
}

static bool task_is_known(const struct cl_pull_rules *rules, uint64_t id)
{
	for (size_t i = 0; i < rules->nr_tasks; i++)
		if (rules->tasks[i] == id)
			return true;
	return rules->nr_tasks == 0;
}

/* NULL, or why not. */
static const char *refuse_get(const struct cl_wire_header *h, int malformed, const struct cl_pull_rules *rules)
{
	const char *refusal = cl_wire_refuse_get(h, rules->max_request_pages);

	if (refusal)
		return refusal;
	if (malformed)
		return "malformed";
	if (h->flags)
		return "a GET has no flags";
	return task_is_known(rules, h->dst_id) ? NULL : "the dump has no such task";
}

const char *cl_pull_client_requests(struct cl_pull_client *client, struct cl_dump_stream *stream,
				    const struct cl_pull_rules *rules, const struct cl_log *log, struct cl_dump_batch *batch,
				    uint64_t *nr_requests)
{
	size_t taken = 0;
	const char *refusal = NULL;

	for (*nr_requests = 0; client->input_bytes - taken >= stream->header_bytes && cl_dump_stream_takes_get(stream);) {
		struct cl_wire_header h;
		int malformed = cl_wire_unpack(cl_dump_stream_version(stream), client->input + taken, &h);

		if (h.cmd == CL_WIRE_CLOSE || h.cmd == CL_WIRE_FORCE_CLOSE) {
			said_close(client, log);
			return NULL;
		}
		refusal = refuse_get(&h, malformed, rules);
		if (refusal) {
			cl_log(log, CL_LOG_ERROR,
			       "request refused: %s (cmd %#x, %llu pages at %#llx of task %llu): client is closed", refusal,
			       h.cmd | (unsigned int)h.flags << 16, (unsigned long long)h.nr_pages,
			       (unsigned long long)h.vaddr, (unsigned long long)h.dst_id);
			break;
		}
		cl_dump_stream_add_get(stream, batch, &h, client->serial);
		taken += stream->header_bytes;
		++*nr_requests;
	}
	client->input_bytes -= taken;
	memmove(client->input, client->input + taken, client->input_bytes);
	return refusal;
}

uint64_t cl_pull_client_silent_ms(int fd)
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
