/* SPDX-License-Identifier: Apache-2.0 */
#include "destination/engine.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/fd_passing.h"
#include "images/pages_local.h"
#include "base/thread.h"
#include "destination/precopy_store.h"
#include "destination/uffd.h"
#include "wire/page_protocol.h"

enum {
	DEFAULT_IN_FLIGHT = 16 << 20,
	REQUESTS_A_SEND = 128,
	EPOLL_EVENTS = 64,
	ACKNOWLEDGE_BYTES = 64 << 10,     /* with less in flight a delayed acknowledgement may hold up the rest */
	UNSETTLED_POLL_MS = 1,
	POISON_WAIT_US = 50,
	POISON_MAX_US = 10000000,         /* a big task takes a while to fork */
	LAST_ANSWERS_US = 1000000,
};

/* ---- life ---- */

/* A name for the page server, which nobody else has. */
static bool new_client(uint64_t *client)
{
	if (getrandom(client, sizeof(*client), 0) != sizeof(*client))
		return false;
	*client &= CL_PUSH_MAX_CLIENT;
	if (*client <= CL_PUSH_UNNAMED)
		*client += 2;
	return true;
}

struct cl_engine *cl_engine_new(const struct cl_config *config, const char **error_out)
{
	struct cl_engine *engine;
	pthread_mutexattr_t spinning;

	*error_out = NULL;
	if (sysconf(_SC_PAGESIZE) != CL_PAGE_SIZE) {
		*error_out = "the page size of this kernel is not 4096 bytes";
		return NULL;
	}
	engine = calloc(1, sizeof(*engine));
	if (!engine) {
		*error_out = "no memory";
		return NULL;
	}
	engine->config = *config;
	engine->log = (struct cl_log){
		.fd = config->log_fd, .level = config->log_level, .start_us = config->log_start_us, .from = "uffd"
	};
	if (!config->log_start_us)
		engine->log.start_us = cl_now_us();
	if (!new_client(&engine->client)) {
		free(engine);
		*error_out = "no random number";
		return NULL;
	}
	engine->epoll_fd = -1;
	engine->restore_fd = -1;
	engine->remote.fd = -1;
	engine->holder = CL_NO_HOLDER;
	engine->ledger = CL_NO_LEDGER;
	engine->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (engine->wake_fd >= 0)
		engine->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (engine->epoll_fd < 0) {
		if (engine->wake_fd >= 0)
			close(engine->wake_fd);
		free(engine);
		*error_out = "no file descriptor left for the engine";
		return NULL;
	}
	/* It is held for a microsecond or two: sleeping until then costs both threads more. */
	pthread_mutexattr_init(&spinning);
	pthread_mutexattr_settype(&spinning, PTHREAD_MUTEX_ADAPTIVE_NP);
	pthread_mutex_init(&engine->lock, &spinning);
	pthread_mutexattr_destroy(&spinning);
	cl_cond_init(&engine->work);
	cl_cond_init(&engine->gate);
	if (config->remote_fd >= 0)
		(void)cl_engine_set_remote(engine, config->remote_fd);
	return engine;
}

void cl_engine_free(struct cl_engine *engine)
{
	struct cl_image *image, *next;

	if (!engine)
		return;
	for (image = engine->images; image; image = next) {
		next = image->next;
		cl_pages_local_close(image->pages);
		free(image->pages);
		cl_image_free(image);
	}
	cl_holder_leave(&engine->holder); /* an heir that never ran */
	cl_tls_free(engine->remote.tls);
	cl_tls_credentials_free(engine->tls);
	if (engine->remote.fd >= 0)
		close(engine->remote.fd);
	cl_schedule_free(&engine->schedule);
	cl_ended_free(engine);
	cl_madvise_watch_stop(&engine->madvise);
	free(engine->later);
	if (engine->ledger.fd >= 0)
		close(engine->ledger.fd);
	cl_store_free(engine->store);
	pthread_cond_destroy(&engine->gate);
	pthread_cond_destroy(&engine->work);
	pthread_mutex_destroy(&engine->lock);
	close(engine->epoll_fd);
	close(engine->wake_fd);
	free(engine);
}

void cl_engine_work_is_there(struct cl_engine *engine)
{
	if (!engine->busy_workers)
		pthread_cond_signal(&engine->work);
}

void cl_engine_wake(struct cl_engine *engine)
{
	uint64_t one = 1;

	/* Non-blocking; it only fails when the counter is full, and then the thread is awake. */
	if (write(engine->wake_fd, &one, sizeof(one)) < 0)
		return;
}

/* The first one holds. Lock held. */
static void note_failure_args(struct cl_engine *engine, int error, const char *format, va_list args)
{
	if (engine->failure)
		return;
	engine->failure = error;
	vsnprintf(engine->error, sizeof(engine->error), format, args);
	cl_log(&engine->log, CL_LOG_ERROR, "%s", engine->error);
}

/* Without an end of it all: there is something to do yet. */
__attribute__((format(printf, 3, 4)))
static void note_failure(struct cl_engine *engine, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	note_failure_args(engine, error, format, args);
	va_end(args);
}

void cl_engine_fail(struct cl_engine *engine, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	note_failure_args(engine, error, format, args);
	va_end(args);
	engine->stopping = true;
	/* Whoever receives or sends returns at once. As long as no task runs here, the source must still be told. */
	if (engine->has_remote)
		(void)shutdown(engine->remote.fd, engine->restored ? SHUT_RDWR : SHUT_RD);
	cl_push_shut_down(engine);
	pthread_cond_broadcast(&engine->work);
	pthread_cond_broadcast(&engine->gate);
	cl_engine_wake(engine);
}

