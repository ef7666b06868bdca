/* SPDX-License-Identifier: Apache-2.0 */
/* memtask's children, and the memory of which it is advised what becomes of it in them: wiped, kept, guarded. */
#ifndef MEMTASK_FORK_H
#define MEMTASK_FORK_H

#include "memtask_verify.h"

static void reset_errors(struct task *t)
{
	atomic_store(&t->errors, 0);
	pthread_mutex_init(&t->error_lock, NULL); /* another thread may have held it at the fork */
}

/* A child's end: 0 if nothing was wrong, else 1 and the reason in STATUS.child. */
__attribute__((noreturn)) static void end_child(struct task *t)
{
	if (atomic_load(&t->errors) == 0)
		_exit(0);
	char path[4096];
	snprintf(path, sizeof(path), "%s.child", t->status_path);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd >= 0) {
		ssize_t ignored = write(fd, t->first_error, strlen(t->first_error));
		(void)ignored;
		close(fd);
	}
	_exit(1);
}

static void new_later_areas(struct task *t)
{
	for (int i = 0; i < NR_LATER; i++) {
		t->later[i] = new_area(ADVISED_PAGES, false);
		memset(t->later[i], ADVISED_BYTE, ADVISED_PAGES * PAGE);
	}
	if (madvise(t->later[LATER_KEPT], ADVISED_PAGES * PAGE, MADV_WIPEONFORK) != 0)
		abort();
}

/* Now it is later. */
static void advise(struct task *t)
{
	const size_t bytes = ADVISED_PAGES * PAGE;
	if (madvise(t->later[LATER_WIPED], bytes, MADV_WIPEONFORK) != 0 ||
	    madvise(t->later[LATER_KEPT], bytes, MADV_KEEPONFORK) != 0)
		abort();
	if (madvise(t->later[LATER_GUARDED], bytes, MADV_GUARD_INSTALL) != 0 ||
	    madvise(t->later[LATER_GUARDED], bytes, MADV_GUARD_REMOVE) != 0)
		memset(t->later[LATER_GUARDED], 0, bytes); /* this kernel has no guards */
	t->advised = true;
}

static void check_later_areas(struct task *t, bool in_child)
{
	static const char *const names[NR_LATER] = {"wiped on fork", "not wiped on fork any more", "guarded once"};
	for (int i = 0; i < NR_LATER && t->advised; i++) {
		uint8_t byte = i == LATER_GUARDED || (i == LATER_WIPED && in_child) ? 0 : ADVISED_BYTE;
		for (size_t at = 0; at < ADVISED_PAGES * PAGE; at++)
			if (t->later[i][at] != byte) {
				wrong(t, "pid %d: %#x instead of %#x in page %zu of what is %s", (int)getpid(),
				      t->later[i][at], byte, at / PAGE, names[i]);
				break;
			}
	}
}

static void check_in_grandchild(struct task *t)
{
	pid_t pid = fork();
	if (pid == 0) {
		uint64_t rng = t->seed ^ (uint64_t)getpid();
		reset_errors(t);
		check_later_areas(t, true);
		check_all(t, &rng, NULL);
		end_child(t);
	}
	int status = 1;
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
		wrong(t, "a forked child's child saw wrong memory, or died (status %#x)", (unsigned int)status);
}

/* Pages that the kernel wipes in a child. Nobody touches them before the end: at each fork they may still be missing. */
static uint8_t *new_wiped_area(void)
{
	uint8_t *area = new_area(WIPED_PAGES, false);
	memset(area, WIPED_BYTE, WIPED_PAGES * PAGE);
	if (madvise(area, WIPED_PAGES * PAGE, MADV_WIPEONFORK) != 0)
		abort();
	return area;
}

static void check_wiped_area(struct task *t, uint8_t byte)
{
	for (size_t i = 0; t->wiped != NULL && i < WIPED_PAGES * PAGE; i++)
		if (t->wiped[i] != byte) {
			wrong(t, "pid %d: %#x instead of %#x in a page that is wiped on fork", (int)getpid(),
			      t->wiped[i], byte);
			return;
		}
}

static bool is_guard(size_t page)
{
	return (page >= 16 && page < 32) || page == 40;
}

static uint8_t *new_guarded_area(void)
{
	uint8_t *area = new_area(GUARDED_PAGES, false);
	memset(area, GUARDED_BYTE, GUARDED_PAGES * PAGE);
	for (size_t page = 0; page < GUARDED_PAGES; page++)
		if (is_guard(page) && madvise(area + page * PAGE, PAGE, MADV_GUARD_INSTALL) != 0) {
			if (errno != EINVAL)
				abort();
			munmap(area, GUARDED_PAGES * PAGE); /* this kernel has no guards */
			return NULL;
		}
	return area;
}

/* Read as another process would: a guard is an error then, not a signal. */
static void check_guarded_area(struct task *t)
{
	uint8_t found[PAGE];
	for (size_t page = 0; t->guarded != NULL && page < GUARDED_PAGES; page++) {
		struct iovec local = {found, PAGE}, remote = {t->guarded + page * PAGE, PAGE};
		bool readable = process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == (ssize_t)PAGE;
		if (readable == is_guard(page) || (readable && (found[0] != GUARDED_BYTE || found[PAGE - 1] != GUARDED_BYTE))) {
			wrong(t, "page %zu of the memory with guards is %s", page, readable ? "readable, or wrong" : "a guard");
			return;
		}
	}
}

static void fork_child(struct task *t)
{
	for (unsigned int i = 0; i < t->nr_threads; i++)
		pthread_mutex_lock(&t->workers[i].lock);
	pid_t pid = fork();
	if (pid == 0) {
		uint64_t rng = t->seed ^ (uint64_t)getpid();
		reset_errors(t);
		check_wiped_area(t, 0);
		check_later_areas(t, true);
		check_all(t, &rng, check_in_grandchild);
		end_child(t);
	}
	for (unsigned int i = 0; i < t->nr_threads; i++)
		pthread_mutex_unlock(&t->workers[i].lock);
	if (pid > 0) {
		t->forks++;
		t->children_alive++;
	}
}

static void reap(struct task *t, int flags)
{
	int status;
	while (t->children_alive > 0 && waitpid(-1, &status, flags) > 0) {
		t->children_alive--;
		if (status == 0)
			t->children_ok++;
		else
			t->children_bad++;
	}
}

#endif
