/* SPDX-License-Identifier: Apache-2.0 */
/*
 * simulate: replay the page accesses of a task's threads against a link and a page server, with the engine's own
 * schedule, read-ahead and flow control, and tell how long the threads were stalled. There is no clock: the same
 * arguments give the same figures on every machine.
 *
 *   simulate [--trace NAME|FILE] [--threads N] [--pages N] [--think-us N] [--rate-mbit N] [--rtt-us N] [--check]
 *   simulate --oracle --trace NAME [--threads N] [--pages N] [--think-ns N] [--rate-mbit N] [--rtt-us N]
 *
 * NAME: sequential reverse strided zipf zipf-near clustered runs random mixed; default: all of them.
 * FILE: lines "time_us thread page"; a thread's times are those without any stall.
 * --check: exit status 1 if our policy stalls the task longer than the bounds in `bounds`.
 * --oracle: only the lower bound, as {"stall_s": all threads' waits, "drain_s": until the last page}; NAME may also be
 *   task-random, task-sequential, task-strided or task-zipf: what memtask does in that mode, on and on until every page
 *   is there (--threads share the memory as memtask's do).
 *
 * The model. A thread accesses a page, thinks, accesses the next; at a missing page it waits until it has arrived.
 * The page server takes requests first in, first out, REQUEST_NS + PAGE_NS a page each (as measured: 20,000 single
 * random pages a second, 2.6 GB/s in large requests); the link carries one page after the other.
 *
 * The policies
 *   oracle  the lower bound: all pages come at the link's speed, in the order in which threads that never stall would
 *           need them, from a server that takes no time.
 *   ours    schedule + readahead + flow.
 *   plain   the same without read-ahead: background goes on past the last demand page.
 *   stock   criu lazy-pages: background only while nothing is in flight, from the lowest address on, 64 KiB at first,
 *           doubling up to 4 MiB, 64 KiB again after a fault. (Its 40 ms waits for delayed ACKs are left out.)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "destination/address_space.h"
#include "destination/flow.h"
#include "destination/schedule.h"
#include "traces.h"
#include "wire/page_protocol.h"

enum {
	EXTENT_PAGES = 1024,
	REQUEST_NS = 48000,
	PAGE_NS = 1500,
	STOCK_FIRST_PAGES = 16,
	STOCK_MAX_PAGES = 1024,
};

enum policy { ORACLE, OURS, PLAIN, STOCK, POLICIES };

static const char *const policies[] = { "oracle", "ours", "plain", "stock" };

struct arrival {
	uint64_t at_ns, page;
};

struct simulation {
	const struct setting *setting;
	enum policy policy;
	struct thread *threads;
	struct cl_image *image;
	struct cl_schedule schedule;
	struct cl_flow flow;
	bool *present;
	struct arrival *wire; /* every page travels once */
	uint64_t wire_in, wire_out;
	uint64_t now_ns, server_free_ns, link_free_ns;
	uint64_t cursor;      /* plain, stock */
	uint64_t stock_pages;
	/* outcome */
	uint64_t stall_ns, drain_ns, task_ns, faults, merged, requests;
	uint64_t *waits_ns;
	uint64_t nr_waits;
};

/* ---- the link ---- */

static void ask(struct simulation *sim, uint64_t page, uint64_t nr)
{
	uint64_t ready_ns = sim->now_ns + sim->setting->rtt_ns / 2;

	if (ready_ns < sim->server_free_ns)
		ready_ns = sim->server_free_ns;
	ready_ns += REQUEST_NS;
	for (; nr; nr--, page++) {
		ready_ns += PAGE_NS;
		sim->link_free_ns = (sim->link_free_ns > ready_ns ? sim->link_free_ns : ready_ns) + page_ns(sim->setting);
		CHECK(sim->wire_in < sim->setting->nr_pages);
		sim->wire[sim->wire_in++] = (struct arrival){ sim->link_free_ns + sim->setting->rtt_ns / 2, page };
	}
	sim->server_free_ns = ready_ns;
	sim->requests++;
}

static uint64_t now_us(const struct simulation *sim)
{
	return sim->now_ns / 1000;
}

static void ask_pick(struct simulation *sim, const struct cl_pick *pick)
{
	ask(sim, pick->index, pick->nr_pages);
	cl_flow_asked(&sim->flow, pick->nr_pages * CL_PAGE_SIZE, now_us(sim));
}

/* ---- the policies ---- */

static bool pick_background(struct simulation *sim, uint64_t max_pages, struct cl_pick *pick)
{
	if (sim->policy == OURS)
		return cl_schedule_background(&sim->schedule, CL_REMOTE, max_pages, pick);
	pick->nr_pages = cl_image_take(sim->image, CL_REMOTE, sim->cursor, true, max_pages, &pick->index);
	if (!pick->nr_pages)
		return false;
	sim->cursor = (pick->index + pick->nr_pages) % sim->setting->nr_pages;
	return true;
}

