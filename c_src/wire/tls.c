/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/tls.h"

#include <errno.h>

#ifdef CL_WITH_TLS

#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/deadline.h"
#include "base/io.h"

enum {
	HANDSHAKE_US = 10 * 1000 * 1000,
	RECORD_BYTES = 16 << 10,
	WRITE_BYTES = 32 << 10,         /* encrypted, then sent by one system call */
	OUT_BYTES = WRITE_BYTES + 1024, /* with what TLS puts around records, and a key update */
	KEY_RECORDS = 1 << 24,          /* by one key: AES-GCM bears 2^24.5 (RFC 8446, 5.5) */
};

struct cl_tls {
	const struct cl_tls_credentials *credentials;
	pthread_mutex_t lock; /* of the session; never held while a system call may wait, but in the handshake */
	SSL *session;
	BIO_METHOD *method; /* how it reads and writes its socket */
	int fd;
	uint64_t deadline_us; /* of the handshake; 0 after it */
	int alert;            /* the last that was received; -1: none */
	/* the receiver's */
	bool drained;   /* the socket had no more than was asked for */
	bool received;  /* something, ever */
	int pull_errno; /* why the last pull failed; 0: it did not */
	/* the sender's */
	int push_errno;   /* why sending failed */
	bool sends;       /* what the session writes is what is being sent */
	bool is_spoiled;  /* it wrote something else, which nobody sent: the peer couldn't decrypt what followed */
	uint64_t records; /* by the present key */
	size_t out_bytes; /* in `out`, encrypted */
	uint8_t out[OUT_BYTES];
};

/* ---- the socket, as OpenSSL sees it ----
 *
 * A pull that fails is always "nothing there yet" to OpenSSL, which would give the whole session up for anything else,
 * sending included; pull_errno tells us.
 */

/* 1, or 0. */
static int pull(BIO *bio, char *data, size_t size, size_t *got)
{
	struct cl_tls *tls = BIO_get_data(bio);
	struct pollfd poll_fd = { .fd = tls->fd, .events = POLLIN };
	int64_t ret = -EAGAIN;
	int ready;

	if (tls->deadline_us) {
		ready = poll(&poll_fd, 1, cl_deadline_poll_ms(tls->deadline_us)); /* a signal ends it */
		ret = ready > 0 ? cl_receive(tls->fd, data, size, 0) : ready < 0 ? -errno : -ETIMEDOUT;
	} else if (!tls->drained) {
		ret = cl_receive(tls->fd, data, size, MSG_DONTWAIT);
		tls->drained = ret > 0 && (size_t)ret < size;
	}
	tls->pull_errno = ret < 0 ? (int)-ret : 0;
	BIO_clear_retry_flags(bio);
	if (ret < 0)
		BIO_set_retry_read(bio);
	*got = ret < 0 ? 0 : (size_t)ret;
	return ret > 0;
}

/* All of it, or an error: sent in the handshake, afterwards kept to be sent without the lock. 1, or 0. */
static int push(BIO *bio, const char *data, size_t size, size_t *written)
{
	struct cl_tls *tls = BIO_get_data(bio);
	int ret = 0;

	BIO_clear_retry_flags(bio);
	*written = size;
	if (tls->deadline_us) {
		ret = cl_send_all(tls->fd, data, size, 0);
		tls->push_errno = -ret;
	} else if (!tls->sends) {
		tls->is_spoiled = true; /* an alert; there is no more to be said */
	} else if (size > OUT_BYTES - tls->out_bytes) {
		ret = -EMSGSIZE;
	} else {
		memcpy(tls->out + tls->out_bytes, data, size);
		tls->out_bytes += size;
	}
	return ret == 0;
}

static long control(BIO *bio, int command, long number, void *pointer)
{
	(void)bio;
	(void)number;
	(void)pointer;
	return command == BIO_CTRL_FLUSH;
}

static void note_alert(const SSL *session, int event, int value)
{
	struct cl_tls *tls = SSL_get_app_data(session);

	if (event == SSL_CB_READ_ALERT)
		tls->alert = value;
}

/* ---- the handshake ---- */

static const char *peer(const struct cl_tls_credentials *credentials)
{
	return credentials->server ? "the client" : "the page server";
}

/* What is wrong with the peer's certificate, in a sentence. */
static const char *certificate_fault(long fault)
{
	switch (fault) {
	case X509_V_ERR_HOSTNAME_MISMATCH:
		return "The name in the certificate does not match the expected.";
	case X509_V_ERR_CERT_REVOKED:
		return "The certificate chain is revoked.";
	case X509_V_ERR_CERT_HAS_EXPIRED:
		return "The certificate chain uses expired certificate.";
	case X509_V_ERR_CERT_NOT_YET_VALID:
		return "The certificate chain uses not yet valid certificate.";
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
		return "The certificate issuer is unknown.";
	default:
		return X509_verify_cert_error_string(fault);
	}
}