const char *cl_engine_error(const struct cl_engine *engine)
{
	return engine->error;
}

void cl_engine_stop(struct cl_engine *engine)
{
	pthread_mutex_lock(&engine->lock);
	cl_engine_fail(engine, -ECANCELED, "stopped");
	pthread_mutex_unlock(&engine->lock);
}

uint64_t cl_engine_remaining_pages(const struct cl_engine *engine)
{
	const struct cl_image *image;
	const struct cl_space *space;
	uint64_t pages = 0;

	for (image = engine->images; image; image = image->next) {
		if (!image->spaces && !engine->restored)
			pages += image->nr_pages;
		for (space = image->spaces; space; space = space->next)
			pages += space->nr_missing;
	}
	return pages;
}

/* ---- before the run ---- */

/* An image some of whose pages are at the page server, needed or not; NULL if there is none. */
static struct cl_image *first_remote_image(struct cl_engine *engine)
{
	struct cl_image *image;

	for (image = engine->images; image; image = image->next)
		if (image->nr_locals < image->nr_extents)
			return image;
	return NULL;
}

int cl_engine_add_task(struct cl_engine *engine, int32_t pid, const struct cl_vma *vmas, size_t nr_vmas)
{
	struct cl_image **end = &engine->images;
	struct cl_pages_local *pages;
	struct cl_image *image;
	int ret;

	if (cl_image_find(engine->images, (uint64_t)pid)) {
		snprintf(engine->error, sizeof(engine->error), "task %d is announced twice", pid);
		return -EEXIST;
	}
	pages = malloc(sizeof(*pages));
	if (!pages)
		return -ENOMEM;
	ret = cl_image_load(engine->config.images_fd, pid, vmas, nr_vmas, engine->config.auto_dedup, &image, pages,
			    engine->error, sizeof(engine->error));
	if (ret < 0) {
		free(pages);
		return ret;
	}
	image->pages = pages;
	if (pages->wire_version > engine->wire_version)
		engine->wire_version = pages->wire_version;
	while (*end)
		end = &(*end)->next;
	*end = image;
	engine->stats.total_pages += image->nr_pages;
	cl_log(&engine->log, CL_LOG_INFO, "task %d: %llu lazy pages in %zu ranges, %llu of them local", pid,
	       (unsigned long long)image->nr_pages, image->nr_extents, (unsigned long long)image->nr_todo[CL_LOCAL]);
	return 0;
}

int cl_engine_wire_version(const struct cl_engine *engine)
{
	return engine->wire_version;
}

/* The last error's text for Python, without an end of it all. Returns its code. */
static int keep_reason(struct cl_engine *engine, const struct cl_error *error)
{
	snprintf(engine->error, sizeof(engine->error), "%.*s", (int)sizeof(engine->error) - 1, error->text);
	return error->code;
}

int cl_engine_set_tls(struct cl_engine *engine, const struct cl_tls_config *tls)
{
	struct cl_error error;
	int ret;

	if (engine->has_remote || engine->tls)
		return -EEXIST;
	ret = cl_tls_load(tls, &engine->tls, &error);
	return ret < 0 ? keep_reason(engine, &error) : 0;
}

static int check_remote(struct cl_engine *engine, uint64_t wait_us)
{
	struct cl_error error;

	if (!engine->remote.tls || cl_tls_check(engine->remote.tls, wait_us, &error) == 0)
		return 0;
	cl_error_prefix(&error, "page server: ");
	return keep_reason(engine, &error);
}

int cl_engine_set_remote(struct cl_engine *engine, int remote_fd)
{
	uint64_t began_us = cl_now_us();
	struct cl_tls *tls = NULL;
	struct cl_error error;

	if (engine->has_remote)
		return -EEXIST;
	cl_remote_init(&engine->remote, remote_fd, NULL, 1);
	engine->has_remote = true;
	engine->remote_address_bytes = sizeof(engine->remote_address);
	if (getpeername(remote_fd, (struct sockaddr *)&engine->remote_address, &engine->remote_address_bytes) < 0 ||
	    (engine->remote_address.ss_family != AF_INET && engine->remote_address.ss_family != AF_INET6))
		engine->remote_address_bytes = 0;
	if (!engine->tls)
		return 0;
	if (cl_tls_start(engine->tls, remote_fd, &tls, &error) < 0)
		return keep_reason(engine, &error);
	engine->remote.tls = tls;
	/* One that pushes keeps its tasks, whoever leaves it: there is time to be refused. Else the handshake's, again. */
	return engine->config.push_streams ? 0 : check_remote(engine, cl_now_us() - began_us);
}

int cl_engine_check_remote(struct cl_engine *engine)
{
	return check_remote(engine, 0);
}

static void know_version(struct cl_engine *engine)
{
	int version = engine->config.wire_version ? engine->config.wire_version : engine->wire_version;

	/* Without any entry nothing is asked, and CLOSE is understood in either version's first word. */
	engine->remote.version = version ? version : 1;
}

/* Settle what add_task and set_remote left open. */
static int prepare(struct cl_engine *engine)
{
	uint64_t max_in_flight = engine->config.max_in_flight_bytes;
	struct cl_image *image;

	for (image = engine->images; image; image = image->next) {
		if (image->nr_todo[CL_REMOTE] && !engine->has_remote) {
			snprintf(engine->error, sizeof(engine->error),
				 "task %d: its pages are at the source, and no page server was named (--page-server)",
				 image->pid);
			return -ENOTCONN;
		}
	}
	know_version(engine);
	cl_flow_init(&engine->flow, max_in_flight ? max_in_flight : DEFAULT_IN_FLIGHT, cl_now_us());
	if (engine->has_remote)
		cl_flow_round_trip(&engine->flow, cl_remote_min_rtt_us(&engine->remote));
	engine->schedule.images = engine->images;
	return 0;
}

