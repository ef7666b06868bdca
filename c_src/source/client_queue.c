/* SPDX-License-Identifier: Apache-2.0 */
#include "source/client_queue.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MAX_WAIT_US = 15 * 1000 * 1000 };

int cl_client_queue_add(struct cl_client_queue *queue, int fd, const char *name)
{
	struct cl_client_waiting *last;

	if (queue->nr == CL_CLIENT_QUEUE_MAX)
		return -EBUSY;
	last = &queue->waiting[queue->nr++];
	last->fd = fd;
	last->since_us = cl_now_us();
	snprintf(last->name, sizeof(last->name), "%s", name);
	return 0;
}

static void remove_first(struct cl_client_queue *queue)
{
	memmove(queue->waiting, queue->waiting + 1, --queue->nr * sizeof(queue->waiting[0]));
}

bool cl_client_queue_take(struct cl_client_queue *queue, int *fd_out, char name_out[CL_CLIENT_NAME_BYTES])
{
	if (!queue->nr)
		return false;
	*fd_out = queue->waiting[0].fd;
	memcpy(name_out, queue->waiting[0].name, CL_CLIENT_NAME_BYTES);
	remove_first(queue);
	return true;
}

void cl_client_queue_refuse(struct cl_client_queue *queue, const char *served, const struct cl_log *log)
{
	while (queue->nr && cl_now_us() - queue->waiting[0].since_us > MAX_WAIT_US) {
		cl_log(log, CL_LOG_WARN, "client %s is refused: client %s is served", queue->waiting[0].name, served);
		close(queue->waiting[0].fd);
		remove_first(queue);
	}
}

void cl_client_queue_clear(struct cl_client_queue *queue)
{
	while (queue->nr)
		close(queue->waiting[--queue->nr].fd);
}