static int handshake_failed(const struct cl_tls *tls, const struct cl_tls_credentials *credentials, struct cl_error *error)
{
	long fault = SSL_get_verify_result(tls->session);
	int why = tls->push_errno ? tls->push_errno : tls->pull_errno;
	const char *host = credentials->host;

	if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_CERTIFICATE_VERIFY_FAILED)
		return cl_error_set(error, -EACCES, "TLS: %s's certificate%s%s: The certificate is NOT trusted. %s",
				    peer(credentials), host ? ", asked for as " : "", host ? host : "",
				    certificate_fault(fault));
	if (why)
		cl_error_set(error, -why, "%s",
			     why != ECONNRESET   ? strerror(why) :
			     credentials->server ? "it closed the connection" :
						   "it closed the connection; is --tls given there, and what says its log?");
	else if (tls->alert >= 0)
		cl_error_set(error, -EPROTO, "it refused: %s", SSL_alert_desc_string_long(tls->alert));
	else
		cl_error_set(error, -EPROTO, "%s", cl_tls_reason());
	return cl_error_prefix(error, "TLS: handshake with %s: ", peer(credentials));
}

/* A session without a handshake. NULL: no memory. */
static struct cl_tls *new_session(const struct cl_tls_credentials *credentials, int fd)
{
	struct cl_tls *tls = calloc(1, sizeof(*tls));
	BIO *socket;

	if (!tls)
		return NULL;
	pthread_mutex_init(&tls->lock, NULL);
	tls->credentials = credentials;
	tls->fd = fd;
	tls->alert = -1;
	tls->session = SSL_new(credentials->context);
	tls->method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "criu-lazy");
	socket = tls->method ? BIO_new(tls->method) : NULL;
	if (!tls->session || !socket || !BIO_meth_set_read_ex(tls->method, pull) ||
	    !BIO_meth_set_write_ex(tls->method, push) || !BIO_meth_set_ctrl(tls->method, control)) {
		BIO_free(socket);
		cl_tls_free(tls);
		return NULL;
	}
	BIO_set_data(socket, tls);
	BIO_set_init(socket, 1);
	SSL_set_bio(tls->session, socket, socket);
	(void)SSL_set_app_data(tls->session, tls);
	SSL_set_info_callback(tls->session, note_alert);
	return tls;
}

int cl_tls_start(const struct cl_tls_credentials *credentials, int fd, struct cl_tls **out, struct cl_error *error)
{
	struct cl_tls *tls = new_session(credentials, fd);
	int ret;

	if (!tls)
		return cl_error_set(error, -ENOMEM, "TLS: no memory");
	ERR_clear_error();
	tls->deadline_us = cl_now_us() + HANDSHAKE_US;
	ret = credentials->server ? SSL_accept(tls->session) : SSL_connect(tls->session);
	tls->deadline_us = 0;
	if (ret == 1 && credentials->key && !SSL_session_reused(tls->session))
		ret = cl_error_set(error, -EACCES, "TLS: %s does not know the key", peer(credentials));
	else if (ret != 1)
		ret = handshake_failed(tls, credentials, error);
	if (ret < 0) {
		cl_tls_free(tls);
		return ret;
	}
	*out = tls;
	return 0;
}

void cl_tls_free(struct cl_tls *tls)
{
	if (!tls)
		return;
	SSL_free(tls->session);
	BIO_meth_free(tls->method);
	pthread_mutex_destroy(&tls->lock);
	free(tls);
}

/* ---- the session ---- */

/* Encrypt up to WRITE_BYTES into tls->out. Lock held. 0 or -errno. */
static int encrypt(struct cl_tls *tls, const uint8_t *data, size_t bytes)
{
	int ret;

	if (tls->is_spoiled)
		return -EPROTO;
	ERR_clear_error();
	if (tls->records >= KEY_RECORDS && SSL_version(tls->session) == TLS1_3_VERSION) {
		if (!SSL_key_update(tls->session, SSL_KEY_UPDATE_NOT_REQUESTED))
			return -EPROTO;
		tls->records = 0;
	}
	tls->records += (bytes + RECORD_BYTES - 1) / RECORD_BYTES;
	tls->out_bytes = 0;
	tls->sends = true;
	ret = SSL_write(tls->session, data, (int)bytes);
	tls->sends = false;
	return ret == (int)bytes ? 0 : -EPROTO;
}

int cl_tls_send(struct cl_tls *tls, const uint8_t *data, size_t bytes)
{
	int ret = 0;

	while (bytes && ret == 0) {
		size_t part = bytes < WRITE_BYTES ? bytes : WRITE_BYTES;

		pthread_mutex_lock(&tls->lock);
		ret = encrypt(tls, data, part);
		pthread_mutex_unlock(&tls->lock);
		if (ret == 0)
			ret = cl_send_all(tls->fd, tls->out, tls->out_bytes, 0);
		data += part;
		bytes -= part;
	}
	return ret;
}

