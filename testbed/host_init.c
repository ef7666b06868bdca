/*
 * host_init: makes one test host and is its first process.
 *
 *   host_init ID HOSTNAME SCRATCH LOWERDIRS [CGROUP]
 *
 * Unshares mount, pid, net, ipc and uts namespaces and forks. The child becomes pid 1 of the host: on SCRATCH
 * (an existing empty directory) it mounts a tmpfs, on it an overlay over LOWERDIRS (overlayfs's colon-separated
 * list), and makes that its root, with its own /proc, /sys, /dev, /run and /tmp. It sees the machine's control
 * groups; with CGROUP (a directory of the machine's cgroup2 hierarchy) it moves there, and sees only cgroup2, with
 * that as its root. Then the parent prints the
 * child's pid (decimal, as seen by the caller) and a newline on stdout and exits 0; on any error it prints one
 * line on stderr and exits 1, and nothing is left. All mounts live in the child's mount namespace: when pid 1
 * dies, the host's processes, mounts, files and network devices go with it.
 *
 * Pid 1 holds no descriptor, ignores nothing it could reap, and never exits by itself. ID is not used: it
 * marks the process, so that whoever cleans up can find it by its command line.
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

static void fail(const char *format, ...)
{
	int error = errno;
	va_list args;

	fprintf(stderr, "host_init: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, ": %s\n", strerror(error));
	exit(1);
}

static void make_directory(const char *path, mode_t mode)
{
	if (mkdir(path, mode) < 0 && errno != EEXIST)
		fail("can't make directory %s", path);
}

static void mount_at(const char *source, const char *target, const char *type, unsigned long flags,
		     const char *options)
{
	make_directory(target, 0755);
	if (mount(source, target, type, flags, options) < 0)
		fail("can't mount %s on %s", source, target);
}

static void make_device(const char *path, mode_t mode, unsigned int major_number, unsigned int minor_number)
{
	if (mknod(path, S_IFCHR | mode, makedev(major_number, minor_number)) < 0)
		fail("can't make device %s", path);
	if (chmod(path, mode) < 0)
		fail("can't set the mode of %s", path);
}

static void make_link(const char *target, const char *path)
{
	if (symlink(target, path) < 0)
		fail("can't link %s to %s", path, target);
}

/* The minor of a "misc" device is dynamic for some: /proc/misc tells it. Returns -1 if the kernel has none. */
static int misc_minor(const char *name)
{
	char found[64];
	int minor_number;
	int result = -1;
	FILE *misc = fopen("/proc/misc", "re");

	if (!misc)
		return -1;
	while (fscanf(misc, "%d %63s", &minor_number, found) == 2)
		if (strcmp(found, name) == 0)
			result = minor_number;
	fclose(misc);
	return result;
}

/* Current directory: the new root, proc mounted. Fills dev/. */
static void populate_dev(void)
{
	int userfaultfd_minor = misc_minor("userfaultfd");

	mount_at("dev", "dev", "tmpfs", MS_NOSUID, "mode=755,size=1m");
	make_device("dev/null", 0666, 1, 3);
	make_device("dev/zero", 0666, 1, 5);
	make_device("dev/full", 0666, 1, 7);
	make_device("dev/random", 0666, 1, 8);
	make_device("dev/urandom", 0666, 1, 9);
	make_device("dev/tty", 0666, 5, 0);
	make_directory("dev/net", 0755);
	make_device("dev/net/tun", 0600, 10, 200);
	if (userfaultfd_minor >= 0)
		make_device("dev/userfaultfd", 0600, 10, (unsigned int)userfaultfd_minor);
	make_link("/proc/self/fd", "dev/fd");
	make_link("/proc/self/fd/0", "dev/stdin");
	make_link("/proc/self/fd/1", "dev/stdout");
	make_link("/proc/self/fd/2", "dev/stderr");
	mount_at("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620");
	make_link("pts/ptmx", "dev/ptmx");
	mount_at("shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
}

/* Move into a control group, which becomes the root of those that can be seen from here. */
static void enter_cgroup(const char *cgroup)
{
	char path[4096];
	int fd;

	if ((size_t)snprintf(path, sizeof(path), "%s/cgroup.procs", cgroup) >= sizeof(path)) {
		errno = ENAMETOOLONG;
		fail("%s", cgroup);
	}
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "0", 1) != 1)
		fail("can't move to %s", cgroup);
	close(fd);
	if (unshare(CLONE_NEWCGROUP) < 0)
		fail("can't unshare the cgroup namespace");
}

