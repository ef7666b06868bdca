/* SPDX-License-Identifier: Apache-2.0 */
#include "source/push_in_flight.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>

#include "wire/push_protocol.h"

enum {
	RECORD_BYTES = 64, /* at most, that TLS puts around what is sent at once, and it may be one header */
	/* What a page takes at most, on a stream on which each may have its own header and ALSOs. */
	PAGE_AT_MOST = CL_PAGE_SIZE + (CL_PUSH_MAX_ALSO + 1) * (CL_PUSH_HEADER_BYTES + RECORD_BYTES),
	CA_OPEN = 0, /* TCP_CA_Open: nothing is taken for lost */
};

/* False: it isn't known. */
static bool look(int fd, uint64_t *sent, uint64_t *unsent)
{
	struct tcp_info info = { 0 };
	socklen_t length = sizeof(info);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0 ||
	    length < offsetof(struct tcp_info, tcpi_bytes_retrans) + sizeof(info.tcpi_bytes_retrans))
		return false;
	*sent = info.tcpi_bytes_sent - info.tcpi_bytes_retrans;
	*unsent = info.tcpi_notsent_bytes;
	return info.tcpi_ca_state == CA_OPEN;
}

uint64_t cl_push_in_flight_written(int fd)
{
	uint64_t sent = 0, unsent = 0;

	(void)look(fd, &sent, &unsent);
	return sent + unsent;
}

void cl_push_in_flight_begin(struct cl_push_in_flight *sent, const void *task, uint64_t first, uint64_t nr_pages,
			     uint64_t written, bool packed)
{
	sent->next = (sent->next + 1) % CL_PUSH_IN_FLIGHT_BATCHES;
	sent->batches[sent->next] = (struct cl_push_in_flight_batch){ task, first, nr_pages, written, 0, packed };
}

void cl_push_in_flight_end(struct cl_push_in_flight *sent, uint64_t written)
{
	sent->batches[sent->next].end = written;
}

bool cl_push_in_flight_has_left(const struct cl_push_in_flight *sent, int fd, const void *task, uint64_t index)
{
	const struct cl_push_in_flight_batch *batch;
	uint64_t has_left, unsent, at;

	for (batch = sent->batches; batch < sent->batches + CL_PUSH_IN_FLIGHT_BATCHES; batch++) {
		if (batch->task != task || index - batch->first >= batch->nr_pages || !batch->begin)
			continue;
		at = batch->begin + (index - batch->first + 1) * PAGE_AT_MOST;
		if (batch->packed && !batch->end)
			continue;
		if (batch->packed || (batch->end && batch->end < at))
			at = batch->end;
		return look(fd, &has_left, &unsent) && has_left >= at;
	}
	return false;
}