/* Why nothing can be received. error->code. */
static int receive_failed(const struct cl_tls *tls, int why, struct cl_error *error)
{
	if (why == SSL_ERROR_WANT_READ && tls->pull_errno != ECONNRESET)
		return cl_error_set(error, -tls->pull_errno, "%s", strerror(tls->pull_errno));
	if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_ZERO_RETURN) {
		if (tls->received)
			return cl_error_set(error, -ECONNRESET, "the connection was closed");
		return cl_error_set(error, -EPROTO,
				    "it closed the connection at once (its log tells whether it refused our certificate)");
	}
	if (tls->alert >= 0)
		return cl_error_set(error, -EPROTO, "TLS alert: %s", SSL_alert_desc_string_long(tls->alert));
	/* Once there was an agreement, it is somebody on the way who broke it. */
	return cl_error_set(error, tls->received ? -ECONNRESET : -EPROTO, "TLS: %s", cl_tls_reason());
}

/* Of what has arrived, a record, or less. Its bytes; 0: none is there as a whole; or error->code. */
static int decrypt(struct cl_tls *tls, uint8_t *buffer, size_t size, struct cl_error *error)
{
	int got, why;

	pthread_mutex_lock(&tls->lock);
	ERR_clear_error();
	tls->pull_errno = 0;
	got = SSL_read(tls->session, buffer, size < INT_MAX ? (int)size : INT_MAX);
	if (got <= 0) {
		why = SSL_get_error(tls->session, got);
		got = why == SSL_ERROR_WANT_READ && tls->pull_errno == EAGAIN ? 0 : receive_failed(tls, why, error);
	}
	pthread_mutex_unlock(&tls->lock);
	return got;
}

int64_t cl_tls_receive(struct cl_tls *tls, uint8_t *buffer, size_t size, struct cl_error *error)
{
	size_t total = 0;
	int64_t ret = 1;
	char byte;

	tls->drained = false;
	while (total < size) {
		ret = decrypt(tls, buffer + total, size - total, error);
		if (ret > 0) {
			total += (size_t)ret;
			tls->received = true;
			continue;
		}
		if (total || ret < 0) /* what is wrong, if anything is, will be so again */
			break;
		tls->drained = false;
		ret = cl_receive(tls->fd, &byte, sizeof(byte), MSG_PEEK);
		if (ret < 0 && ret != -ECONNRESET) /* the end is seen by decrypt() */
			return cl_error_set(error, (int)ret, "%s", strerror((int)-ret));
	}
	return total ? (int64_t)total : ret;
}

int cl_tls_check(struct cl_tls *tls, uint64_t wait_us, struct cl_error *error)
{
	struct pollfd poll_fd = { .fd = tls->fd, .events = POLLRDHUP };
	int64_t got;
	uint8_t byte;

	if (SSL_version(tls->session) != TLS1_3_VERSION || tls->credentials->key)
		wait_us = 0;
	/* A signal ends it: whoever caught it is to see to it. */
	if (poll(&poll_fd, 1, (int)((wait_us + 999) / 1000)) <= 0)
		return 0;
	got = cl_tls_receive(tls, &byte, 1, error);
	if (got >= 0)
		return cl_error_set(error, -EPROTO, "it sent what nobody asked for");
	error->code = -EPROTO; /* whatever it was */
	return error->code;
}

void cl_tls_await_bye(struct cl_tls *tls)
{
	uint8_t unexpected[64];
	struct cl_error ended;

	while (cl_tls_receive(tls, unexpected, sizeof(unexpected), &ended) > 0)
		;
}

#else

int cl_tls_start(const struct cl_tls_credentials *credentials, int fd, struct cl_tls **out, struct cl_error *error)
{
	(void)credentials;
	(void)fd;
	*out = NULL;
	return cl_error_set(error, -ENOSYS, "TLS: not built in");
}

void cl_tls_free(struct cl_tls *tls)
{
	(void)tls;
}

int cl_tls_send(struct cl_tls *tls, const uint8_t *data, size_t bytes)
{
	(void)tls;
	(void)data;
	(void)bytes;
	return -ENOSYS;
}

int cl_tls_check(struct cl_tls *tls, uint64_t wait_us, struct cl_error *error)
{
	(void)tls;
	(void)wait_us;
	return cl_error_set(error, -ENOSYS, "TLS: not built in");
}

int64_t cl_tls_receive(struct cl_tls *tls, uint8_t *buffer, size_t size, struct cl_error *error)
{
	(void)tls;
	(void)buffer;
	(void)size;
	return cl_error_set(error, -ENOSYS, "TLS: not built in");
}

void cl_tls_await_bye(struct cl_tls *tls)
{
	(void)tls;
}

#endif
