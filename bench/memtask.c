/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memtask: a task whose memory can be checked to the last byte, made to be migrated while it works.
 *
 *   memtask --mib N [--threads N] [--mode verify|random|sequential|strided|zipf|idle] [--write-percent N]
 *           [--ops LIST] [--stride PAGES] [--seed N] [--hold] [--compressible] [--wipe-on-fork]
 *           [--guards] [--advise-later] --status FILE
 *
 * Contents. Every word of a page is a function of (seed, page, version, word); a page never written, or given
 * back to the kernel, is zero. It looks random, or, with --compressible, like a program's objects. What each
 * page must hold stands in a table (also migrated) whose entries carry their own check sum. A page keeps its number
 * when it is moved, so that a move to a wrong place is seen.
 *
 * Modes. `verify`: each thread owns a share made of every kind of private memory (plain, huge pages, with holes,
 * thread stack, brk heap; with --ops mprotect also read only and without access), and checks and rewrites whole
 * pages of it; --ops says what else happens meanwhile: fork (children, and theirs, check all of the memory as of
 * the fork; with --wipe-on-fork also that what is to be wiped then is zero, an advice that criu 4.1 loses), mremap,
 * munmap, dontneed, mprotect; `all`, `none` or a comma-separated list. The other modes are access patterns over one
 * plain area; `idle` touches nothing. --write-percent: how many steps rewrite their page
 * (verify: 30, others: 0).
 *
 * Guards. With --guards there is memory with guard regions (MADV_GUARD_INSTALL, Linux 6.13), looked at with all pages: no
 * guard's may be readable, and the others hold what they held.
 *
 * Advice. With --advise-later memory that nobody touches before the end gets advice when the pattern is first let go on
 * (after the resume, with --hold): to be wiped on fork; not to be, any more; guards, that are taken off at once. It is
 * looked at with all pages, and in forked children.
 *
 * Stalls. Each step of a thread is timed (of the patterns, each of its parts that touches one page of data or tables);
 * one of STALL_MIN_NS or more in which the thread slept is a stall: the
 * patterns never sleep but in a page fault (verify with --ops also waits for locks), and being preempted does
 * not count. A restored thread sees its CPU clock jump back: then its counters start anew, so that they tell of
 * the time since the restore.
 *
 * Control: SIGUSR1 holds the pattern, or lets it go on (--hold: it is held from the start); SIGUSR2 asks for the
 * state: FILE is replaced by one JSON object whose "seq" is higher than before. It is written on request only,
 * because a file that is open at the moment of a dump must exist, with the same size, on the other host. SIGTERM
 * stops the pattern, checks every page, writes FILE with "state": "verified" and exits: 0 if no wrong byte was ever
 * seen, else 1. Exit status 2: wrong usage, or no memory.
 */
#include "memtask.h"
#include "memtask_fork.h"
#include "memtask_verify.h"

/* --- access patterns --------------------------------------------------------------------------------------- */

static void zipf_init(struct zipf *z, size_t n)
{
	z->zetan = 0;
	for (size_t i = 1; i <= n; i++)
		z->zetan += pow(1.0 / (double)i, ZIPF_THETA);
	z->alpha = 1.0 / (1.0 - ZIPF_THETA);
	z->half_pow_theta = 1.0 + pow(0.5, ZIPF_THETA);
	z->eta = (1.0 - pow(2.0 / (double)n, 1.0 - ZIPF_THETA)) / (1.0 - z->half_pow_theta / z->zetan);
}

/* A rank by Gray et al., "Quickly generating billion-record synthetic databases"; scattered over the pages. */
static size_t zipf_page(const struct zipf *z, uint64_t *rng, size_t n)
{
	double u = (double)(next_random(rng) >> 11) * 0x1p-53, uz = u * z->zetan;
	size_t rank = uz < 1.0 ? 0 : uz < z->half_pow_theta ? 1
							     : (size_t)((double)n * pow(z->eta * u - z->eta + 1.0, z->alpha));
	return mix(rank) % n;
}

