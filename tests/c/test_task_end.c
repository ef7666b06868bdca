/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A restored task that ends, in every way, while pages of it are missing: what the engine says, and what it says to the
 * page server. The task is a child process, the page server a thread here.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "criu_lazy.h"
#include "destination/ended.h"
#include "destination/engine.h"
#include "push_images.h"
#include "restored_task.h"
#include "task/task_end.h"
#include "task/task_memory.h"

enum { PID = 4711, PAGES = 64, LAZY = PAGES / 8 * 7, STATUS = 3, SETTLE_US = 100000, REQUESTS = 64, STOPS = 50 };

static uint8_t *memory;

enum death { EXITS, IS_KILLED, FAULTS, CALLS_EXECVE, UNMAPS, EXITS_WITH_A_CHILD };

struct server {
	int socket;
	bool answers; /* or leaves its client waiting, at first */
	_Atomic int asked;
	struct cl_wire_header waiting[REQUESTS];
	bool was_closed, was_rolled_back;
};

/* ---- the task ---- */

static void *touch(void *page)
{
	*(volatile uint8_t *)page = 1;
	return NULL;
}

/* go: what to read a byte from before it ends; life: what is open until its memory is gone. */
static void be_task(enum death death, int restore, int go, int life)
{
	struct rlimit none = { 0 };
	pthread_t waiter;
	char byte;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setrlimit(RLIMIT_CORE, &none);
	hand_over(restore, PID, memory, PAGES);
	/* One of its threads waits for a page when it ends. */
	if (death != UNMAPS)
		CHECK(pthread_create(&waiter, NULL, touch, memory) == 0);
	CHECK(read(go, &byte, 1) == 1);
	if (death == EXITS)
		_exit(STATUS);
	if (death == IS_KILLED)
		kill(getpid(), SIGKILL);
	if (death == FAULTS) {
		signal(SIGSEGV, SIG_DFL); /* sanitizers have their own ways */
		kill(getpid(), SIGSEGV);
	}
	if (death == CALLS_EXECVE)
		execl("/bin/sleep", "sleep", "1000", NULL);
	if (death == EXITS_WITH_A_CHILD && fork() == 0) {
		close(life);
		usleep(SETTLE_US);
	}
	if (death == EXITS_WITH_A_CHILD)
		_exit(STATUS);
	if (death == UNMAPS)
		munmap(memory, PAGES * CL_PAGE_SIZE);
	for (;;)
		pause();
}

/* ---- the page server ---- */

static void *serve(void *argument)
{
	struct server *server = argument;
	struct cl_wire_header header;
	uint8_t raw[CL_WIRE_MAX_BYTES];
	int32_t status = 0;

	while (recv(server->socket, raw, CL_WIRE_V2_BYTES, MSG_WAITALL) == CL_WIRE_V2_BYTES) {
		if (cl_wire_unpack(2, raw, &header) < 0 || header.cmd == CL_WIRE_CLOSE) {
			server->was_closed = header.cmd == CL_WIRE_CLOSE;
			server->was_rolled_back = !server->was_closed;
			if (server->was_closed)
				CHECK(send(server->socket, &status, sizeof(status), MSG_NOSIGNAL) == sizeof(status));
			break;
		}
		CHECK(server->asked < REQUESTS);
		server->waiting[server->asked] = header;
		server->asked++;
		if (server->answers && !answer(server->socket, &header))
			break;
	}
	close(server->socket);
	return NULL;
}

/* ---- both ---- */

struct run {
	enum death death;
	bool is_waited_for; /* at once, by who started it */
	bool answers;       /* the page server, before its end */
	bool answers_later; /* or after it */
	bool holds;         /* the page server: it is one of ours */
	/* Then: */
	int result;
	const char *how; /* NULL: it isn't in the list */
	bool is_lost, is_closed, is_rolled_back;
};

struct helper {
	struct server *server;
	const struct run *run;
	pid_t task;
	int go, life;
};

/* Lets the task end once it waits for a page (and the engine for the server). */
static void *end_task(void *argument)
{
	struct helper *helper = argument;

	struct server *server = helper->server;
	char byte;
	int i;

	while (!server->asked)
		usleep(1000);
	usleep(SETTLE_US);
	CHECK(write(helper->go, "", 1) == 1);
	if (helper->run->is_waited_for)
		CHECK(waitpid(helper->task, NULL, 0) == helper->task);
	CHECK(helper->run->death == UNMAPS || read(helper->life, &byte, 1) == 0);
	for (i = 0; helper->run->answers_later && i < server->asked; i++)
		CHECK(answer(server->socket, &server->waiting[i]));
	return NULL;
}

