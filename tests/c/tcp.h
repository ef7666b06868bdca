/* SPDX-License-Identifier: Apache-2.0 */
/* tcp: TCP connections of this host with itself, for what only TCP tells: what has left, who hung up. */
#ifndef TCP_H
#define TCP_H

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"

/* A listening socket on a free port of the loopback device, and its address. */
static inline int listen_on_loopback(struct sockaddr_in *address)
{
	socklen_t length = sizeof(*address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*address = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	CHECK(fd >= 0 && bind(fd, (struct sockaddr *)address, length) == 0 && listen(fd, 16) == 0);
	CHECK(getsockname(fd, (struct sockaddr *)address, &length) == 0);
	return fd;
}

/* Connected to what listens at that address. */
static inline int connect_to(const struct sockaddr_in *address)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0);
	return fd;
}

/* Both ends of a connection; [0] is the one that connected. */
static inline void connect_tcp(int ends[2])
{
	struct sockaddr_in address;
	int listener = listen_on_loopback(&address);

	ends[0] = connect_to(&address);
	ends[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	CHECK(ends[1] >= 0);
	close(listener);
}

#endif