/* The next page of the pattern; *whole: all of it is read, not a cache line of it. */
static size_t next_page(struct worker *w, bool *whole)
{
	const struct task *t = w->task;
	*whole = false;
	switch (t->mode) {
	case MODE_SEQUENTIAL:
		*whole = true;
		return w->first_page + w->sweep_page++ % w->nr_pages;
	case MODE_STRIDED: { /* every page is reached: each round starts one page further */
		size_t per_round = (w->nr_pages + t->stride - 1) / t->stride, step = w->sweep_page++;
		size_t page = step % per_round * t->stride + step / per_round % t->stride;
		return w->first_page + page % w->nr_pages;
	}
	case MODE_ZIPF:
		return zipf_page(&t->zipf, &w->rng, t->nr_pages);
	default:
		return next_random(&w->rng) % t->nr_pages;
	}
}

/* From `start` on; returns when its last part began: each may wait for one page. */
static int64_t access_step(struct worker *w, int64_t start)
{
	struct task *t = w->task;
	bool whole;
	size_t page = next_page(w, &whole);
	/* The tables' pages are missing after a restore, too. */
	(void)*(volatile uint64_t *)&t->state[page];
	start = end_part(w, start);
	(void)atomic_load_explicit(&t->touched_in[page], memory_order_relaxed);
	start = end_part(w, start);
	uint8_t *addr = t->workers[0].extents[0].addr + page * PAGE;
	/* Only its owner writes a page; with writers about, only its owner can tell what it should hold. */
	bool mine = page >= w->first_page && page < w->first_page + w->nr_pages;
	bool hot = (page - w->first_page) * 100 < w->nr_pages * t->hot_percent;
	if (mine && hot && next_random(&w->rng) % 100 < t->write_percent) {
		write_page(t, addr, page);
		w->c.written_pages++;
	} else if (mine || t->write_percent == 0) {
		size_t line = whole ? 0 : next_random(&w->rng) % (WORDS / 8) * 8;
		check_words(t, addr, page, line, whole ? WORDS : 8);
		w->c.checked_pages++;
	} else {
		(void)*(volatile uint64_t *)(void *)addr;
	}
	touched(w, page);
	return start;
}

/* --- threads -------------------------------------------------------------------------------------------------- */

/*
 * Run from the middle of a page: if a thread's stack pointer is a multiple of the page size at the dump, criu (4.1, 4.2)
 * takes all pages for the stack's (is_stack() in its mem.c compares the wrong bits), and no page is lazy. An address space
 * laid out at random makes it one time in 256, for each depth of calls anew. What is called from here takes less than
 * three quarters of a page of stack, but for what writes the state file.
 */
__attribute__((noinline)) static void *from_mid_page(void *(*run)(void *), void *arg)
{
	volatile uint8_t *room = alloca(((uintptr_t)__builtin_frame_address(0) + PAGE / 4) % PAGE + 16);
	*room = 0;
	return run(arg);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct task *t = w->task;
	/* Not aligned itself: what is called from here would run from a page's end. */
	uint8_t room[(STACK_PAGES + 1) * PAGE + 64];
	uint8_t *stack = room + (PAGE - (uintptr_t)room % PAGE) % PAGE;
	if (t->mode == MODE_VERIFY) {
		memset(stack, 0, STACK_PAGES * PAGE);
		build_share(w, stack);
	} else {
		for (size_t p = w->first_page; p < w->first_page + w->nr_pages; p++)
			write_page(t, t->workers[0].extents[0].addr + p * PAGE, p);
	}
	notice_restore(w);
	atomic_fetch_add(&t->filled, 1);
	w->c = (struct counters){.start_us = unix_us()};
	int64_t start = 0;
	while (!atomic_load_explicit(&t->stopping, memory_order_relaxed)) {
		if (!atomic_load_explicit(&t->running, memory_order_relaxed) || t->mode == MODE_IDLE) {
			nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
			start = 0;
			continue;
		}
		if (start == 0) {
			w->switches = voluntary_switches();
			start = now_ns(CLOCK_MONOTONIC);
		}
		if (t->mode == MODE_VERIFY)
			verify_step(w);
		else
			start = access_step(w, start);
		start = end_step(w, start);
	}
	/* The stack area must outlive the pattern: the final check reads it. */
	atomic_fetch_sub(&t->filled, 1);
	while (!atomic_load(&t->verified))
		nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
	return NULL;
}