static void check_outcome(const struct run *run, struct cl_engine *engine, const struct server *server,
			  const struct cl_error *error)
{
	struct cl_ended ended = { 0 };
	struct cl_stats stats;

	cl_engine_stats(engine, &stats);
	fprintf(stderr, "death %d: %d, \"%s\", copied %llu dropped %llu lost %llu, closed %d rolled back %d\n", run->death,
		error->code, error->text, (unsigned long long)stats.copied_pages, (unsigned long long)stats.dropped_pages,
		(unsigned long long)stats.lost_pages, server->was_closed, server->was_rolled_back);
	CHECK(error->code == run->result);
	CHECK(cl_engine_ended(engine, 0, &ended) == (run->how != NULL));
	CHECK(!run->how || (strcmp(ended.how, run->how) == 0 && ended.pid == PID && ended.missing_pages));
	CHECK((stats.lost_pages != 0) == run->is_lost && (!run->is_lost || stats.lost_pages == ended.missing_pages));
	CHECK(stats.copied_pages + stats.dropped_pages + stats.lost_pages >= LAZY && stats.remaining_pages == 0);
	CHECK(run->answers || run->death == EXITS_WITH_A_CHILD || stats.copied_pages == 0);
	CHECK((error->text[0] != 0) == run->is_lost);
	CHECK(server->was_closed == run->is_closed && server->was_rolled_back == run->is_rolled_back);
}

static void try(const struct run *run)
{
	struct cl_config config = {
		.precopied_fd = -1, .log_fd = -1, .log_level = 4, .nr_workers = 2, .reconnect_us = run->holds ? 1000000 : 0
	};
	struct cl_vma vma = { (uintptr_t)memory, (uintptr_t)memory + PAGES * CL_PAGE_SIZE, 0 };
	char directory[] = "/tmp/criu-lazy-end.XXXXXX";
	struct server server = { .answers = run->answers };
	struct helper helper = { .server = &server, .run = run };
	pthread_t server_thread, helper_thread;
	struct cl_engine *engine;
	struct cl_error error = { 0 };
	int restore[2], remote[2], go[2], life[2];

	config.images_fd = make_images(directory, PID, (uintptr_t)memory, PAGES);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, restore) == 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, remote) == 0 && pipe(go) == 0);
	CHECK(pipe2(life, O_CLOEXEC) == 0);
	/* As criu-lazy lazy-pages does with the socket that it listens on: the engine would be too late. */
	CHECK(setsockopt(restore[0], SOL_SOCKET, SO_PASSCRED, &(int){ 1 }, sizeof(int)) == 0);
	helper.task = fork();
	CHECK(helper.task >= 0);
	if (helper.task == 0)
		be_task(run->death, restore[1], go[0], life[1]);
	close(restore[1]);
	close(life[1]);
	helper.go = go[1];
	helper.life = life[0];
	server.socket = remote[1];
	CHECK(pthread_create(&server_thread, NULL, serve, &server) == 0);
	CHECK(pthread_create(&helper_thread, NULL, end_task, &helper) == 0);
	engine = cl_engine_new(&config, &error);
	CHECK(engine && cl_engine_add_task(engine, PID, &vma, 1, &error) == 0);
	CHECK(cl_engine_set_remote(engine, remote[0], &error) == 0);
	CHECK(cl_engine_run(engine, restore[0], &error) == error.code);
	if (run->is_rolled_back || run->is_closed)
		pthread_join(server_thread, NULL);
	check_outcome(run, engine, &server, &error);
	cl_engine_free(engine);
	if (!run->is_rolled_back && !run->is_closed)
		pthread_join(server_thread, NULL);
	pthread_join(helper_thread, NULL);
	kill(helper.task, SIGKILL);
	if (!run->is_waited_for)
		CHECK(waitpid(helper.task, NULL, 0) == helper.task);
	close(life[0]);
	close(go[0]);
	close(go[1]);
	remove_images(directory, PID, config.images_fd);
}

/* ---- how a process ended ---- */