/* ---- asking ---- */

/* The next request that may be sent now. */
static bool next_request(struct cl_engine *engine, struct cl_pick *pick)
{
	uint64_t bytes;

	if (cl_remote_full(&engine->remote))
		return false;
	if (cl_schedule_demand(&engine->schedule, CL_REMOTE, pick))
		return true;
	bytes = engine->restored ? cl_flow_allowance(&engine->flow, cl_now_us()) : 0;
	if (!bytes)
		return false;
	engine->schedule.rate = engine->flow.starting ? 0 : engine->flow.rate;
	if (cl_schedule_background(&engine->schedule, CL_REMOTE, bytes / CL_PAGE_SIZE, pick))
		return true;
	cl_flow_starved(&engine->flow);
	return false;
}

void cl_engine_ask(struct cl_engine *engine)
{
	size_t header_bytes = cl_wire_header_bytes(engine->remote.version), bytes;
	uint8_t out[REQUESTS_A_SEND * CL_WIRE_MAX_BYTES];
	struct cl_pick pick;
	bool byte_ahead;
	int ret;

	if (!engine->has_remote || engine->sending || engine->lost)
		return;
	if (engine->push.on) {
		cl_push_ask(engine);
		return;
	}
	engine->sending = true;
	while (!engine->stopping && !engine->lost) {
		for (bytes = 0; bytes + header_bytes <= sizeof(out) && next_request(engine, &pick);
		     bytes += header_bytes) {
			struct cl_request request = { .image = pick.image,
						      .index = pick.index,
						      .nr_pages = (uint32_t)pick.nr_pages };

			cl_remote_ask(&engine->remote, &request, out + bytes);
			cl_flow_asked(&engine->flow, pick.nr_pages * CL_PAGE_SIZE + header_bytes);
			engine->stats.requests++;
		}
		if (!bytes)
			break;
		/* As long as no task runs here: whatever kills this process, the source's task lives. */
		byte_ahead = !engine->restored;
		cl_engine_work_is_there(engine);
		pthread_mutex_unlock(&engine->lock);
		ret = cl_remote_send(&engine->remote, out, bytes, byte_ahead);
		pthread_mutex_lock(&engine->lock);
		if (ret < 0)
			cl_engine_broken(engine, ret, NULL);
	}
	engine->sending = false;
	if (engine->lost) /* whoever is to call again waits for us */
		pthread_cond_signal(&engine->work);
	if (cl_remote_idle(&engine->remote)) /* drain() waits for both */
		pthread_cond_broadcast(&engine->gate);
}

/* Before anything is asked: protect the source's tasks (source_stock.h). 0 or -errno. */
static int send_byte_ahead(struct cl_engine *engine)
{
	if (!engine->has_remote || !first_remote_image(engine) || engine->push.on)
		return 0;
	return cl_remote_send(&engine->remote, NULL, 0, true);
}

/* Nothing was asked since: end the request that was begun, for a page that nobody needs. Lock held. */
static void complete_byte_ahead(struct cl_engine *engine)
{
	struct cl_image *image = first_remote_image(engine);
	const struct cl_extent *extent = image->extents;

	while (cl_extent_source(extent) != CL_REMOTE)
		extent++;
	/* As a demand page it is asked for at once. It is in no bitmap of missing pages: it will be dropped. */
	image->nr_todo[CL_REMOTE] +=
		cl_bits_assign(image->todo[CL_REMOTE], extent->first, extent->first + 1, true);
	if (cl_schedule_fault(&engine->schedule, image, extent->first) > 0)
		cl_engine_ask(engine);
}

/* ---- workers ---- */

struct worker {
	struct cl_engine *engine;
	uint8_t buffer[CL_PAGE_SIZE + CL_RECEIVE_BYTES];
};

/* Receive once, ask for more, install what came. Lock held. */
static void receive(struct cl_engine *engine, struct worker *worker)
{
	struct cl_segment segments[sizeof(worker->buffer) / CL_PAGE_SIZE];
	uint64_t cancelled_bytes, delivered;
	bool few_in_flight = engine->flow.in_flight < ACKNOWLEDGE_BYTES;
	size_t filled = 0;
	int nr_segments, i;
	int64_t got;

	engine->receiving = true;
	pthread_mutex_unlock(&engine->lock);
	got = cl_remote_receive(&engine->remote, worker->buffer, sizeof(worker->buffer), &filled);
	if (got > 0 && few_in_flight)
		cl_remote_acknowledge(&engine->remote);
	pthread_mutex_lock(&engine->lock);
	engine->receiving = engine->remote_hung_up = false;
	if (engine->stopping)
		return;
	if (got < 0) {
		cl_engine_broken(engine, (int)got, engine->remote.error.text);
		return;
	}
	engine->lost_us = engine->lost ? engine->lost_us : 0;
	nr_segments = cl_remote_parse(&engine->remote, worker->buffer, filled, segments, &cancelled_bytes);
	if (nr_segments < 0) {
		cl_engine_broken(engine, nr_segments, engine->remote.error.text);
		return;
	}
	engine->stats.received_bytes += (uint64_t)got;
	delivered = cl_flow_delivered(&engine->flow, (uint64_t)got, cl_now_us());
	if (delivered)
		cl_readahead_delivered(&engine->schedule.readahead[CL_REMOTE], delivered);
	cl_flow_cancelled(&engine->flow, cancelled_bytes);
	/*
	 * Another worker receives meanwhile, if more is waiting than one can take: else waking it, on another CPU, costs
	 * more than it brings.
	 */
	if (cl_remote_idle(&engine->remote))
		pthread_cond_broadcast(&engine->gate);
	else if (filled == sizeof(worker->buffer))
		pthread_cond_signal(&engine->work);
	cl_engine_ask(engine);
	for (i = 0; i < nr_segments; i++)
		cl_engine_fill(engine, segments[i].image, segments[i].index, segments[i].nr_pages, segments[i].data);
}