static void mount_cgroups(int own)
{
	if (own)
		mount_at("cgroup2", "sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	else
		mount_at("/sys/fs/cgroup", "sys/fs/cgroup", NULL, MS_BIND | MS_REC, NULL);
}

static void enter_root(const char *scratch, const char *lower_directories, int own_cgroups)
{
	char options[8192];

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		fail("can't make / private");
	mount_at("scratch", scratch, "tmpfs", 0, "mode=755");
	if (chdir(scratch) < 0)
		fail("can't enter %s", scratch);
	make_directory("upper", 0755);
	make_directory("work", 0755);
	if ((size_t)snprintf(options, sizeof(options), "lowerdir=%s,upperdir=upper,workdir=work",
			     lower_directories) >= sizeof(options)) {
		errno = ENAMETOOLONG;
		fail("overlay of %s", lower_directories);
	}
	mount_at("overlay", "root", "overlay", 0, options);
	if (chdir("root") < 0)
		fail("can't enter %s/root", scratch);
	mount_at("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_at("sysfs", "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_cgroups(own_cgroups);
	populate_dev();
	mount_at("run", "run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755");
	mount_at("tmp", "tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
	if (syscall(SYS_pivot_root, ".", ".") < 0)
		fail("can't pivot the root to %s/root", scratch);
	if (umount2(".", MNT_DETACH) < 0)
		fail("can't let go of the old root");
	if (chdir("/") < 0)
		fail("can't enter the new root");
}

static void loopback_up(void)
{
	struct ifreq request = { .ifr_name = "lo" };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request) < 0)
		fail("can't read the loopback's flags");
	request.ifr_flags |= IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &request) < 0)
		fail("can't bring up the loopback");
	close(fd);
}

static void reap_for_ever(void) __attribute__((noreturn));

static void reap_for_ever(void)
{
	sigset_t child_ended;

	sigemptyset(&child_ended);
	sigaddset(&child_ended, SIGCHLD);
	for (;;) {
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		sigwaitinfo(&child_ended, NULL);
	}
}

static void run_host(const char *hostname, const char *scratch, const char *lower_directories, const char *cgroup,
		     int ready)
{
	sigset_t child_ended;
	char done = 1;

	/* Blocked, not ignored: a child that ends between two waits leaves the signal pending. */
	sigemptyset(&child_ended);
	sigaddset(&child_ended, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &child_ended, NULL) < 0)
		fail("can't block SIGCHLD");
	if (setsid() < 0)
		fail("can't start a session");
	umask(0);
	if (sethostname(hostname, strlen(hostname)) < 0)
		fail("can't set the host name %s", hostname);
	loopback_up();
	if (cgroup)
		enter_cgroup(cgroup);
	enter_root(scratch, lower_directories, cgroup != NULL);
	umask(022);
	if (write(ready, &done, 1) != 1)
		fail("can't report");
	if (syscall(SYS_close_range, 0U, ~0U, 0U) < 0)
		fail("can't close descriptors");
	reap_for_ever();
}

int main(int argc, char **argv)
{
	int ready[2];
	pid_t child;
	char done;

	if (argc != 5 && argc != 6) {
		fprintf(stderr, "usage: host_init ID HOSTNAME SCRATCH LOWERDIRS [CGROUP]\n");
		return 2;
	}
	if (pipe2(ready, O_CLOEXEC) < 0)
		fail("can't make a pipe");
	if (unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) < 0)
		fail("can't unshare namespaces");
	child = fork();
	if (child < 0)
		fail("can't fork");
	if (child == 0) {
		close(ready[0]);
		run_host(argv[2], argv[3], argv[4], argv[5], ready[1]);
	}
	close(ready[1]);
	if (read(ready[0], &done, 1) != 1)
		return 1; /* the child said why */
	printf("%d\n", (int)child);
	return fflush(stdout) == 0 ? 0 : 1;
}
