/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "source/push_server_state.h"

static void log_lost(const struct cl_push_server *server, const struct cl_push_task *task, const char *why)
{
	cl_log(&server->config.log, CL_LOG_ERROR, "the source task %d %s: no page is sent any more", task->image->pid, why);
}

/* Without a dump: what is missing of this task can't be had any more. */
static int lose_source(struct cl_push_server *server)
{
	cl_push_server_end(server, CL_PUSH_END_LOST);
	pthread_mutex_lock(&server->lock);
	server->config.told(server->config.context, CL_PUSH_TOLD_LOST, NULL, server->client);
	pthread_mutex_unlock(&server->lock);
	return -EOWNERDEAD;
}

/* The task has gone, killed by somebody; a dump has its pages still, for those who ask. -ESRCH, or -EOWNERDEAD. */
static int lose_task(struct cl_push_server *server, const struct cl_push_task *task)
{
	bool alone, is_news;

	pthread_mutex_lock(&server->lock);
	alone = server->alone;
	is_news = !server->gone;
	server->gone = server->gone || !alone;
	pthread_mutex_unlock(&server->lock);
	if (alone) {
		log_lost(server, task, "was killed");
		return lose_source(server);
	}
	if (is_news) {
		cl_log(&server->config.log, CL_LOG_ERROR,
		       "the frozen task %d was killed: its pages are served from the dump, and "
		       "nothing is pushed any more",
		       task->image->pid);
		cl_push_server_end(server, CL_PUSH_END_SESSION);
	}
	return -ESRCH;
}

static bool stands_alone(struct cl_push_server *server)
{
	bool alone;

	pthread_mutex_lock(&server->lock);
	alone = server->alone;
	pthread_mutex_unlock(&server->lock);
	return alone;
}

int cl_push_read_pages(struct cl_push_server *server, const struct cl_push_task *task, const struct cl_push_header *header,
		       bool shared, uint8_t *out)
{
	int ret = cl_push_task_read(task, header, shared, out);

	if (ret == -ESRCH)
		return lose_task(server, task);
	if (ret < 0)
		cl_log(&server->config.log, CL_LOG_ERROR, "memory of task %d at %#llx: %s", task->image->pid,
		       (unsigned long long)header->vaddr, strerror(-ret));
	return ret;
}

int cl_push_still_frozen(struct cl_push_server *server, const struct cl_push_task *task)
{
	bool held = server->config.frozen(server->config.context);

	if (held && stands_alone(server)) {
		int ret = cl_task_memory_check_stop(&task->memory);

		if (ret == 0)
			return 0;
		log_lost(server, task, ret == -ESRCH ? "was killed" : "does not stay stopped");
		return lose_source(server);
	}
	if (held)
		return 0;
	cl_log(&server->config.log, CL_LOG_WARN,
	       "the dump has ended, and holds its tasks no more: no page is sent any more");
	cl_push_server_end(server, CL_PUSH_END_LOST);
	return -EOWNERDEAD;
}

void cl_push_charge(struct cl_push_server *server, uint64_t bytes)
{
	server->info.sent_bytes += bytes;
	cl_push_pace_charge(&server->pace, bytes);
}

uint64_t cl_push_find_same(struct cl_push_server *server, const struct cl_push_header *header, const uint8_t *pages,
			   uint8_t *kinds)
{
	const struct cl_hash *stored = NULL;
	uint64_t i, nr_same = 0;

	for (i = 0; i < header->nr_pages; i++) {
		uint64_t vaddr = header->vaddr + i * CL_PAGE_SIZE;
		const uint8_t *page = pages + i * CL_PAGE_SIZE;

		if (!i || vaddr % CL_HASHES_BYTES == 0)
			stored = cl_hashes_find(server->config.stored, (int32_t)header->dst_id, vaddr);
		else if (stored)
			stored++;
		if (kinds[i] == CL_PUSH_PAGES && stored && cl_hash_is(*stored, cl_hashes_of(server->config.stored, page))) {
			kinds[i] = CL_PUSH_SAME;
			nr_same++;
		}
	}
	return nr_same;
}

void cl_push_find_kinds(struct cl_push_server *server, const struct cl_push_header *header, const uint8_t *pages,
			bool client_stores, uint8_t *kinds)
{
	uint64_t i;

	/* That a page is zero is told without the store. */
	for (i = 0; i < header->nr_pages; i++)
		kinds[i] = cl_page_is_zero(pages + i * CL_PAGE_SIZE) ? CL_PUSH_ZERO : CL_PUSH_PAGES;
	if (client_stores)
		(void)cl_push_find_same(server, header, pages, kinds);
}