/* Install one run of pages from the local images. Lock held. False if there is none to do. */
static bool copy_local(struct cl_engine *engine)
{
	struct cl_pick pick;

	if (!cl_schedule_demand(&engine->schedule, CL_LOCAL, &pick) &&
	    !(engine->restored &&
	      cl_schedule_background(&engine->schedule, CL_LOCAL, CL_COPY_BYTES / CL_PAGE_SIZE, &pick)))
		return false;
	cl_engine_fill(engine, pick.image, pick.index, pick.nr_pages,
		       cl_pages_local_at(pick.image->pages, pick.image, pick.index));
	if (engine->config.auto_dedup && !engine->stopping) {
		int ret;

		pthread_mutex_unlock(&engine->lock);
		ret = cl_pages_local_punch(pick.image->pages, pick.image, pick.index, pick.nr_pages);
		pthread_mutex_lock(&engine->lock);
		if (ret < 0)
			cl_log(&engine->log, CL_LOG_WARN, "task %d: punching used pages out of the image: %s",
			       pick.image->pid, strerror(-ret));
	}
	return true;
}

static void *work(void *argument)
{
	struct worker *worker = argument;
	struct cl_engine *engine = worker->engine;

	cl_take_precedence();
	pthread_mutex_lock(&engine->lock);
	engine->busy_workers++;
	while (!engine->stopping) {
		if (copy_local(engine))
			continue;
		if (engine->lost && !engine->receiving && !engine->sending && cl_push_is_parked(engine))
			cl_engine_reconnect(engine);
		else if (engine->has_remote && !engine->receiving && !engine->lost &&
			 (!cl_remote_idle(&engine->remote) || engine->remote_hung_up))
			receive(engine, worker);
		else if (!engine->stopping) {
			engine->busy_workers--;
			pthread_cond_wait(&engine->work, &engine->lock);
			engine->busy_workers++;
		}
	}
	pthread_mutex_unlock(&engine->lock);
	free(worker);
	return NULL;
}

static int start_workers(struct cl_engine *engine)
{
	unsigned int wanted = engine->config.nr_workers;
	char name[16];
	int ret = 0;

	if (!wanted) {
		long cpus = sysconf(_SC_NPROCESSORS_ONLN);

		wanted = cpus < 2 ? 2 : cpus > 4 ? 4 : (unsigned int)cpus;
	}
	if (wanted > CL_MAX_WORKERS)
		wanted = CL_MAX_WORKERS;
	while (engine->nr_workers < wanted && ret == 0) {
		struct worker *worker = malloc(sizeof(*worker));

		if (!worker) {
			ret = -ENOMEM;
			break;
		}
		worker->engine = engine;
		snprintf(name, sizeof(name), "cl-worker-%u", engine->nr_workers);
		ret = cl_thread_start(&engine->workers[engine->nr_workers], name, work, worker);
		if (ret < 0) {
			free(worker);
			break;
		}
		engine->nr_workers++;
	}
	return engine->nr_workers ? 0 : ret;
}

static void join_workers(struct cl_engine *engine)
{
	unsigned int i;

	pthread_mutex_lock(&engine->lock);
	engine->stopping = true;
	cl_push_shut_down(engine);
	pthread_cond_broadcast(&engine->work);
	pthread_cond_broadcast(&engine->gate);
	pthread_mutex_unlock(&engine->lock);
	for (i = 0; i < engine->nr_workers; i++)
		pthread_join(engine->workers[i], NULL);
	engine->nr_workers = 0;
	cl_push_join(engine);
}

/* ---- the restore's side ---- */

/* Exactly `size` bytes from the restore, of *sender, with a descriptor if fd isn't NULL. 1, 0 at the end of file, -errno. */
static int receive_exactly(int socket, void *data, size_t size, int *fd, pid_t *sender)
{
	long got = cl_fds_receive_from(socket, data, size, MSG_WAITALL, fd, fd ? 1 : 0, sender);

	return got < 0 ? (int)got : (size_t)got == size ? 1 : got == 0 ? 0 : -EPROTO;
}