/* As engine.c does. */
static void ask_pipelined(struct simulation *sim)
{
	struct cl_pick pick;
	uint64_t bytes;

	while (cl_schedule_demand(&sim->schedule, CL_REMOTE, &pick)) {
		ask_pick(sim, &pick);
		sim->cursor = (pick.index + 1) % sim->setting->nr_pages;
	}
	while ((bytes = cl_flow_allowance(&sim->flow, now_us(sim)))) {
		sim->schedule.rate = sim->flow.starting ? 0 : sim->flow.rate;
		if (!pick_background(sim, bytes / CL_PAGE_SIZE, &pick)) {
			cl_flow_starved(&sim->flow);
			return;
		}
		ask_pick(sim, &pick);
	}
}

static void ask_as_stock(struct simulation *sim)
{
	struct cl_pick pick;

	while (cl_schedule_demand(&sim->schedule, CL_REMOTE, &pick)) {
		ask_pick(sim, &pick);
		sim->stock_pages = STOCK_FIRST_PAGES;
	}
	if (sim->wire_in != sim->wire_out)
		return;
	pick.nr_pages = cl_image_take(sim->image, CL_REMOTE, 0, true, sim->stock_pages, &pick.index);
	if (!pick.nr_pages)
		return;
	ask_pick(sim, &pick);
	if (sim->stock_pages < STOCK_MAX_PAGES)
		sim->stock_pages *= 2;
}

struct need {
	uint64_t at_ns, page;
};

static int compare_needs(const void *a, const void *b)
{
	const struct need *x = a, *y = b;

	if (x->at_ns != y->at_ns)
		return x->at_ns < y->at_ns ? -1 : 1;
	return x->page < y->page ? -1 : x->page > y->page;
}

/* Everything at once, in the order of need, as if the server took no time; what nobody needs comes last. */
static void ask_as_oracle(struct simulation *sim)
{
	uint64_t nr_pages = sim->setting->nr_pages, page, i;
	struct need *needs = make(nr_pages, sizeof(*needs));
	unsigned int t;

	for (page = 0; page < nr_pages; page++)
		needs[page] = (struct need){ UINT64_MAX, page };
	for (t = 0; t < sim->setting->nr_threads; t++) {
		const struct thread *thread = &sim->threads[t];
		uint64_t at_ns = 0;

		for (i = 0; i < thread->nr; i++) {
			at_ns += thread->accesses[i].think_ns;
			page = thread->accesses[i].page;
			if (at_ns < needs[page].at_ns)
				needs[page].at_ns = at_ns;
		}
	}
	qsort(needs, nr_pages, sizeof(*needs), compare_needs);
	for (i = 0; i < nr_pages; i++) {
		sim->server_free_ns = 0;
		ask(sim, needs[i].page, 1);
	}
	free(needs);
}

static void ask_more(struct simulation *sim)
{
	if (sim->policy == STOCK)
		ask_as_stock(sim);
	else if (sim->policy != ORACLE)
		ask_pipelined(sim);
}

/* ---- the run ---- */

static void end_wait(struct simulation *sim, struct thread *thread)
{
	uint64_t wait_ns = sim->now_ns - thread->blocked_ns;

	thread->blocked = false;
	thread->next_ns = sim->now_ns;
	sim->stall_ns += wait_ns;
	sim->waits_ns[sim->nr_waits++] = wait_ns;
}

static void arrive(struct simulation *sim)
{
	uint64_t page = sim->wire[sim->wire_out++].page;
	unsigned int t;

	CHECK(!sim->present[page]); /* nothing is fetched twice */
	sim->present[page] = true;
	sim->drain_ns = sim->now_ns;
	for (t = 0; t < sim->setting->nr_threads; t++) {
		struct thread *thread = &sim->threads[t];

		if (thread->blocked && thread->accesses[thread->at].page == page)
			end_wait(sim, thread);
	}
	cl_flow_delivered(&sim->flow, CL_PAGE_SIZE, now_us(sim));
	ask_more(sim);
}

static void step(struct simulation *sim, struct thread *thread)
{
	uint64_t page = thread->accesses[thread->at].page;
	int ret;

	if (sim->present[page]) {
		sim->task_ns = sim->now_ns;
		if (++thread->at < thread->nr)
			thread->next_ns = sim->now_ns + thread->accesses[thread->at].think_ns;
		return;
	}
	thread->blocked = true;
	thread->blocked_ns = sim->now_ns;
	if (sim->policy == ORACLE)
		return;
	ret = cl_schedule_fault(&sim->schedule, sim->image, page);
	CHECK(ret >= 0);
	sim->faults += ret > 0;
	sim->merged += ret == 0;
	cl_flow_fault(&sim->flow, now_us(sim));
	ask_more(sim);
}

