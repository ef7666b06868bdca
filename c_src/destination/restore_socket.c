/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/restore_socket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd_passing.h"
#include "destination/ended.h"
#include "destination/engine.h"
#include "destination/page_source.h"
#include "destination/reconnect.h"
#include "destination/uffd_events.h"

/* Exactly `size` bytes from the restore, of *sender, with a descriptor if fd isn't NULL. 1, 0 at the end of file, -errno. */
static int receive_exactly(int socket, void *data, size_t size, int *fd, pid_t *sender)
{
	long got = cl_fds_receive_from(socket, data, size, MSG_WAITALL, fd, sender);

	return got < 0 ? (int)got : (size_t)got == size ? 1 : got == 0 ? 0 : -EPROTO;
}

/* sender: the restored task's process, or 0. Lock held; dropped now and then. */
static int add_space(struct cl_engine *engine, int32_t pid, int uffd, pid_t sender)
{
	struct cl_image *image = cl_image_find(engine->images, (uint64_t)pid);
	struct cl_restored *restored;
	struct cl_space *space;
	struct cl_task task;
	int ret;

	cl_uffd_guardian_add(&engine->guardian, cl_uffd_guardian_key(engine->guardian.generation, uffd), uffd);
	if (!image) {
		close(uffd);
		cl_engine_fail(engine, -EPIPE, "criu restore handed over task %d, which is not in the images", pid);
		return -1;
	}
	pthread_mutex_unlock(&engine->lock);
	space = cl_space_prepare(image, pid, uffd);
	pthread_mutex_lock(&engine->lock);
	space = cl_space_new(space);
	if (!space) {
		close(uffd);
		cl_engine_fail(engine, -ENOMEM, "task %d: no memory for its page table", pid);
		return -1;
	}
	space->key = cl_uffd_guardian_key(engine->guardian.generation, uffd);
	cl_task_open(&task, sender);
	if (task.pidfd >= 0)
		cl_uffd_guardian_add_task(&engine->guardian, task.pid, task.pidfd);
	ret = cl_ended_add(engine, pid, space, &task, &restored);
	if (ret < 0) {
		cl_task_close(&task);
		cl_engine_fail(engine, ret, "task %d: %s", pid, strerror(-ret));
		return -1;
	}
	engine->stats.address_spaces++;
	/* Pages of the image outside any VMA were dropped at once. */
	engine->stats.dropped_pages += image->nr_pages - space->nr_missing;
	cl_engine_enter(engine, space);
	ret = cl_engine_watch(engine, space);
	if (ret < 0)
		cl_engine_fail(engine, ret, "task %d: watching its userfaultfd: %s", pid, strerror(-ret));
	cl_log(&engine->log, CL_LOG_INFO, "task %d: userfaultfd received from process %d, %llu pages missing", pid,
	       task.pidfd < 0 ? 0 : (int)sender, (unsigned long long)space->nr_missing);
	return ret;
}

/* All tasks are restored: what no task asked for is not needed; background transfer may run. */
void cl_restore_finished(struct cl_engine *engine)
{
	struct cl_image *image;

	engine->restored = true;
	cl_uffd_guardian_restored(&engine->guardian);
	if (engine->restore_fd >= 0)
		cl_engine_unwatch(engine, engine->restore_fd);
	engine->restore_fd = -1;
	if (engine->stopping) /* too late for its tasks */
		return;
	for (image = engine->images; image; image = image->next) {
		if (image->spaces)
			continue;
		cl_image_only_missing(image);
		engine->stats.dropped_pages += image->nr_pages;
	}
	cl_log(&engine->log, CL_LOG_INFO, "%s, background transfer starts",
	       engine->resumed ? "taken over" : "restore finished");
	engine->look_at_ends = true;
	cl_flow_fault(&engine->flow, cl_now_us());
	cl_engine_watch_connections(engine);
	if (!engine->lost) /* else it is told when it is connected to again */
		engine->source->tell_missing(engine);
	cl_engine_ask(engine);
	pthread_cond_broadcast(&engine->work);
	cl_engine_wake(engine);
}

/* Read one message. False if that was the last one. */
bool cl_restore_read(struct cl_engine *engine)
{
	bool more = true;
	pid_t sender;
	int32_t pid;
	char dummy;
	int uffd, ret;

	ret = receive_exactly(engine->restore_fd, &pid, sizeof(pid), NULL, &sender);
	pthread_mutex_lock(&engine->lock);
	if (ret <= 0) {
		more = false;
		cl_engine_fail(engine, -EPIPE, "criu restore ended before all tasks were restored%s%s", ret < 0 ? ": " : "",
			       ret < 0 ? strerror(-ret) : "");
	} else if (pid == CL_RESTORE_FINISHED) {
		more = false;
		cl_restore_finished(engine);
	} else if (pid > 0) {
		pthread_mutex_unlock(&engine->lock);
		ret = receive_exactly(engine->restore_fd, &dummy, sizeof(dummy), &uffd, &sender);
		pthread_mutex_lock(&engine->lock);
		if (ret > 0 && uffd >= 0)
			add_space(engine, pid, uffd, sender);
		else
			cl_engine_fail(engine, -EPIPE, "criu restore did not hand over the userfaultfd of task %d", pid);
	} else {
		cl_log(&engine->log, CL_LOG_DEBUG, "task %d is a zombie", -pid);
	}
	pthread_mutex_unlock(&engine->lock);
	return more;
}

/*
 * The engine ends before it knows how the restore did. What it says from now on fails, and so does the restore; but if
 * its last word was on its way, its tasks run, and must not read zeroes.
 */
void cl_restore_settle(struct cl_engine *engine)
{
	(void)shutdown(engine->restore_fd, SHUT_RDWR);
	while (cl_restore_read(engine))
		;
}