/* sender: the restored task's process, or 0. Lock held. */
static int add_space(struct cl_engine *engine, int32_t pid, int uffd, pid_t sender)
{
	struct cl_image *image = cl_image_find(engine->images, (uint64_t)pid);
	struct cl_restored *restored;
	struct cl_space *space;
	struct cl_task task;
	int ret;

	cl_holder_add(&engine->holder, cl_holder_key(engine->holder.generation, uffd), uffd);
	if (!image) {
		close(uffd);
		cl_engine_fail(engine, -EPIPE, "criu restore handed over task %d, which is not in the images", pid);
		return -1;
	}
	space = cl_space_new(image, pid, uffd);
	if (!space) {
		close(uffd);
		cl_engine_fail(engine, -ENOMEM, "task %d: no memory for its page table", pid);
		return -1;
	}
	space->key = cl_holder_key(engine->holder.generation, uffd);
	cl_task_open(&task, sender);
	ret = cl_ended_add(engine, pid, space, &task, &restored);
	if (ret < 0) {
		cl_task_close(&task);
		cl_engine_fail(engine, ret, "task %d: %s", pid, strerror(-ret));
		return -1;
	}
	cl_engine_enter(engine, space);
	engine->stats.address_spaces++;
	/* Pages of the image outside any VMA were dropped at once. */
	engine->stats.dropped_pages += image->nr_pages - space->nr_missing;
	ret = cl_engine_watch(engine, space);
	if (ret < 0)
		cl_engine_fail(engine, ret, "task %d: watching its userfaultfd: %s", pid, strerror(-ret));
	cl_log(&engine->log, CL_LOG_INFO, "task %d: userfaultfd received from process %d, %llu pages missing", pid,
	       task.pidfd < 0 ? 0 : (int)sender, (unsigned long long)space->nr_missing);
	return ret;
}