static void *start_work(void *arg)
{
	return from_mid_page(work, arg);
}

/* --- state file -------------------------------------------------------------------------------------------------- */

/* By the upper bound of its bucket, but never above the longest one. */
static double quantile_us(const struct counters *c, double q)
{
	uint64_t below = 0;
	for (int i = 0; i < BUCKETS; i++) {
		below += c->stall_hist[i];
		if (c->stalls > 0 && (double)below >= q * (double)c->stalls)
			return fmin(exp2((double)i / OCTAVE_BUCKETS), (double)c->stall_max_ns / 1e3);
	}
	return 0;
}

/* Of all threads that have run in the newest epoch. Which one that is. */
static unsigned int sum_up(const struct task *t, struct counters *sum)
{
	unsigned int epoch = 0;
	for (unsigned int i = 0; i < t->nr_threads; i++)
		epoch = t->workers[i].epoch > epoch ? t->workers[i].epoch : epoch;
	for (unsigned int i = 0; i < t->nr_threads; i++) {
		const struct worker *w = &t->workers[i];
		const struct counters *c = &w->c;
		if (w->epoch != epoch)
			continue; /* it hasn't run since the restore */
		sum->steps += c->steps;
		sum->checked_pages += c->checked_pages;
		sum->written_pages += c->written_pages;
		sum->first_touches += c->first_touches;
		if (c->last_first_touch_us > sum->last_first_touch_us)
			sum->last_first_touch_us = c->last_first_touch_us;
		if (sum->start_us == 0 || c->start_us < sum->start_us)
			sum->start_us = c->start_us;
		sum->stalls += c->stalls;
		sum->stall_sum_ns += c->stall_sum_ns;
		if (c->stall_max_ns > sum->stall_max_ns)
			sum->stall_max_ns = c->stall_max_ns;
		for (int b = 0; b < BUCKETS; b++)
			sum->stall_hist[b] += c->stall_hist[b];
	}
	return epoch;
}

/* Other threads count on meanwhile: the figures are each right, and together nearly so. */
static void write_status(struct task *t, const char *state)
{
	struct counters sum = {0};
	uint64_t ops[NR_OPS] = {0};
	unsigned int epoch = sum_up(t, &sum);
	for (unsigned int i = 0; i < t->nr_threads; i++)
		for (int op = 0; op < NR_OPS; op++)
			ops[op] += t->workers[i].ops[op];
	ops[OP_FORK] = t->forks;
	FILE *f = fopen(t->status_tmp, "we");
	if (f == NULL)
		return;
	pthread_mutex_lock(&t->error_lock);
	for (char *c = t->first_error; *c != '\0'; c++)
		if (*c == '"' || *c == '\\')
			*c = '\'';
	fprintf(f, "{\"state\": \"%s\", \"seq\": %llu, \"pid\": %d, \"errors\": %llu, \"first_error\": \"%s\",\n", state,
		(unsigned long long)++t->seq, (int)getpid(), (unsigned long long)atomic_load(&t->errors),
		t->first_error);
	pthread_mutex_unlock(&t->error_lock);
	fprintf(f, "\"mode\": \"%s\", \"threads\": %u, \"pages\": %zu, \"epoch\": %u, \"unix_us\": %llu,\n",
		mode_names[t->mode], t->nr_threads, t->nr_pages, epoch, (unsigned long long)unix_us());
	fprintf(f, "\"start_us\": %llu, \"steps\": %llu, \"checked_pages\": %llu, \"written_pages\": %llu,\n",
		(unsigned long long)sum.start_us, (unsigned long long)sum.steps,
		(unsigned long long)sum.checked_pages, (unsigned long long)sum.written_pages);
	fprintf(f, "\"first_touches\": %llu, \"last_first_touch_us\": %llu,\n",
		(unsigned long long)sum.first_touches, (unsigned long long)sum.last_first_touch_us);
	fprintf(f, "\"stalls\": %llu, \"stall_sum_us\": %.1f, \"stall_max_us\": %.1f, ",
		(unsigned long long)sum.stalls, (double)sum.stall_sum_ns / 1e3, (double)sum.stall_max_ns / 1e3);
	fprintf(f, "\"stall_p50_us\": %.1f, \"stall_p99_us\": %.1f,\n\"stall_hist\": [",
		quantile_us(&sum, 0.5), quantile_us(&sum, 0.99));
	int used = BUCKETS;
	while (used > 0 && sum.stall_hist[used - 1] == 0)
		used--;
	for (int b = 0; b < used; b++)
		fprintf(f, "%s%llu", b == 0 ? "" : ", ", (unsigned long long)sum.stall_hist[b]);
	fprintf(f, "],\n\"ops\": {");
	for (int op = 0; op < NR_OPS; op++)
		fprintf(f, "%s\"%s\": %llu", op == 0 ? "" : ", ", op_names[op], (unsigned long long)ops[op]);
	fprintf(f, "},\n\"children_ok\": %llu, \"children_bad\": %llu, \"children_alive\": %u}\n",
		(unsigned long long)t->children_ok, (unsigned long long)t->children_bad, t->children_alive);
	bool written = fflush(f) == 0 && ferror(f) == 0;
	fclose(f);
	if (written)
		rename(t->status_tmp, t->status_path);
}

