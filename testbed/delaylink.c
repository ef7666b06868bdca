/*
 * delaylink: a network cable with a length, between two network namespaces.
 *
 *   delaylink ID PID_A PID_B DEVICE SOCKET
 *
 * Makes a TUN device named DEVICE in the network namespace of each of two processes and forwards every packet
 * from one to the other, later by the delay that was set; both directions have their own bounded queue (tail
 * drop). Packets travel as the kernel's large segments with their offload header (IFF_VNET_HDR), so that a few
 * thousand packets a second make 1 Gbit/s, and the thread sleeps until the next packet is due. Rates are not its
 * job: a tbf on each TUN device limits what enters here, and pushes back on the sender as a network card does.
 *
 * Control: one text datagram on the unix datagram socket SOCKET (made here), answered to the sender's address:
 *   "delay NANOSECONDS JITTER LOSS"  -> "ok": each packet stays this long, more or less by up to JITTER nanoseconds, also
 *       those already queued; order is kept. LOSS of a million packets of MTU_BYTES are lost
 *   "cut" | "mend"       -> "ok": cut drops what is queued and whatever comes, in both directions
 *   "stats"              -> "forwarded N dropped N queued_bytes N"
 *   anything else        -> "error"
 * Prints "ready" and a newline on stdout when both devices exist. Ends when a device is gone (exit 0) or on an
 * error (one line on stderr, exit 1). ID is not used: it marks the process for whoever cleans up.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
	BUFFER_BYTES = 68 * 1024,	    /* a 64 KiB segment, its headers and the offload header */
	QUEUE_PACKETS = 8192,		    /* per direction */
	QUEUE_BYTES = 64 * 1024 * 1024,	    /* per direction */
	BATCH_PACKETS = 64,		    /* read from one side before the other is looked at */
	MTU_BYTES = 1500,
	WAKEUP_NS = 40 * 1000,		    /* what a packet loses to this thread's own two wake-ups (seen: 40-50 us) */
};

#define MAX_DELAY_NS (UINT64_C(10) * 1000 * 1000 * 1000)

struct packet {
	uint64_t arrived_ns;
	uint64_t later_ns; /* of twice the jitter */
	uint32_t length;
	unsigned char *bytes;
};

struct direction {
	int from;
	int to;
	struct packet queue[QUEUE_PACKETS];
	unsigned int head;
	unsigned int count;
	uint64_t queued_bytes;
	/* Last used first: the buffers that are in the cache are used again. */
	unsigned char *unused[QUEUE_PACKETS + 1];
	unsigned int unused_count;
};

struct cable {
	struct direction directions[2];
	uint64_t delay_ns, jitter_ns;
	uint64_t loss_ppm;
	uint64_t random; /* state of the generator */
	bool is_cut;
	uint64_t forwarded;
	uint64_t dropped;
	int control;
};

static void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