static struct thread *next_thread(struct simulation *sim)
{
	struct thread *thread, *next = NULL;

	for (thread = sim->threads; thread < sim->threads + sim->setting->nr_threads; thread++)
		if (!thread->blocked && thread->at < thread->nr && (!next || thread->next_ns < next->next_ns))
			next = thread;
	return next;
}

static void run(struct simulation *sim)
{
	struct thread *thread;

	if (sim->policy == ORACLE)
		ask_as_oracle(sim);
	ask_more(sim);
	for (;;) {
		bool coming = sim->wire_in != sim->wire_out;

		thread = next_thread(sim);
		if (!thread && !coming)
			break;
		if (coming && (!thread || sim->wire[sim->wire_out].at_ns <= thread->next_ns)) {
			sim->now_ns = sim->wire[sim->wire_out].at_ns;
			arrive(sim);
		} else {
			sim->now_ns = thread->next_ns;
			step(sim, thread);
		}
	}
	CHECK(sim->wire_out == sim->setting->nr_pages); /* nothing is left out */
}

static int compare_times(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static struct cl_image *make_image(uint64_t nr_pages)
{
	static struct cl_chunk_pool todo_chunks = CL_CHUNKS_IN_MEMORY;
	struct cl_vma vma = { 0x100000, 0x100000 + nr_pages * CL_PAGE_SIZE, 0 };
	struct cl_image *image = cl_image_new(1, &vma, 1);
	uint64_t page, nr;

	CHECK(image);
	for (page = 0; page < nr_pages; page += nr) {
		nr = nr_pages - page < EXTENT_PAGES ? nr_pages - page : EXTENT_PAGES;
		CHECK(cl_image_append(image, vma.start + page * CL_PAGE_SIZE, nr, NULL) == 0);
	}
	CHECK(cl_image_seal(image, &todo_chunks) == 0);
	return image;
}

/* Run the threads under one policy and print a line, or of `json` an object. Returns the total stall. */
static uint64_t simulate(const struct setting *setting, struct thread *threads, enum policy policy, uint64_t oracle_ns,
			 bool json)
{
	struct simulation sim = { .setting = setting, .policy = policy, .threads = threads, .now_ns = 1000,
				  .stock_pages = STOCK_FIRST_PAGES };
	uint64_t max_waits = 0;
	unsigned int t;

	for (t = 0; t < setting->nr_threads; t++) {
		struct thread *thread = &threads[t];

		max_waits += thread->nr;
		thread->at = 0;
		thread->blocked = false;
		thread->next_ns = sim.now_ns + (thread->nr ? thread->accesses[0].think_ns : 0);
	}
	sim.image = make_image(setting->nr_pages);
	sim.schedule.images = sim.image;
	sim.present = make(setting->nr_pages, sizeof(*sim.present));
	sim.wire = make(setting->nr_pages, sizeof(*sim.wire));
	sim.waits_ns = make(max_waits, sizeof(*sim.waits_ns));
	cl_flow_init(&sim.flow, 16 << 20, now_us(&sim));
	cl_flow_round_trip(&sim.flow, setting->rtt_ns / 1000);
	cl_flow_fault(&sim.flow, now_us(&sim));
	run(&sim);
	qsort(sim.waits_ns, sim.nr_waits, sizeof(*sim.waits_ns), compare_times);
	if (json)
		printf("{\"stall_s\": %.6f, \"drain_s\": %.6f}\n", (double)sim.stall_ns / 1e9, (double)sim.drain_ns / 1e9);
	else
		printf("%-10s %3u  %-6s %9.1f %7.2f %9.1f %9.1f %8llu %8llu %8llu %7.2f %7.2f\n", setting->trace,
	       setting->nr_threads, policies[policy], (double)sim.stall_ns / 1e6,
	       oracle_ns ? (double)sim.stall_ns / (double)oracle_ns : 1.0, (double)sim.task_ns / 1e6,
	       (double)sim.drain_ns / 1e6, (unsigned long long)sim.faults, (unsigned long long)sim.merged,
	       (unsigned long long)sim.requests,
	       sim.nr_waits ? (double)sim.waits_ns[sim.nr_waits / 2] / 1e6 : 0.0,
	       sim.nr_waits ? (double)sim.waits_ns[sim.nr_waits * 99 / 100] / 1e6 : 0.0);
	cl_schedule_free(&sim.schedule);
	cl_image_free_spaces(sim.image);
	cl_image_free(sim.image);
	free(sim.present);
	free(sim.wire);
	free(sim.waits_ns);
	return sim.stall_ns;
}

/* Our stall at most, with the default setting: so many per cent of the oracle's (0: not compared), and of plain's. */
static const struct {
	const char *trace;
	uint64_t of_oracle, of_plain;
} bounds[] = {
	{ "sequential", 115, 102 }, { "reverse", 115, 102 }, { "strided", 115, 95 }, { "zipf", 0, 105 },
	{ "zipf-near", 0, 105 },    { "clustered", 0, 105 }, { "runs", 0, 115 },     { "random", 0, 105 },
	{ "mixed", 0, 80 },
};

static bool within_bounds(const char *trace, const uint64_t stalls_ns[POLICIES])
{
	size_t i;

	for (i = 0; i < sizeof(bounds) / sizeof(*bounds); i++) {
		if (strcmp(bounds[i].trace, trace))
			continue;
		if (stalls_ns[OURS] * 100 <= stalls_ns[PLAIN] * bounds[i].of_plain &&
		    (!bounds[i].of_oracle || stalls_ns[OURS] * 100 <= stalls_ns[ORACLE] * bounds[i].of_oracle))
			return true;
		fprintf(stderr, "%s: stalled for %llu us; plain %llu (at most %llu%%), oracle %llu (at most %llu%%)\n",
			trace, (unsigned long long)stalls_ns[OURS] / 1000, (unsigned long long)stalls_ns[PLAIN] / 1000,
			(unsigned long long)bounds[i].of_plain, (unsigned long long)stalls_ns[ORACLE] / 1000,
			(unsigned long long)bounds[i].of_oracle);
		return false;
	}
	return true;
}

static bool compare_policies(struct setting setting)
{
	struct thread threads[MAX_THREADS];
	uint64_t stalls_ns[POLICIES];
	int policy;

	prepare_threads(&setting, threads);
	for (policy = 0; policy < POLICIES; policy++)
		stalls_ns[policy] = simulate(&setting, threads, (enum policy)policy, policy ? stalls_ns[ORACLE] : 0, false);
	free_threads(threads);
	return within_bounds(setting.trace, stalls_ns);
}

static void tell_oracle(struct setting setting)
{
	struct thread threads[MAX_THREADS];

	prepare_threads(&setting, threads);
	simulate(&setting, threads, ORACLE, 0, true);
	free_threads(threads);
}

int main(int argc, char **argv)
{
	struct setting setting = { .nr_threads = 2, .nr_pages = 32768, .think_ns = 20000, .rate_mbit = 1000,
				   .rtt_ns = 200000 };
	bool check = false, oracle = false, good = true;
	size_t i;
	int a;

	for (a = 1; a < argc; a++) {
		const char *value = a + 1 < argc ? argv[a + 1] : "";
		uint64_t number = strtoull(value, NULL, 10);

		if (!strcmp(argv[a], "--check")) {
			check = true;
			continue;
		}
		if (!strcmp(argv[a], "--oracle")) {
			oracle = true;
			continue;
		}
		if (!strcmp(argv[a], "--trace"))
			setting.trace = value;
		else if (!strcmp(argv[a], "--threads"))
			setting.nr_threads = number && number <= MAX_THREADS ? (unsigned int)number : 1;
		else if (!strcmp(argv[a], "--pages"))
			setting.nr_pages = number;
		else if (!strcmp(argv[a], "--think-us"))
			setting.think_ns = number * 1000;
		else if (!strcmp(argv[a], "--think-ns"))
			setting.think_ns = number;
		else if (!strcmp(argv[a], "--rate-mbit"))
			setting.rate_mbit = number;
		else if (!strcmp(argv[a], "--rtt-us"))
			setting.rtt_ns = number * 1000;
		else
			value = NULL;
		if (!value || !*value || !setting.rate_mbit || !page_ns(&setting) || (oracle && !setting.think_ns) ||
		    setting.nr_pages < setting.nr_threads) {
			fprintf(stderr, "usage: simulate [--trace NAME|FILE] [--threads N] [--pages N] [--think-us N] "
					"[--rate-mbit N] [--rtt-us N] [--check | --oracle] [--think-ns N]\n");
			return 2;
		}
		a++;
	}
	if (oracle && setting.trace) {
		tell_oracle(setting);
		return 0;
	}
	printf("trace  threads  policy  stall ms /oracle  task ms  drain ms   faults   merged requests  p50 ms  p99 ms\n");
	if (setting.trace)
		good = compare_policies(setting);
	for (i = 0; !setting.trace && i < NR_TRACES; i++) {
		struct setting one = setting;

		one.trace = traces[i];
		good &= compare_policies(one);
	}
	return check && !good;
}
