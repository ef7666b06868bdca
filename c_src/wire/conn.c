/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/conn.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { TLS_RECORD_BYTES = 16 << 10 };

int cl_conn_send(struct cl_conn conn, const uint8_t *data, size_t bytes)
{
	while (bytes) {
		ssize_t sent = (ssize_t)(bytes < TLS_RECORD_BYTES ? bytes : TLS_RECORD_BYTES);
		int ret;

		if (conn.tls) {
			ret = cl_tls_send(conn.tls, data, (size_t)sent);
			if (ret < 0)
				return ret;
		} else {
			sent = send(conn.fd, data, bytes, MSG_NOSIGNAL);
			if (sent < 0 && errno == EINTR)
				continue;
			if (sent < 0)
				return -errno;
		}
		data += sent;
		bytes -= (size_t)sent;
	}
	return 0;
}

int64_t cl_conn_receive(struct cl_conn conn, uint8_t *data, size_t size, const char **why)
{
	ssize_t got;

	if (conn.tls)
		return cl_tls_receive(conn.tls, data, size, why);
	do
		got = recv(conn.fd, data, size, 0);
	while (got < 0 && errno == EINTR);
	return got < 0 ? -errno : got == 0 ? -ECONNRESET : got;
}

int cl_conn_receive_exactly(struct cl_conn conn, uint8_t *data, size_t bytes, unsigned int timeout_s, const char **why)
{
	struct timeval in_time = { .tv_sec = (time_t)timeout_s }, ever = { 0 };
	int64_t got = 0;

	(void)setsockopt(conn.fd, SOL_SOCKET, SO_RCVTIMEO, &in_time, sizeof(in_time));
	while (bytes && got >= 0) {
		got = cl_conn_receive(conn, data, bytes, why);
		if (got > 0) {
			data += got;
			bytes -= (size_t)got;
		}
	}
	(void)setsockopt(conn.fd, SOL_SOCKET, SO_RCVTIMEO, &ever, sizeof(ever));
	return got >= 0 ? 0 : got == -EAGAIN ? -ETIMEDOUT : (int)got;
}

void cl_conn_close(struct cl_conn *conn)
{
	cl_tls_free(conn->tls);
	if (conn->fd >= 0)
		close(conn->fd);
	*conn = (struct cl_conn){ .fd = -1 };
}
