/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What other threads tell a dump's proxy while its own thread comes to the end: an end is an end, whoever is told what in
 * that moment; and tasks that nobody holds any more are not taken for held.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/deadline.h"
#include "check.h"
#include "source/dump_proxy.h"
#include "source/dump_proxy_state.h"
#include "tcp.h"

enum { ROUNDS = 10000, SPINS = 200, RACE_US = 3000000 /* on a busy machine there are fewer rounds */ };

static struct cl_dump_proxy *make_proxy(int *dump)
{
	struct cl_dump_proxy_config config = { .takeover_fd = -1, .log_fd = -1, .hold_close = 1, .max_request_pages = 1 };
	struct cl_dump_proxy *proxy;
	struct cl_error error;
	int ends[2];

	connect_tcp(ends);
	config.upstream_fd = ends[0];
	proxy = cl_dump_proxy_new(&config, &error);
	CHECK(proxy);
	*dump = ends[1];
	return proxy;
}

struct race {
	struct cl_dump_proxy *proxy;
	bool running;
	_Atomic unsigned int told;
	_Atomic bool over;
};

static void *tell_running(void *argument)
{
	struct race *race = argument;

	while (!race->over) {
		cl_dump_proxy_set_running(race->proxy, race->running);
		race->told++;
	}
	return NULL;
}

/* Until it was told once from the beginning on. */
static void await_telling(struct race *race)
{
	unsigned int told = race->told;

	while (race->told - told < 2)
		sched_yield();
}

/* The guardian acts on the phase: what is over must not be held, nor rolled back, because of a word that came meanwhile. */
static void an_end_is_not_taken_back(struct cl_dump_proxy *proxy, bool running)
{
	struct race race = { .proxy = proxy, .running = running };
	struct cl_dump_guardian_state *shared = cl_dump_proxy_shared(proxy);
	uint64_t until_us = cl_now_us() + RACE_US;
	pthread_t teller;

	CHECK(pthread_create(&teller, NULL, tell_running, &race) == 0);
	for (unsigned int i = 0; i < ROUNDS && cl_now_us() < until_us; i++) {
		atomic_store(&shared->phase, running ? CL_DUMP_GUARDIAN_ROLLBACK : CL_DUMP_GUARDIAN_HOLD);
		for (volatile unsigned int spin = 0; spin < i % SPINS; spin++)
			;
		cl_dump_proxy_set_phase(proxy, CL_DUMP_GUARDIAN_DONE);
		await_telling(&race);
		CHECK(atomic_load(&shared->phase) == CL_DUMP_GUARDIAN_DONE);
	}
	race.over = true;
	pthread_join(teller, NULL);
}

/* The dump dies, its tasks are found stopped, one is lost, and only then is the proxy told to go on without the dump. */
static void a_lost_source_is_not_held_again(void)
{
	struct cl_error error = { 0 };
	struct cl_dump_proxy_info info;
	int dump;
	struct cl_dump_proxy *proxy = make_proxy(&dump);

	cl_dump_proxy_set_running(proxy, 1);
	close(dump);
	CHECK(cl_dump_proxy_run(proxy, &error) == -EOWNERDEAD && error.text[0]);
	cl_dump_proxy_source_lost(proxy, NULL);
	error = (struct cl_error){ 0 };
	CHECK(cl_dump_proxy_run_alone(proxy, 1, &error) == -EPIPE && error.code == -EPIPE && error.text[0]);
	CHECK(!cl_dump_proxy_holds_source(proxy));
	cl_dump_proxy_info(proxy, &info);
	CHECK(!info.alone && info.state == CL_DUMP_PROXY_FAILED);
	cl_dump_proxy_free(proxy);
}

/* The kernel resets the connection of a dump that dies with something of it unread: no other word of it than of any end. */
static void a_reset_is_an_end(void)
{
	const struct linger reset = { .l_onoff = 1 };
	struct cl_error error = { 0 };
	int dump;
	struct cl_dump_proxy *proxy = make_proxy(&dump);

	CHECK(setsockopt(dump, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) == 0);
	close(dump);
	CHECK(cl_dump_proxy_run(proxy, &error) == -EPIPE && strstr(error.text, "ended by itself"));
	cl_dump_proxy_free(proxy);
}

int main(void)
{
	struct cl_dump_proxy *proxy;
	int dump;

	alarm(30);
	proxy = make_proxy(&dump);
	an_end_is_not_taken_back(proxy, true);
	an_end_is_not_taken_back(proxy, false);
	cl_dump_proxy_free(proxy); /* its phase is DONE: the guardian ends */
	close(dump);
	a_lost_source_is_not_held_again();
	a_reset_is_an_end();
	return 0;
}
