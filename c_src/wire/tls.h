/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls: one TLS session over a connected socket, as a page server's client, or as the server. Both sides show an x509
 * certificate, with GnuTLS as in criu: its default priorities, files in PEM, criu's default places for them. Or both
 * know one secret key, made for one migration, and speak TLS 1.3.
 *
 * Threads: cl_tls_send() by one thread at a time, cl_tls_receive() by one thread at a time, also both at once:
 * GnuTLS allows that as long as nobody else rehandshakes, updates keys or says good-bye, and nothing here does.
 * They block; shutdown(2) of the socket for reading wakes the receiver, and the session can still send then.
 *
 * What criu expects: it reads a header by one call, which returns bytes of one record only, so headers must not
 * cross records: each cl_tls_send() is one record. An end of the connection without a good-bye, as when this
 * process is killed, is an error to it (4.1, 4.2), and the source's tasks run on; so no good-bye is ever sent here.
 *
 * Built without CL_WITH_TLS (no GnuTLS at hand) cl_tls_load() fails with -ENOSYS.
 */
#ifndef CL_TLS_H
#define CL_TLS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct cl_tls_credentials;
struct cl_tls;

/* Load certificates and keys. 0, or error->code: -ENOSYS, -ENOMEM, -EBADF. */
int cl_tls_load(const struct cl_tls_config *config, struct cl_tls_credentials **out, struct cl_error *error);
void cl_tls_credentials_free(struct cl_tls_credentials *credentials);

/*
 * The handshake over fd (borrowed; blocking), and within it, before the server may take us for content, the check of
 * the other side's certificate. 0, or error->code: -EACCES if it is not the one meant, -ETIMEDOUT after 10 s, -EINTR after a
 * caught signal, -EPROTO or the socket's -errno otherwise. The credentials must outlive the session.
 */
int cl_tls_start(const struct cl_tls_credentials *credentials, int fd, struct cl_tls **out, struct cl_error *error);
void cl_tls_free(struct cl_tls *tls);

/*
 * Before any content: whether the server has hung up. One that refuses a certificate does so, within TLS 1.3, when the
 * handshake is over for its client: it is given wait_us for that; the time to it and back, at least, is what it takes.
 * 0, or -EPROTO.
 */
int cl_tls_check(struct cl_tls *tls, uint64_t wait_us, struct cl_error *error);

/* Send data, at most 16 KiB, as one record. 0 or -errno. */
int cl_tls_send(struct cl_tls *tls, const uint8_t *data, size_t bytes);

/*
 * What has arrived, up to size bytes, waiting for the first of them. Their number; -ECONNRESET when the server ended
 * the connection, -EPROTO for what GnuTLS refused, or the socket's -errno, each with its text.
 */
int64_t cl_tls_receive(struct cl_tls *tls, uint8_t *buffer, size_t size, struct cl_error *error);

/*
 * After the last content: wait for the server's good-bye (or whatever ends the waiting: the socket's SO_RCVTIMEO).
 * A socket closed with it unread would reset the connection, which criu takes for an error; and it may take a
 * good-bye of ours for unexpected data: it just waits for the end of the connection.
 */
void cl_tls_await_bye(struct cl_tls *tls);

#endif