static void check_how(int signal_number, const char *expected)
{
	struct cl_end by_proc, by_pidfd;
	struct cl_task task, again;
	char text[64];
	pid_t child = fork();

	if (child == 0) {
		if (signal_number)
			pause();
		_exit(STATUS);
	}
	cl_task_open(&task, child);
	CHECK(task.pidfd >= 0 && task.began);
	if (signal_number) {
		CHECK(!cl_task_has_ended(&task) && cl_task_has_memory(&task) && !cl_task_how_by_proc(&task, &by_proc));
		CHECK(kill(child, signal_number) == 0);
	}
	while (!cl_task_has_ended(&task))
		usleep(1000);
	CHECK(!cl_task_has_memory(&task));
	CHECK(cl_task_how_by_proc(&task, &by_proc));
	CHECK(waitpid(child, NULL, 0) == child);
	CHECK(!cl_task_how_by_proc(&task, &by_pidfd));
	cl_end_describe(by_proc, text, sizeof(text));
	CHECK(strcmp(text, expected) == 0);
	if (cl_task_how_by_pidfd(&task, &by_pidfd)) /* Linux >= 6.15 */
		CHECK(by_pidfd.how == by_proc.how && by_pidfd.code == by_proc.code);
	cl_task_adopt(&again, -1, child, task.began);
	CHECK(again.pidfd < 0 && cl_task_how(&again).how == CL_END_UNKNOWN);
	cl_task_adopt(&again, cl_steal_fd(&task.pidfd), child, task.began);
	CHECK(cl_task_has_ended(&again) &&
	      cl_task_how(&again).code == (cl_task_how_by_pidfd(&again, &by_pidfd) ? by_proc.code : 0));
	cl_task_close(&again);
	cl_task_adopt(&again, -1, getpid(), 1); /* another process, with the pid of one that there was */
	CHECK(again.pidfd < 0);
}

/* A stopped source task, from the very moment that a signal is sent to it. */
static void check_stop(int signal_number, int expected)
{
	struct cl_task_memory source;
	int status, ready[2];
	pid_t child;
	char byte;

	CHECK(pipe(ready) == 0);
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* also if a check below fails */
		CHECK(write(ready[1], "r", 1) == 1);
		for (;;)
			pause();
	}
	CHECK(child > 0 && read(ready[0], &byte, 1) == 1);
	close(ready[0]);
	close(ready[1]);
	source = cl_task_memory_closed(child);
	CHECK(cl_task_memory_open(&source, child) == 0);
	CHECK(cl_task_memory_note_stop(&source) == -EBUSY);
	CHECK(kill(child, SIGSTOP) == 0 && waitpid(child, &status, WUNTRACED) == child);
	CHECK(cl_task_memory_note_stop(&source) == 0 && cl_task_memory_check_stop(&source) == 0);
	CHECK(kill(child, signal_number) == 0);
	CHECK(cl_task_memory_check_stop(&source) == expected);
	if (signal_number == SIGCONT)
		CHECK(kill(child, SIGSTOP) == 0 && waitpid(child, &status, WUNTRACED) == child);
	CHECK(cl_task_memory_check_stop(&source) == expected); /* also when it is stopped again, or a zombie */
	CHECK(signal_number == SIGKILL || kill(child, SIGKILL) == 0);
	CHECK(waitpid(child, NULL, 0) == child);
	CHECK(cl_task_memory_check_stop(&source) == -ESRCH);
	cl_task_memory_close(&source);
}

/* Of a process that isn't known it is taken that it lives, as its source task would be a second one. */
static void who_lives(void)
{
	static struct cl_engine engine;
	struct cl_restored complete = { .task = CL_NO_TASK, .settled = true };
	struct cl_restored killed = { .task = CL_NO_TASK, .settled = true, .gone_us = 1, .ended = true };

	engine.restored_tasks = &killed;
	CHECK(!cl_ended_any_lives(&engine));
	killed.next = &complete;
	CHECK(cl_ended_any_lives(&engine));
	complete.gone_us = 1;
	CHECK(!cl_ended_any_lives(&engine));
	cl_task_open(&complete.task, getpid());
	CHECK(cl_ended_any_lives(&engine));
	cl_task_close(&complete.task);
}

int main(void)
{
	static const struct run runs[] = {
		{ EXITS, .is_waited_for = true, .answers_later = true, .how = "exit 3", .is_closed = true },
		{ EXITS, .answers_later = true, .holds = true, .how = "exit 3", .is_closed = true },
		{ EXITS_WITH_A_CHILD, .answers_later = true, .how = "exit 3", .is_closed = true },
		{ IS_KILLED, .is_waited_for = true, .result = -ESRCH, .how = "killed by SIGKILL", .is_lost = true,
		  .is_rolled_back = true },
		{ IS_KILLED, .holds = true, .result = -ESRCH, .how = "killed by SIGKILL", .is_lost = true },
		{ FAULTS, .result = -ESRCH, .how = "killed by SIGSEGV", .is_lost = true, .is_rolled_back = true },
		{ CALLS_EXECVE, .answers_later = true, .is_closed = true },
		{ UNMAPS, .answers = true, .is_closed = true },
	};
	size_t i;

	who_lives();
	memory = find_room(PAGES);
	check_how(0, "exit 3");
	check_how(SIGKILL, "killed by SIGKILL");
	check_how(SIGRTMIN, "killed by signal 34");
	for (i = 0; i < STOPS; i++) {
		check_stop(SIGKILL, -ESRCH);
		check_stop(SIGCONT, -EBUSY);
	}
	for (i = 0; i < sizeof(runs) / sizeof(runs[0]); i++)
		try(&runs[i]);
	return 0;
}