/* Close what is watched. The holder may have it open still, so epoll must be told. */
static void close_watched(struct cl_engine *engine, int fd)
{
	(void)epoll_ctl(engine->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	close(fd);
}

/*
 * The page server's end of the connection was closed while nothing was asked: as long as criu restore is at it, the
 * restore must fail, and not its tasks afterwards.
 */
static void handle_hang_up(struct cl_engine *engine)
{
	pthread_mutex_lock(&engine->lock);
	engine->remote_hung_up = !engine->restored;
	pthread_cond_signal(&engine->work);
	pthread_mutex_unlock(&engine->lock);
}

/* A restored task's process has ended. */
static void handle_end(struct cl_engine *engine)
{
	pthread_mutex_lock(&engine->lock);
	engine->look_at_ends = true;
	pthread_mutex_unlock(&engine->lock);
}

/* The tasks have said a lot. */
static void handle_madvise(struct cl_engine *engine)
{
	pthread_mutex_lock(&engine->lock);
	cl_engine_follow_madvise(engine);
	pthread_mutex_unlock(&engine->lock);
}

/* All tasks are restored: what no task asked for is not needed; background transfer may run. */
static void restore_finished(struct cl_engine *engine)
{
	struct cl_image *image;
	uint64_t index;
	int source;

	engine->restored = true;
	cl_holder_restored(&engine->holder);
	if (engine->restore_fd >= 0)
		close_watched(engine, engine->restore_fd);
	engine->restore_fd = -1;
	if (engine->stopping) /* too late for its tasks */
		return;
	for (image = engine->images; image; image = image->next) {
		for (source = 0; source < CL_SOURCES && !image->spaces; source++)
			while (cl_image_take(image, source, 0, false, image->nr_pages, &index))
				;
		if (!image->spaces)
			engine->stats.dropped_pages += image->nr_pages;
	}
	cl_log(&engine->log, CL_LOG_INFO, "%s, background transfer starts", engine->resumed ? "taken over" : "restore finished");
	engine->look_at_ends = true;
	cl_flow_fault(&engine->flow, cl_now_us());
	cl_engine_watch_connections(engine);
	if (engine->push.on && !engine->lost) /* else it is told when it is called again */
		cl_push_tell_missing(engine);
	cl_engine_ask(engine);
	pthread_cond_broadcast(&engine->work);
	cl_engine_wake(engine);
}

/* Read one message. False if that was the last one. */
static bool handle_restore(struct cl_engine *engine)
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
		cl_engine_fail(engine, -EPIPE, "criu restore ended before all tasks were restored%s%s",
			       ret < 0 ? ": " : "", ret < 0 ? strerror(-ret) : "");
	} else if (pid == CL_RESTORE_FINISHED) {
		more = false;
		restore_finished(engine);
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
static void settle_restore(struct cl_engine *engine)
{
	(void)shutdown(engine->restore_fd, SHUT_RDWR);
	while (handle_restore(engine))
		;
}

/* ---- the end ---- */

/*
 * Close the space's userfaultfd, which unregisters its memory: from now on its faults are the kernel's own business.
 * Lock held; dropped meanwhile.
 */
static void let_go(struct cl_engine *engine, struct cl_space *space)
{
	int uffd = space->uffd;

	space->uffd = -1;
	cl_space_retire(space);
	space->reading = false; /* nobody opens its gate any more */
	cl_ended_let_go(space);
	pthread_cond_broadcast(&engine->gate);
	engine->stats.address_spaces--;
	pthread_mutex_unlock(&engine->lock);
	/* Whoever is killed in between is found to have had nothing, or something of which the ledger knows. */
	close_watched(engine, uffd);
	cl_holder_release(&engine->holder, space->key);
	cl_ledger_forget(&engine->ledger, space);
	pthread_mutex_lock(&engine->lock);
}

/* Let go of the spaces that need nothing any more; true if all are done. Lock held; dropped while closing. */
static bool retire_finished(struct cl_engine *engine)
{
	struct cl_image *image;
	struct cl_space *space;
	bool done = true;

	for (image = engine->images; image; image = image->next) {
		for (space = image->spaces; space; space = space->next) {
			if (space->retired)
				continue;
			if (space->nr_missing || space->copying || !cl_ended_may_let_go(space)) {
				done = false;
				continue;
			}
			let_go(engine, space);
			cl_log(&engine->log, CL_LOG_INFO, "task %d: complete", space->pid);
		}
		/* A task may fork all through its transfer. Who fills may be at any of them; else they are this thread's. */
		if (!engine->filling)
			cl_image_forget_retired(image);
	}
	return done;
}

/*
 * The end of an engine that leaves tasks with missing pages. Closing a userfaultfd would make those pages read as
 * zeroes: silent corruption. SIGBUS is the honest way. Nobody else fills the space any more. Lock held; dropped
 * while events are read.
 */
static void poison(struct cl_engine *engine, struct cl_space *space)
{
	const struct cl_image *image = space->image;
	uint64_t lost = 0, max_pages = image->nr_pages, done_bytes, done, index = 0, end, start_us = cl_now_us();
	struct cl_run run;
	int ret;

	while (space->nr_missing && index < image->nr_pages) {
		end = cl_image_extent(image, index)[1].first;
		if (!cl_space_next_run(space, index, end, &run)) {
			index = end;
			continue;
		}
		if (run.nr_pages > max_pages)
			run.nr_pages = max_pages;
		ret = cl_uffd_poison(space->uffd, run.address, run.nr_pages * CL_PAGE_SIZE, &done_bytes);
		done = done_bytes / CL_PAGE_SIZE;
		lost += done;
		max_pages = image->nr_pages;
		if (ret == -EEXIST || (ret == -ENOENT && run.nr_pages == 1 && !cl_uffd_is_changing(space->uffd))) {
			done++; /* it is there; or nowhere */
		} else if (ret == -ENOENT && !done && run.nr_pages > 1) {
			max_pages = (run.nr_pages + 1) / 2; /* the task has made two VMAs of it */
		} else if (!done) {
			if (ret == -ESRCH) {
				cl_ended_gone(engine, space);
				break;
			}
			/* What the task changed is told by its events. */
			if ((ret != -EAGAIN && ret != -ENOENT) || cl_now_us() - start_us > POISON_MAX_US) {
				cl_log(&engine->log, CL_LOG_ERROR,
				       "task %d: %llu pages are lost to it, and READ AS ZEROES: UFFDIO_POISON: %s", space->pid,
				       (unsigned long long)space->nr_missing, strerror(-ret));
				break;
			}
			pthread_mutex_unlock(&engine->lock);
			usleep(POISON_WAIT_US);
			(void)cl_engine_read_events(engine, space);
			pthread_mutex_lock(&engine->lock);
			index = 0; /* pages may have moved to where we were */
			continue;
		}
		cl_space_filled(space, run.index, run.index + done);
	}
	if (lost)
		cl_log(&engine->log, CL_LOG_ERROR,
		       "task %d: %llu pages are lost to it: it gets SIGBUS where it touches one", space->pid,
		       (unsigned long long)lost);
}

/* A child that was being forked meanwhile comes to the front of its list. Lock held. */
static struct cl_space *first_left(struct cl_engine *engine)
{
	struct cl_image *image;
	struct cl_space *space;

	for (image = engine->images; image; image = image->next)
		for (space = image->spaces; space; space = space->next)
			if (!space->retired)
				return space;
	return NULL;
}

static void abandon_spaces(struct cl_engine *engine)
{
	struct cl_space *space;

	pthread_mutex_lock(&engine->lock);
	while ((space = first_left(engine))) {
		if (engine->restored)
			poison(engine, space);
		let_go(engine, space);
	}
	pthread_mutex_unlock(&engine->lock);
}

/* Read the events of the spaces whose gate stayed closed. True if one's still is. */
static bool read_unsettled(struct cl_engine *engine)
{
	struct cl_image *image;
	struct cl_space *space;
	bool unsettled = false;

	for (image = engine->images; image; image = image->next)
		for (space = image->spaces; space; space = space->next)
			if (space->reading && !space->retired)
				unsettled |= !cl_engine_read_events(engine, space);
	return unsettled;
}

static void event_loop(struct cl_engine *engine)
{
	struct epoll_event events[EPOLL_EVENTS];
	bool done = false, unsettled = engine->resumed; /* as it may be left */
	int look_ms = -1, n, i;
	uint64_t count;

	while (!done) {
		n = epoll_wait(engine->epoll_fd, events, EPOLL_EVENTS, unsettled ? UNSETTLED_POLL_MS : look_ms);
		if (n < 0 && errno != EINTR) {
			int error = errno;

			pthread_mutex_lock(&engine->lock);
			cl_engine_fail(engine, -error, "epoll_wait: %s", strerror(error));
			pthread_mutex_unlock(&engine->lock);
		}
		for (i = 0; i < n; i++) {
			if (events[i].data.ptr == &engine->wake_fd)
				(void)!read(engine->wake_fd, &count, sizeof(count));
			else if (events[i].data.ptr == &engine->remote)
				handle_hang_up(engine);
			else if (events[i].data.ptr == &engine->restored_tasks)
				handle_end(engine);
			else if (events[i].data.ptr == &engine->madvise)
				handle_madvise(engine);
			else if (events[i].data.ptr == &engine->restore_fd)
				(void)handle_restore(engine);
			else if (((struct cl_space *)events[i].data.ptr)->uffd >= 0)
				unsettled |= !cl_engine_read_events(engine, events[i].data.ptr);
		}
		if (unsettled)
			unsettled = read_unsettled(engine);
		look_ms = cl_ended_look(engine);
		pthread_mutex_lock(&engine->lock);
		done = engine->stopping || (engine->restored && retire_finished(engine));
		pthread_mutex_unlock(&engine->lock);
	}
}

static int watch(struct cl_engine *engine, int fd, uint32_t events, void *tag)
{
	struct epoll_event event = { .events = events, .data.ptr = tag };

	return epoll_ctl(engine->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

/* Until nothing is in flight, on a connection that stands; no longer than until_us, if it isn't 0. Lock held. */
static void wait_until_idle(struct cl_engine *engine, uint64_t until_us)
{
	int ret = 0;

	while (ret == 0 && !engine->stopping &&
	       (engine->sending || engine->receiving || engine->lost || !cl_remote_idle(&engine->remote)))
		ret = cl_cond_wait(&engine->gate, &engine->lock, until_us);
}

/*
 * Every page arrived: tell the page server. Answers on their way are for pages dropped meanwhile; the server must get
 * rid of them before it hears CLOSE.
 */
static void say_close(struct cl_engine *engine)
{
	int ret = -ENOTCONN;

	pthread_mutex_lock(&engine->lock);
	while (ret < 0 && engine->has_remote && !engine->stopping) {
		wait_until_idle(engine, 0);
		if (engine->remote.byte_ahead && !engine->stopping) {
			complete_byte_ahead(engine);
			wait_until_idle(engine, 0);
		}
		if (engine->stopping)
			break;
		if (engine->push.on) {
			ret = cl_push_close(engine);
		} else {
			engine->receiving = engine->sending = true;
			pthread_mutex_unlock(&engine->lock);
			ret = cl_remote_close(&engine->remote);
			pthread_mutex_lock(&engine->lock);
			engine->receiving = engine->sending = false;
		}
		if (ret < 0 && (ret == -EPROTO || !cl_engine_lose(engine, strerror(-ret))))
			cl_engine_fail(engine, -EIO, "page server: every page arrived, but it did not confirm the end: %s",
				       ret == -EPROTO ? engine->remote.error.text : strerror(-ret));
	}
	pthread_mutex_unlock(&engine->lock);
}

/*
 * All is served, but a restored task was killed, and nobody has its pages but the source: it must not hear that all went
 * well. A page server of ours keeps them when we leave. A stock one gives up what it has either way: it is told that the
 * restore failed, and its tasks run on; unless that would make two of one that lives here.
 */
static void end_with_losses(struct cl_engine *engine)
{
	char what[sizeof(engine->error) - 100] = "";
	bool is_stock, must_close;

	pthread_mutex_lock(&engine->lock);
	if (engine->push.on) {
		wait_until_idle(engine, cl_now_us() + LAST_ANSWERS_US);
		cl_ended_tell_source(engine);
	}
	is_stock = engine->has_remote && !cl_engine_is_held(engine);
	must_close = is_stock && cl_ended_any_lives(engine);
	cl_ended_describe(engine, what, sizeof(what));
	if (!is_stock) {
		cl_engine_fail(engine, -ESRCH, "%s; the %s", what,
			       engine->has_remote ? "source still has them" : "images still have them");
	} else {
		note_failure(engine, -ESRCH, "%s; %s", what,
			     must_close ? "another restored task lives, so the source is told to end" :
					  "the source is told to let its tasks run on");
		/* What is on its way is for nobody. But what is sent must be sent whole. */
		wait_until_idle(engine, must_close ? 0 : cl_now_us() + LAST_ANSWERS_US);
	}
	pthread_mutex_unlock(&engine->lock);
	if (must_close) {
		say_close(engine);
	} else if (is_stock) {
		(void)cl_remote_roll_back(&engine->remote); /* where it is gone, there is nobody to tell */
		(void)shutdown(engine->remote.fd, SHUT_RD);  /* whoever still waits for an answer */
	}
}

static void end_well_or_not(struct cl_engine *engine)
{
	bool well;

	pthread_mutex_lock(&engine->lock);
	well = engine->stopping || !engine->stats.lost_pages;
	pthread_mutex_unlock(&engine->lock);
	if (well)
		say_close(engine);
	else
		end_with_losses(engine);
}

/* Before there are threads. Where there is none, only a kill is worse: no reason not to serve. */
static void start_holder(struct cl_engine *engine)
{
	int ret;

	if (!engine->stats.total_pages || engine->resumed)
		return;
	ret = cl_ledger_new(&engine->ledger, engine->client);
	if (ret < 0)
		cl_engine_no_ledger(engine, ret);
	ret = cl_holder_start(&engine->holder, &engine->log, engine->restore_fd, engine->ledger.fd);
	if (ret < 0)
		cl_log(&engine->log, CL_LOG_WARN, "no process can be started that guards the tasks should this one be killed: "
		       "%s", strerror(-ret));
}

/* Without it all pages come from the server. */
static void take_store(struct cl_engine *engine)
{
	int ret = engine->config.precopied_fd < 0 ? 0 : cl_store_take(engine->config.precopied_fd, &engine->store);

	if (ret < 0)
		cl_log(&engine->log, CL_LOG_WARN, "the pages that came before the dump can't be used: %s",
		       ret == -EBADMSG ? "their index is damaged" : strerror(-ret));
}

static int agree_to_push(struct cl_engine *engine)
{
	struct cl_error error;
	int ret;

	if (engine->was_asked || !engine->has_remote || !engine->config.push_streams || !engine->remote_address_bytes ||
	    !first_remote_image(engine))
		return 0;
	engine->was_asked = true;
	take_store(engine);
	pthread_mutex_lock(&engine->lock);
	ret = cl_push_agree(engine, &error);
	engine->is_refused = ret == -EBUSY || ret == -ESHUTDOWN;
	if (ret == -EPROTO || engine->is_refused) {
		note_failure(engine, ret, "page server: %s", error.text);
	} else if (ret < 0) {
		cl_error_prefix(&error, "page server: ");
		(void)keep_reason(engine, &error);
	}
	pthread_mutex_unlock(&engine->lock);
	if (ret >= 0)
		cl_log(&engine->log, CL_LOG_INFO, "page server: %s", ret ? "it pushes" : "it answers requests only");
	return ret < 0 ? ret : 0;
}

int cl_engine_greet(struct cl_engine *engine)
{
	know_version(engine);
	return agree_to_push(engine);
}

/*
 * Whether the tasks go on waiting, for another daemon, rather than get SIGBUS: where the pages can still be had, as this
 * engine fails for a reason of its own; or it is an heir, and hasn't got one: it has made nothing better or worse.
 */
static bool is_left_to_an_heir(const struct cl_engine *engine)
{
	if (!engine->failure || engine->failure == -ECANCELED || engine->failure == -ESRCH)
		return false;
	if (engine->resumed && !engine->stats.received_bytes)
		return true;
	return engine->restored && !engine->source_is_gone && engine->holder.channel >= 0 && !engine->no_ledger;
}

int cl_engine_run(struct cl_engine *engine, int restore_fd)
{
	int ret;

	pthread_mutex_lock(&engine->lock); /* its counters may be asked for already */
	ret = prepare(engine);
	pthread_mutex_unlock(&engine->lock);
	if (ret < 0) {
		if (restore_fd >= 0)
			close(restore_fd);
		return ret;
	}
	engine->restore_fd = restore_fd;
	/* From now on it is told who speaks: which processes the restored tasks are. */
	if (restore_fd >= 0 && setsockopt(restore_fd, SOL_SOCKET, SO_PASSCRED, &(int){ 1 }, sizeof(int)) < 0)
		cl_log(&engine->log, CL_LOG_WARN, "restore: which processes its tasks are is not known: %s", strerror(errno));
	ret = watch(engine, engine->wake_fd, EPOLLIN, &engine->wake_fd);
	if (ret == 0 && restore_fd >= 0)
		ret = watch(engine, restore_fd, EPOLLIN, &engine->restore_fd);
	if (ret == 0)
		ret = agree_to_push(engine);
	/* Who pushes is received from all the time. */
	if (ret == 0 && restore_fd >= 0 && engine->has_remote && !engine->push.on)
		ret = watch(engine, engine->remote.fd, EPOLLRDHUP | EPOLLONESHOT, &engine->remote);
	if (ret == 0 && !engine->resumed)
		ret = send_byte_ahead(engine);
	if (ret == 0) {
		if (engine->stats.total_pages)
			cl_engine_watch_madvise(engine);
		start_holder(engine);
		ret = start_workers(engine);
	}
	if (ret == 0 && engine->push.on)
		ret = cl_push_start(engine);
	if (ret < 0) {
		note_failure(engine, ret, "starting the engine: %s", strerror(-ret));
	} else {
		cl_take_precedence();
		if (engine->resumed) {
			pthread_mutex_lock(&engine->lock);
			restore_finished(engine);
			pthread_mutex_unlock(&engine->lock);
		}
		event_loop(engine);
		end_well_or_not(engine);
	}
	join_workers(engine);
	if (engine->restore_fd >= 0)
		settle_restore(engine);
	/* A server that pushes keeps the source's tasks, whatever becomes of its client. */
	if (engine->failure && engine->has_remote && !engine->restored && !engine->push.agreed && !engine->is_refused) {
		cl_log(&engine->log, CL_LOG_INFO, "no task runs here yet: telling the source to let its tasks run on");
		(void)cl_remote_roll_back(&engine->remote);
	}
	if (is_left_to_an_heir(engine)) {
		cl_log(&engine->log, CL_LOG_ERROR, "the tasks go on waiting for a daemon that takes over");
		cl_holder_leave(&engine->holder);
		return engine->failure;
	}
	abandon_spaces(engine);
	cl_holder_end(&engine->holder);
	if (engine->restore_fd >= 0)
		close(engine->restore_fd);
	engine->restore_fd = -1;
	return engine->failure;
}

/* What waits now. Lock held. */
static void stats_of_waiting(const struct cl_engine *engine, struct cl_stats *out)
{
	uint64_t now_us = cl_now_us();
	const struct cl_image *image;
	const struct cl_space *space;
	size_t i;

	for (image = engine->images; image; image = image->next)
		for (space = image->spaces; space; space = space->next) {
			if (space->retired)
				continue;
			out->waiting_faults += space->nr_waiters;
			for (i = 0; i < space->nr_waiters; i++)
				if (now_us - space->waiters[i].since_us > out->oldest_wait_us)
					out->oldest_wait_us = now_us - space->waiters[i].since_us;
			if (space->no_memory_us && now_us - space->no_memory_us > out->no_memory_us)
				out->no_memory_us = now_us - space->no_memory_us;
		}
}

void cl_engine_stats(struct cl_engine *engine, struct cl_stats *out)
{
	pthread_mutex_lock(&engine->lock);
	*out = engine->stats;
	out->remaining_pages = cl_engine_remaining_pages(engine);
	stats_of_waiting(engine, out);
	out->push_streams = engine->push.on ? engine->push.nr_streams : 0;
	out->paused_us = engine->lost ? cl_now_us() - engine->lost_us : 0;
	out->in_flight_bytes = engine->flow.in_flight;
	out->window_bytes = cl_flow_window(&engine->flow, cl_now_us());
	out->delivery_rate = engine->flow.rate;
	out->min_rtt_us = engine->flow.min_rtt_us;
	pthread_mutex_unlock(&engine->lock);
}
