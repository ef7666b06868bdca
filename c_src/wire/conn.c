/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/conn.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/io.h"

int cl_conn_send(struct cl_conn conn, const uint8_t *data, size_t bytes)
{
	return conn.tls ? cl_tls_send(conn.tls, data, bytes) : cl_send_all(conn.fd, data, bytes, 0);
}

int cl_conn_error(int code, struct cl_error *error)
{
	return cl_error_set(error, code, "%s",
			    code == -ECONNRESET || code == -EPIPE ? "the connection was closed" : strerror(-code));
}

int64_t cl_conn_receive(struct cl_conn conn, uint8_t *data, size_t size, struct cl_error *error)
{
	int64_t got;

	if (conn.tls)
		return cl_tls_receive(conn.tls, data, size, error);
	got = cl_receive(conn.fd, data, size, 0);
	return got < 0 ? cl_conn_error((int)got, error) : got;
}

int cl_conn_receive_exactly(struct cl_conn conn, uint8_t *data, size_t bytes, unsigned int timeout_s, struct cl_error *error)
{
	struct timeval timeout = { .tv_sec = (time_t)timeout_s }, none = { 0 };
	int64_t got = 0;

	(void)setsockopt(conn.fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	while (bytes && got >= 0) {
		got = cl_conn_receive(conn, data, bytes, error);
		if (got > 0) {
			data += got;
			bytes -= (size_t)got;
		}
	}
	(void)setsockopt(conn.fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none));
	return got >= 0 ? 0 : got == -EAGAIN ? cl_conn_error(-ETIMEDOUT, error) : (int)got;
}

void cl_conn_close(struct cl_conn *conn)
{
	cl_tls_free(conn->tls);
	if (conn->fd >= 0)
		close(conn->fd);
	*conn = (struct cl_conn){ .fd = -1 };
}