/* --- start, control, end ------------------------------------------------------------------------------------------- */

static int usage(const char *problem)
{
	fprintf(stderr,
		"memtask: %s\n"
		"usage: memtask --mib N --status FILE [--threads 1-%d]\n"
		"               [--mode verify|random|sequential|strided|zipf|idle] [--write-percent 0-100]\n"
		"               [--hot-percent 0-100]\n"
		"               [--ops all|none|fork,mremap,munmap,dontneed,mprotect] [--stride PAGES] [--seed N] [--hold]\n",
		problem, MAX_THREADS);
	return 2;
}

static bool parse_number(const char *text, uint64_t low, uint64_t high, uint64_t *out)
{
	char *end;
	errno = 0;
	*out = strtoull(text, &end, 10);
	return errno == 0 && end != text && *end == '\0' && *text != '-' && *out >= low && *out <= high;
}

static bool parse_name(const char *text, size_t length, const char *const *names, int count, int *out)
{
	for (*out = 0; *out < count; ++*out)
		if (strlen(names[*out]) == length && strncmp(names[*out], text, length) == 0)
			return true;
	return false;
}

static bool parse_ops(const char *text, bool *enabled)
{
	bool all = strcmp(text, "all") == 0;
	for (int op = 0; op < NR_OPS; op++)
		enabled[op] = all;
	if (all || strcmp(text, "none") == 0)
		return true;
	for (const char *end;; text = end + 1) {
		int op;
		end = strchrnul(text, ',');
		if (!parse_name(text, (size_t)(end - text), op_names, NR_OPS, &op))
			return false;
		enabled[op] = true;
		if (*end == '\0')
			return true;
	}
}

/* An option whose value is a number. What is wrong with it, or NULL. */
static const char *take_number(struct task *t, int option, const char *value)
{
	uint64_t n;
	switch (option) {
	case 'm':
		if (!parse_number(value, 4, 1 << 20, &n))
			return "--mib must be a number from 4 on";
		t->nr_pages = (size_t)(n << 20) / PAGE;
		break;
	case 't':
		if (!parse_number(value, 1, MAX_THREADS, &n))
			return "--threads is out of range";
		t->nr_threads = (unsigned int)n;
		break;
	case 'w':
		if (!parse_number(value, 0, 100, &n))
			return "--write-percent is out of range";
		t->write_percent = (unsigned int)n;
		break;
	case 'H':
		if (!parse_number(value, 0, 100, &n))
			return "--hot-percent is out of range";
		t->hot_percent = (unsigned int)n;
		break;
	case 'r':
		if (!parse_number(value, 1, 1 << 20, &n))
			return "--stride is out of range";
		t->stride = (size_t)n;
		break;
	default:
		if (!parse_number(value, 0, UINT64_MAX, &t->seed))
			return "--seed must be a number";
		break;
	}
	return NULL;
}

