/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vm_init: the first program of a test machine (vm.py), in its initramfs. Loads the modules in /modules, in the order of
 * their names; mounts the disks vda (Debian roots) and vdb (what is tested) read-only, and over both, as layers, a tmpfs;
 * makes that the root, and becomes the Python program START. Any failure ends the machine (a panic).
 *
 *   /disks/a, /disks/b   the disks, in the new root too
 *   LAYERS=a/base:b/x    kernel command line: the layers' directories on the disks, top first
 *   START=/disks/b/x.py  the same: the program
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void fail(const char *what, const char *which)
{
	fprintf(stderr, "vm_init: %s %s: %s\n", what, which, strerror(errno));
	exit(1);
}

static void mount_at(const char *source, const char *target, const char *type, unsigned long flags, const char *options)
{
	if (mkdir(target, 0755) < 0 && errno != EEXIST)
		fail("mkdir", target);
	if (mount(source, target, type, flags, options) < 0)
		fail("mount", target);
}

static int is_module(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static void load_modules(void)
{
	struct dirent **found;
	int nr = scandir("/modules", &found, is_module, alphasort);

	if (nr < 0)
		fail("scandir", "/modules");
	for (int i = 0; i < nr; i++) {
		char path[512];
		int fd;

		snprintf(path, sizeof(path), "/modules/%s", found[i]->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
			fail("module", path);
		close(fd);
	}
}

/* "lowerdir=/disks/b/x:/disks/a/base,..." of what the command line says. */
static void make_options(char *out, size_t bytes)
{
	const char *layers = getenv("LAYERS"), *from, *to;
	size_t at = (size_t)snprintf(out, bytes, "upperdir=/scratch/upper,workdir=/scratch/work,lowerdir=");

	if (!layers)
		fail("no LAYERS on the", "command line");
	for (from = layers; *from; from = *to ? to + 1 : to) {
		to = strchrnul(from, ':');
		at += (size_t)snprintf(out + at, bytes - at, "%s/disks/%.*s", from == layers ? "" : ":", (int)(to - from), from);
		if (at >= bytes)
			fail("too many", "LAYERS");
	}
}

/*
 * Keep what perf patches into the kernel's code patched, for as long as the machine runs: an emulated CPU may run into the
 * breakpoint that guards such a patch while it is made.
 */
static void hold_perf_event(void)
{
	struct perf_event_attr attr = { .type = PERF_TYPE_SOFTWARE, .size = sizeof(attr), .config = PERF_COUNT_SW_CONTEXT_SWITCHES };

	if (syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0) < 0)
		fail("perf_event_open", "");
}

int main(void)
{
	char options[4096];

	mount_at("dev", "/dev", "devtmpfs", 0, NULL);
	load_modules();
	hold_perf_event();
	if (mkdir("/disks", 0755) < 0)
		fail("mkdir", "/disks");
	mount_at("/dev/vda", "/disks/a", "ext4", MS_RDONLY, NULL);
	mount_at("/dev/vdb", "/disks/b", "ext4", MS_RDONLY, NULL);
	mount_at("scratch", "/scratch", "tmpfs", 0, "size=80%");
	if (mkdir("/scratch/upper", 0755) < 0 || mkdir("/scratch/work", 0755) < 0)
		fail("mkdir", "/scratch");
	make_options(options, sizeof(options));
	mount_at("overlay", "/root", "overlay", 0, options);
	mount_at("proc", "/root/proc", "proc", 0, NULL);
	mount_at("sys", "/root/sys", "sysfs", 0, NULL);
	mount_at("cgroup", "/root/sys/fs/cgroup", "cgroup2", 0, NULL);
	mount_at("/dev", "/root/dev", NULL, MS_MOVE, NULL);
	mount_at("run", "/root/run", "tmpfs", 0, "mode=755");
	mount_at("tmp", "/root/tmp", "tmpfs", 0, "mode=1777");
	mount_at("/disks", "/root/disks", NULL, MS_BIND | MS_REC, NULL);
	if (chdir("/root") < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
		fail("can't enter", "the new root");
	execl("/usr/bin/python3", "python3", getenv("START"), (char *)NULL);
	fail("exec", "/usr/bin/python3");
}