static void fail(const char *format, ...)
{
	int error = errno;
	va_list args;

	fprintf(stderr, "delaylink: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, ": %s\n", strerror(error));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	if (clock_gettime(CLOCK_MONOTONIC, &now) < 0)
		fail("can't read the clock");
	return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* Leaves the caller in that network namespace: a TUN device belongs to the one it is made in. */
static int open_tun(const char *pid, const char *device)
{
	struct ifreq request = { .ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR };
	unsigned int offloads = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
	char path[64];
	int net;
	int tun;

	snprintf(path, sizeof(path), "/proc/%.20s/ns/net", pid);
	net = open(path, O_RDONLY | O_CLOEXEC);
	if (net < 0)
		fail("can't open %s", path);
	if (setns(net, CLONE_NEWNET) < 0)
		fail("can't enter %s", path);
	close(net);
	snprintf(path, sizeof(path), "/proc/%.20s/root/dev/net/tun", pid);
	tun = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (tun < 0)
		fail("can't open %s", path);
	if (strlen(device) >= sizeof(request.ifr_name)) {
		errno = ENAMETOOLONG;
		fail("device name %s", device);
	}
	memcpy(request.ifr_name, device, strlen(device) + 1);
	if (ioctl(tun, TUNSETIFF, &request) < 0)
		fail("can't make TUN device %s", device);
	if (ioctl(tun, TUNSETOFFLOAD, offloads) < 0)
		fail("can't set offloads of TUN device %s", device);
	return tun;
}

static int open_control(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int control = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (control < 0)
		fail("can't make a socket");
	if (strlen(path) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		fail("socket %s", path);
	}
	memcpy(address.sun_path, path, strlen(path) + 1);
	if (unlink(path) < 0 && errno != ENOENT)
		fail("can't remove the old %s", path);
	if (bind(control, (const struct sockaddr *)&address, sizeof(address)) < 0)
		fail("can't bind %s", path);
	return control;
}

static void prepare_direction(struct direction *direction, int from, int to)
{
	/* Reserved, not used: pages are touched as the queue grows. */
	unsigned char *buffers = mmap(NULL, (size_t)(QUEUE_PACKETS + 1) * BUFFER_BYTES, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (buffers == MAP_FAILED)
		fail("can't reserve packet buffers");
	for (unsigned int i = 0; i <= QUEUE_PACKETS; i++)
		direction->unused[direction->unused_count++] = buffers + (size_t)(QUEUE_PACKETS - i) * BUFFER_BYTES;
	direction->from = from;
	direction->to = to;
}

static bool queue_has_room(const struct direction *direction)
{
	return direction->count < QUEUE_PACKETS && direction->queued_bytes < QUEUE_BYTES;
}

/* Takes the oldest packet off the queue; the caller gives its buffer back. */
static struct packet pop(struct direction *direction)
{
	struct packet packet = direction->queue[direction->head];

	direction->head = (direction->head + 1) % QUEUE_PACKETS;
	direction->count--;
	direction->queued_bytes -= packet.length;
	return packet;
}

static void give_back(struct direction *direction, unsigned char *buffer)
{
	direction->unused[direction->unused_count++] = buffer;
}

/* In [0, below): xorshift, the same sequence in each run. */
static uint64_t random_below(struct cable *cable, uint64_t below)
{
	cable->random ^= cable->random << 13;
	cable->random ^= cable->random >> 7;
	cable->random ^= cable->random << 17;
	return cable->random % below;
}

/* A large segment is many packets on a wire, and is lost as a whole with the chance that one of them is. */
static bool is_lost(struct cable *cable, size_t length)
{
	return cable->loss_ppm && random_below(cable, 1000000) < cable->loss_ppm * (length / MTU_BYTES + 1);
}

/* Returns false when the device is gone. */
static bool take_in(struct cable *cable, struct direction *direction, uint64_t arrived_ns)
{
	for (unsigned int i = 0; i < BATCH_PACKETS; i++) {
		/* There is one buffer more than the queue holds: one is always at hand, if only to drop. */
		unsigned char *buffer = direction->unused[--direction->unused_count];
		ssize_t length = read(direction->from, buffer, BUFFER_BYTES);

		if (length <= 0) {
			give_back(direction, buffer);
			if (length == 0 || errno == EAGAIN || errno == EINTR)
				return true;
			return false;
		}
		if (cable->is_cut || !queue_has_room(direction) || is_lost(cable, (size_t)length)) {
			give_back(direction, buffer);
			cable->dropped++;
			continue;
		}
		direction->queue[(direction->head + direction->count) % QUEUE_PACKETS] =
			(struct packet){ .arrived_ns = arrived_ns,
					 .later_ns = cable->jitter_ns ? random_below(cable, 2 * cable->jitter_ns) : 0,
					 .length = (uint32_t)length,
					 .bytes = buffer };
		direction->count++;
		direction->queued_bytes += (uint64_t)length;
	}
	return true;
}

/* When the oldest packet is to be sent on; the queue is not empty. */
static uint64_t due_ns(const struct cable *cable, const struct direction *direction)
{
	uint64_t delay = cable->delay_ns > WAKEUP_NS ? cable->delay_ns - WAKEUP_NS : 0;

	delay = delay > cable->jitter_ns ? delay - cable->jitter_ns : 0;
	return direction->queue[direction->head].arrived_ns + delay + direction->queue[direction->head].later_ns;
}

static void send_due(struct cable *cable, struct direction *direction, uint64_t now)
{
	while (direction->count > 0 && due_ns(cable, direction) <= now) {
		struct packet packet = pop(direction);
		ssize_t written;

		do
			written = write(direction->to, packet.bytes, packet.length);
		while (written < 0 && errno == EINTR);
		/* A device that is down or full loses the packet, as a real one does. */
		if (written == (ssize_t)packet.length)
			cable->forwarded++;
		else
			cable->dropped++;
		give_back(direction, packet.bytes);
	}
}

static void drop_queue(struct cable *cable, struct direction *direction)
{
	while (direction->count > 0) {
		give_back(direction, pop(direction).bytes);
		cable->dropped++;
	}
}

/* "DELAY JITTER LOSS", within their bounds. */
static bool parse_delay(const char *text, struct cable *cable)
{
	uint64_t delay_ns, jitter_ns, loss_ppm;
	char more;

	if (sscanf(text, "%" SCNu64 " %" SCNu64 " %" SCNu64 "%c", &delay_ns, &jitter_ns, &loss_ppm, &more) != 3 ||
	    delay_ns > MAX_DELAY_NS || jitter_ns > delay_ns || loss_ppm > 1000000)
		return false;
	cable->delay_ns = delay_ns;
	cable->jitter_ns = jitter_ns;
	cable->loss_ppm = loss_ppm;
	return true;
}

static void obey(struct cable *cable, const char *command, char *answer, size_t answer_size)
{
	snprintf(answer, answer_size, "ok");
	if (strncmp(command, "delay ", 6) == 0 && parse_delay(command + 6, cable))
		return;
	if (strcmp(command, "cut") == 0) {
		cable->is_cut = true;
		drop_queue(cable, &cable->directions[0]);
		drop_queue(cable, &cable->directions[1]);
	} else if (strcmp(command, "mend") == 0) {
		cable->is_cut = false;
	} else if (strcmp(command, "stats") == 0) {
		snprintf(answer, answer_size, "forwarded %" PRIu64 " dropped %" PRIu64 " queued_bytes %" PRIu64,
			 cable->forwarded, cable->dropped,
			 cable->directions[0].queued_bytes + cable->directions[1].queued_bytes);
	} else {
		snprintf(answer, answer_size, "error");
	}
}

static void answer_control(struct cable *cable)
{
	struct sockaddr_un sender;
	socklen_t sender_length = sizeof(sender);
	char command[128];
	char answer[128];
	ssize_t length = recvfrom(cable->control, command, sizeof(command) - 1, 0, (struct sockaddr *)&sender,
				  &sender_length);

	if (length < 0)
		return;
	command[length] = '\0';
	obey(cable, command, answer, sizeof(answer));
	/* A sender that has gone away gets no answer; that is its own affair. */
	if (sender_length > sizeof(sa_family_t))
		(void)sendto(cable->control, answer, strlen(answer), MSG_NOSIGNAL,
			     (const struct sockaddr *)&sender, sender_length);
}

/* Time until the first queued packet is due; false if the queues are empty. */
static bool next_due(const struct cable *cable, uint64_t now, struct timespec *wait)
{
	uint64_t due = UINT64_MAX;

	for (int i = 0; i < 2; i++) {
		const struct direction *direction = &cable->directions[i];

		if (direction->count > 0 && due_ns(cable, direction) < due)
			due = due_ns(cable, direction);
	}
	if (due == UINT64_MAX)
		return false;
	due = due > now ? due - now : 0;
	wait->tv_sec = (time_t)(due / 1000000000);
	wait->tv_nsec = (long)(due % 1000000000);
	return true;
}

static int forward_for_ever(struct cable *cable)
{
	for (;;) {
		struct pollfd ready[3] = {
			{ .fd = cable->directions[0].from, .events = POLLIN },
			{ .fd = cable->directions[1].from, .events = POLLIN },
			{ .fd = cable->control, .events = POLLIN },
		};
		struct timespec wait;
		bool timed = next_due(cable, now_ns(), &wait);
		uint64_t now;

		if (ppoll(ready, 3, timed ? &wait : NULL, NULL) < 0 && errno != EINTR)
			fail("can't wait for packets");
		now = now_ns();
		for (int i = 0; i < 2; i++)
			if (ready[i].revents && !take_in(cable, &cable->directions[i], now))
				return 0;
		now = now_ns();
		for (int i = 0; i < 2; i++)
			send_due(cable, &cable->directions[i], now);
		if (ready[2].revents)
			answer_control(cable);
	}
}

/* A cable isn't slowed by busy processors. Where real-time scheduling is denied, the highest niceness must do. */
static void take_precedence(void)
{
	struct sched_param priority = { .sched_priority = 1 };

	if (sched_setscheduler(0, SCHED_FIFO, &priority) < 0)
		(void)setpriority(PRIO_PROCESS, 0, -20);
	(void)prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
}

int main(int argc, char **argv)
{
	struct cable *cable = calloc(1, sizeof(*cable));
	int side[2];

	if (argc != 6) {
		fprintf(stderr, "usage: delaylink ID PID_A PID_B DEVICE SOCKET\n");
		return 2;
	}
	if (!cable)
		fail("no memory");
	cable->random = 1;
	cable->control = open_control(argv[5]);
	side[0] = open_tun(argv[2], argv[4]);
	side[1] = open_tun(argv[3], argv[4]);
	prepare_direction(&cable->directions[0], side[0], side[1]);
	prepare_direction(&cable->directions[1], side[1], side[0]);
	take_precedence();
	puts("ready");
	if (fflush(stdout) != 0)
		fail("can't report");
	if (close(STDOUT_FILENO) < 0)
		fail("can't close stdout");
	return forward_for_ever(cable);
}
