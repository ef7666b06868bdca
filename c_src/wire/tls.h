/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls: one TLS session over a connected socket, as a page server's client, or as the server, by OpenSSL. Both sides show
 * an x509 certificate, as with criu, which uses GnuTLS: TLS 1.2 or 1.3, files in PEM, criu's default places for them, its
 * rules for what is trusted and for names. Or both know one secret key, made for one migration, and speak TLS 1.3.
 *
 * Threads: cl_tls_send() by one thread at a time, cl_tls_receive() by one thread at a time, also both at once: a lock is
 * held while a few records are encrypted or one is decrypted, and never while a system call waits, but in the handshake.
 * They block, as long as the socket's SO_SNDTIMEO and SO_RCVTIMEO say for each system call; shutdown(2) of the socket for
 * reading wakes the receiver, and the session can still send then.
 *
 * Memory: a session takes 100 KiB, whatever the peer sends: it receives up to 32 KiB ahead of what is asked for, by one
 * system call. So poll(2) of the socket doesn't tell whether there is something to receive.
 *
 * What criu expects: it reads a header by one call, which returns bytes of one record only, so headers must not
 * cross records: each cl_tls_send() of up to 16 KiB is one record. An end of the connection without a good-bye, as when
 * this process is killed, is an error to it (4.1, 4.2), and the source's tasks run on; so no good-bye is ever sent here.
 *
 * Built without CL_WITH_TLS (no OpenSSL at hand) cl_tls_load() fails with -ENOSYS.
 */
#ifndef CL_TLS_H
#define CL_TLS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "wire/tls_credentials.h"

struct cl_tls;

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

/* Send data, in records of 16 KiB, the last one shorter. 0 or -errno. */
int cl_tls_send(struct cl_tls *tls, const uint8_t *data, size_t bytes);

/*
 * What has arrived, up to size bytes, waiting for the first of them. Their number; -ECONNRESET when the server ended
 * the connection, -EPROTO for what OpenSSL refused, or the socket's -errno, each with its text.
 */
int64_t cl_tls_receive(struct cl_tls *tls, uint8_t *buffer, size_t size, struct cl_error *error);

/*
 * After the last content: wait for the server's good-bye (or whatever ends the waiting: the socket's SO_RCVTIMEO).
 * A socket closed with it unread would reset the connection, which criu takes for an error; and it may take a
 * good-bye of ours for unexpected data: it just waits for the end of the connection.
 */
void cl_tls_await_bye(struct cl_tls *tls);

#endif