static const char *take_option(struct task *t, int option, const char *value)
{
	int name;
	switch (option) {
	case 'M':
		if (!parse_name(value, strlen(value), mode_names, NR_MODES, &name))
			return "--mode: no such mode";
		t->mode = (enum mode)name;
		return NULL;
	case 'o':
		return parse_ops(value, t->op_enabled) ? NULL : "--ops: no such operation";
	case 'f':
		t->status_path = value;
		return NULL;
	case 'h':
		t->hold = true;
		return NULL;
	case 'W':
		t->wipe_on_fork = true;
		return NULL;
	case 'G':
		t->guards = true;
		return NULL;
	case 'A':
		t->advise_later = true;
		return NULL;
	case 'c':
		t->like_a_heap = true;
		return NULL;
	case '?':
		return "wrong option";
	default:
		return take_number(t, option, value);
	}
}

static const char *parse(struct task *t, int argc, char **argv)
{
	static const struct option options[] = {
		{"mib", required_argument, NULL, 'm'},	   {"threads", required_argument, NULL, 't'},
		{"mode", required_argument, NULL, 'M'},	   {"write-percent", required_argument, NULL, 'w'},
		{"ops", required_argument, NULL, 'o'},	   {"stride", required_argument, NULL, 'r'},
		{"seed", required_argument, NULL, 's'},	   {"status", required_argument, NULL, 'f'},
		{"hold", no_argument, NULL, 'h'},	   {"compressible", no_argument, NULL, 'c'},
		{"hot-percent", required_argument, NULL, 'H'},  {"wipe-on-fork", no_argument, NULL, 'W'},
		{"guards", no_argument, NULL, 'G'},		   {"advise-later", no_argument, NULL, 'A'},
		{NULL, 0, NULL, 0}};
	const char *problem;
	int c;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		problem = take_option(t, c, optarg);
		if (problem != NULL)
			return problem;
	}
	if (optind != argc)
		return "no argument but options is taken";
	if (t->nr_pages == 0 || t->status_path == NULL)
		return "--mib and --status are needed";
	if (t->nr_pages / t->nr_threads < 2 * (STACK_PAGES + HEAP_PAGES) && t->mode == MODE_VERIFY)
		return "mode verify needs 5 MiB a thread";
	if (t->write_percent == UNSET)
		t->write_percent = t->mode == MODE_VERIFY ? 30 : 0;
	if (asprintf(&t->status_tmp, "%s.new", t->status_path) < 0)
		return "no memory";
	return NULL;
}

static bool start_workers(struct task *t)
{
	size_t share = t->nr_pages / t->nr_threads;
	t->workers = calloc(t->nr_threads, sizeof(*t->workers));
	t->state = calloc(t->nr_pages, sizeof(*t->state));
	t->touched_in = calloc(t->nr_pages, sizeof(*t->touched_in));
	if (t->workers == NULL || t->state == NULL || t->touched_in == NULL)
		return false;
	for (size_t p = 0; p < t->nr_pages; p++)
		t->state[p] = make_state(t, p, STATE_ZERO);
	if (t->mode == MODE_ZIPF)
		zipf_init(&t->zipf, t->nr_pages);
	if (t->wipe_on_fork)
		t->wiped = new_wiped_area();
	if (t->guards)
		t->guarded = new_guarded_area();
	if (t->advise_later)
		new_later_areas(t);
	if (t->mode != MODE_VERIFY)
		add_extent(&t->workers[0], new_area(t->nr_pages, false), t->nr_pages, 0, PROT_READ | PROT_WRITE, true);
	for (unsigned int i = 0; i < t->nr_threads; i++) {
		struct worker *w = &t->workers[i];
		w->task = t;
		w->index = i;
		w->epoch = 1;
		w->rng = mix(t->seed + i);
		w->first_page = i * share;
		w->nr_pages = i + 1 == t->nr_threads ? t->nr_pages - i * share : share;
		if (pthread_mutex_init(&w->lock, NULL) != 0)
			return false;
	}
	for (unsigned int i = 0; i < t->nr_threads; i++)
		if (pthread_create(&t->workers[i].thread, NULL, start_work, &t->workers[i]) != 0)
			return false;
	while (atomic_load(&t->filled) < t->nr_threads)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	atomic_store(&t->running, !t->hold);
	return true;
}

static void *control(void *arg)
{
	struct task *t = arg;
	const struct timespec tick = {.tv_nsec = FORK_EVERY_MS * 1000000L};
	for (;;) {
		bool forks = t->mode == MODE_VERIFY && t->op_enabled[OP_FORK] && atomic_load(&t->running);
		int got = sigtimedwait(&t->signals, NULL, forks ? &tick : NULL);
		reap(t, WNOHANG);
		if (got == SIGTERM)
			return NULL;
		if (got == SIGUSR1 && t->advise_later && !t->advised)
			advise(t);
		if (got == SIGUSR1)
			atomic_store(&t->running, !atomic_load(&t->running));
		if (got == SIGUSR2)
			write_status(t, atomic_load(&t->running) ? "running" : "held");
		if (got < 0 && errno == EAGAIN && forks && t->children_alive < MAX_CHILDREN)
			fork_child(t);
	}
}

static void *finish(void *arg)
{
	struct task *t = arg;
	atomic_store(&t->stopping, true);
	while (atomic_load(&t->filled) > 0)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	reap(t, 0);
	uint64_t rng = t->seed;
	check_all(t, &rng, NULL);
	check_wiped_area(t, WIPED_BYTE);
	check_guarded_area(t);
	check_later_areas(t, false);
	write_status(t, "verified");
	atomic_store(&t->verified, true);
	for (unsigned int i = 0; i < t->nr_threads; i++)
		pthread_join(t->workers[i].thread, NULL);
	return NULL;
}

/* In the background: a session of its own, no descriptor but /dev/null, so that nothing ties it to this host. */
static int run(struct task *t, int ready_fd)
{
	sigemptyset(&t->signals);
	sigaddset(&t->signals, SIGUSR1);
	sigaddset(&t->signals, SIGUSR2);
	sigaddset(&t->signals, SIGTERM);
	int null = open("/dev/null", O_RDWR);
	if (null < 0 || setsid() < 0 || chdir("/") != 0 || pthread_sigmask(SIG_BLOCK, &t->signals, NULL) != 0 ||
	    !start_workers(t)) {
		perror("memtask");
		return 2;
	}
	write_status(t, "ready");
	pid_t pid = getpid();
	if (write(ready_fd, &pid, sizeof(pid)) != sizeof(pid))
		return 2;
	dup2(null, 0);
	dup2(null, 1);
	dup2(null, 2);
	close_range(3, ~0U, 0);
	from_mid_page(control, t);
	from_mid_page(finish, t);
	return atomic_load(&t->errors) == 0 && t->children_bad == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
	static struct task task = {.nr_threads = 4, .write_percent = UNSET, .hot_percent = 100, .stride = 16, .seed = 1,
				   .error_lock = PTHREAD_MUTEX_INITIALIZER};
	const char *problem = parse(&task, argc, argv);
	if (problem != NULL)
		return usage(problem);
	int ready[2];
	if (pipe(ready) != 0) {
		perror("memtask: pipe");
		return 2;
	}
	pid_t pid = fork();
	if (pid == 0) {
		close(ready[0]);
		return run(&task, ready[1]);
	}
	close(ready[1]);
	pid_t told;
	if (pid < 0 || read(ready[0], &told, sizeof(told)) != sizeof(told)) {
		fprintf(stderr, "memtask: could not start\n");
		return 2;
	}
	printf("%d\n", (int)told);
	return 0;
}
