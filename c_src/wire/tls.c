/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/tls.h"

#include <errno.h>

#ifdef CL_WITH_TLS

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/io.h"

/* criu's, with SYSCONFDIR=/etc as distributions build it. */
#define DEFAULT_CA_CERT "/etc/pki/CA/cacert.pem"
#define DEFAULT_CA_CRL "/etc/pki/CA/cacrl.pem"
#define DEFAULT_CERT "/etc/pki/criu/cert.pem"
#define DEFAULT_KEY "/etc/pki/criu/private/key.pem"

enum { HANDSHAKE_US = 10 * 1000 * 1000 };

/* With a key that both sides know there are no certificates, and both speak TLS 1.3, as fast as it goes. */
#define KEY_PRIORITY "NORMAL:-VERS-ALL:+VERS-TLS1.3:-KX-ALL:+ECDHE-PSK:-CIPHER-ALL:+AES-128-GCM:+CHACHA20-POLY1305"
#define KEY_NAME "criu-lazy"

enum { MIN_KEY_BYTES = 16 };

struct cl_tls_credentials {
	bool server;
	gnutls_certificate_credentials_t x509;
	gnutls_datum_t key; /* without data: x509 */
	gnutls_psk_client_credentials_t key_client;
	gnutls_psk_server_credentials_t key_server;
	char *host; /* whom the server's certificate must name, or NULL */
};

struct cl_tls {
	gnutls_session_t session;
	int fd;
	uint64_t deadline_us; /* of the handshake; 0 after it */
	/* the receiver's */
	bool dont_wait; /* the next pull may find nothing */
	bool received;  /* something, ever */
	int pull_errno; /* why the last pull failed; 0: it did not */
	int push_errno; /* why sending failed; the sender's */
};

/* ---- credentials ---- */

static int refuse_file(const char *what, const char *path, const char *why, struct cl_error *error)
{
	return cl_error_set(error, -EBADF, "TLS: %s %s: %s", what, path, why);
}

static int load(gnutls_certificate_credentials_t x509, const struct cl_tls_config *config, struct cl_error *error)
{
	const char *ca_cert = config->ca_cert ? config->ca_cert : DEFAULT_CA_CERT;
	const char *ca_crl = config->ca_crl ? config->ca_crl : DEFAULT_CA_CRL;
	const char *cert = config->cert ? config->cert : DEFAULT_CERT;
	const char *key = config->key ? config->key : DEFAULT_KEY;
	int ret;

	/* A client may well trust the public authorities, and none at all is no error: what counts is the server's
	 * certificate. Whoever has one of theirs is not a client of ours. */
	if (!config->ca_cert && !config->server)
		(void)gnutls_certificate_set_x509_system_trust(x509);
	if (access(ca_cert, R_OK) == 0) {
		ret = gnutls_certificate_set_x509_trust_file(x509, ca_cert, GNUTLS_X509_FMT_PEM);
		if (ret <= 0)
			return refuse_file("certificate authority", ca_cert,
					   ret ? gnutls_strerror(ret) : "there is no certificate in it", error);
	} else if (config->server && !config->ca_cert) {
		return refuse_file("certificate authority", ca_cert, "there is none; let --tls-cacert name the clients'",
				   error);
	} else if (config->ca_cert) {
		return refuse_file("certificate authority", ca_cert, strerror(errno), error);
	}
	if (access(ca_crl, R_OK) == 0) {
		ret = gnutls_certificate_set_x509_crl_file(x509, ca_crl, GNUTLS_X509_FMT_PEM);
		if (ret < 0)
			return refuse_file("revocation list", ca_crl, gnutls_strerror(ret), error);
	} else if (config->ca_crl) {
		return refuse_file("revocation list", ca_crl, strerror(errno), error);
	}
	if (access(cert, R_OK) < 0)
		return refuse_file("certificate", cert, strerror(errno), error);
	if (access(key, R_OK) < 0)
		return refuse_file("private key", key, strerror(errno), error);
	ret = gnutls_certificate_set_x509_key_file(x509, cert, key, GNUTLS_X509_FMT_PEM);
	return ret < 0 ? cl_error_set(error, -EBADF, "TLS: certificate %s with private key %s: %s", cert, key,
				      gnutls_strerror(ret)) :
			 0;
}

static int give_key(gnutls_session_t session, const char *name, gnutls_datum_t *key)
{
	const struct cl_tls_credentials *credentials = gnutls_session_get_ptr(session);

	if (strcmp(name, KEY_NAME) != 0)
		return -1;
	key->data = gnutls_malloc(credentials->key.size);
	if (!key->data)
		return -1;
	memcpy(key->data, credentials->key.data, credentials->key.size);
	key->size = credentials->key.size;
	return 0;
}

static int load_key(struct cl_tls_credentials *credentials, const char *hex, struct cl_error *error)
{
	const gnutls_datum_t text = { .data = (unsigned char *)hex, .size = (unsigned int)strlen(hex) };
	int ret = gnutls_hex_decode2(&text, &credentials->key);

	if (ret < 0 || credentials->key.size < MIN_KEY_BYTES)
		return cl_error_set(error, -EBADF, "TLS: the key is to be %d hexadecimal digits or more", 2 * MIN_KEY_BYTES);
	if (credentials->server) {
		ret = gnutls_psk_allocate_server_credentials(&credentials->key_server);
		if (ret == 0)
			gnutls_psk_set_server_credentials_function(credentials->key_server, give_key);
	} else {
		ret = gnutls_psk_allocate_client_credentials(&credentials->key_client);
		if (ret == 0)
			ret = gnutls_psk_set_client_credentials(credentials->key_client, KEY_NAME, &credentials->key,
								GNUTLS_PSK_KEY_RAW);
	}
	return ret < 0 ? cl_error_set(error, -ENOMEM, "TLS: key: %s", gnutls_strerror(ret)) : 0;
}

/* What these credentials are made of. 0, or error->code. */
static int load_all(struct cl_tls_credentials *credentials, const struct cl_tls_config *config, struct cl_error *error)
{
	credentials->server = config->server;
	if (config->key_hex)
		return load_key(credentials, config->key_hex, error);
	if (config->host && !config->no_cn_verify) {
		credentials->host = strdup(config->host);
		if (!credentials->host)
			return cl_error_set(error, -ENOMEM, "TLS: no memory");
	}
	if (gnutls_certificate_allocate_credentials(&credentials->x509) < 0)
		return cl_error_set(error, -ENOMEM, "TLS: no memory");
	return load(credentials->x509, config, error);
}

int cl_tls_load(const struct cl_tls_config *config, struct cl_tls_credentials **out, struct cl_error *error)
{
	struct cl_tls_credentials *credentials = calloc(1, sizeof(*credentials));
	int ret = credentials ? load_all(credentials, config, error) : cl_error_set(error, -ENOMEM, "TLS: no memory");

	if (ret < 0)
		cl_tls_credentials_free(credentials);
	else
		*out = credentials;
	return ret;
}

void cl_tls_credentials_free(struct cl_tls_credentials *credentials)
{
	if (!credentials)
		return;
	if (credentials->x509)
		gnutls_certificate_free_credentials(credentials->x509);
	if (credentials->key_client)
		gnutls_psk_free_client_credentials(credentials->key_client);
	if (credentials->key_server)
		gnutls_psk_free_server_credentials(credentials->key_server);
	if (credentials->key.data) {
		gnutls_memset(credentials->key.data, 0, credentials->key.size);
		gnutls_free(credentials->key.data);
	}
	free(credentials->host);
	free(credentials);
}

/* ---- the socket, as GnuTLS sees it ----
 *
 * A pull that fails is always EAGAIN to GnuTLS, which would give the whole session up for anything else, sending
 * included; pull_errno tells us. (An end of file would be PREMATURE_TERMINATION, in whatever state.)
 */

static ssize_t pull(gnutls_transport_ptr_t context, void *data, size_t size)
{
	struct cl_tls *tls = context;
	int64_t got;

	tls->pull_errno = 0;
	if (tls->deadline_us) {
		struct pollfd poll_fd = { .fd = tls->fd, .events = POLLIN };
		int ready = poll(&poll_fd, 1, cl_deadline_poll_ms(tls->deadline_us)); /* a signal ends it */

		if (ready <= 0) {
			tls->pull_errno = ready < 0 ? errno : ETIMEDOUT;
			errno = EAGAIN;
			return -1;
		}
	}
	got = cl_receive(tls->fd, data, size, tls->dont_wait ? MSG_DONTWAIT : 0);
	if (got > 0)
		return (ssize_t)got;
	tls->pull_errno = (int)-got;
	errno = EAGAIN;
	return -1;
}

/* All of it, or an error. */
static ssize_t push(gnutls_transport_ptr_t context, const void *data, size_t size)
{
	struct cl_tls *tls = context;
	int ret = cl_send_all(tls->fd, data, size, 0);

	tls->push_errno = -ret;
	return ret < 0 ? -1 : (ssize_t)size;
}

/* ---- the handshake ---- */

static const char *peer(const struct cl_tls_credentials *credentials)
{
	return credentials->server ? "the client" : "the page server";
}

/* What is wrong with the peer's certificate, as GnuTLS says it: sentences. */
static void explain_certificate(gnutls_session_t session, const struct cl_tls_credentials *credentials,
				struct cl_error *error)
{
	unsigned int status = gnutls_session_get_verify_cert_status(session);
	const char *host = credentials->host;
	gnutls_datum_t text = { .data = NULL };
	int length;

	if (gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0) < 0)
		text.data = NULL;
	length = text.data ? (int)strlen((char *)text.data) : 0;
	while (length && text.data[length - 1] == ' ')
		length--;
	cl_error_set(error, -EACCES, "TLS: %s's certificate%s%s: %.*s", peer(credentials), host ? ", asked for as " : "",
		     host ? host : "", length, text.data ? (char *)text.data : "");
	gnutls_free(text.data);
}

static int handshake_failed(struct cl_tls *tls, const struct cl_tls_credentials *credentials, int ret,
			    struct cl_error *error)
{
	int reason = tls->push_errno ? tls->push_errno : tls->pull_errno;

	if (ret == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR) {
		explain_certificate(tls->session, credentials, error);
		(void)gnutls_alert_send_appropriate(tls->session, ret);
		return error->code;
	}
	if (ret == GNUTLS_E_AGAIN || ret == GNUTLS_E_PUSH_ERROR) {
		cl_error_set(error, -reason, "%s",
			     reason != ECONNRESET ? strerror(reason) :
			     credentials->server ? "it closed the connection" :
						   "it closed the connection; is --tls given there, and what says its log?");
	} else {
		if (ret == GNUTLS_E_FATAL_ALERT_RECEIVED)
			cl_error_set(error, -EPROTO, "it refused: %s",
				     gnutls_alert_get_name(gnutls_alert_get(tls->session)));
		else
			cl_error_set(error, -EPROTO, "%s", gnutls_strerror(ret));
		(void)gnutls_alert_send_appropriate(tls->session, ret);
	}
	return cl_error_prefix(error, "TLS: handshake with %s: ", peer(credentials));
}

/* 0 or GnuTLS's error. */
static int set_up(gnutls_session_t session, const struct cl_tls_credentials *credentials)
{
	int ret;

	if (credentials->key.data) {
		ret = gnutls_priority_set_direct(session, KEY_PRIORITY, NULL);
		gnutls_session_set_ptr(session, (void *)(uintptr_t)credentials);
		if (ret < 0)
			return ret;
		return gnutls_credentials_set(session, GNUTLS_CRD_PSK,
					      credentials->server ? (void *)credentials->key_server :
								    (void *)credentials->key_client);
	}
	ret = gnutls_set_default_priority(session);
	if (ret == 0)
		ret = gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials->x509);
	if (ret == 0 && credentials->server)
		gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
	/*
	 * Checked inside the handshake: with criu's own way, after it, a client that leaves a server which it doesn't
	 * trust looks to that server like one that has everything, and the task is killed.
	 */
	gnutls_session_set_verify_cert(session, credentials->host, 0);
	return ret;
}

int cl_tls_start(const struct cl_tls_credentials *credentials, int fd, struct cl_tls **out, struct cl_error *error)
{
	struct cl_tls *tls = calloc(1, sizeof(*tls));
	int ret;

	if (!tls)
		return cl_error_set(error, -ENOMEM, "TLS: no memory");
	tls->fd = fd;
	ret = gnutls_init(&tls->session, credentials->server ? GNUTLS_SERVER : GNUTLS_CLIENT);
	if (ret < 0) {
		free(tls);
		return cl_error_set(error, -ENOMEM, "TLS: %s", gnutls_strerror(ret));
	}
	ret = set_up(tls->session, credentials);
	if (ret < 0) {
		cl_tls_free(tls);
		return cl_error_set(error, -EPROTO, "TLS: %s", gnutls_strerror(ret));
	}
	gnutls_transport_set_ptr(tls->session, tls);
	gnutls_transport_set_pull_function(tls->session, pull);
	gnutls_transport_set_push_function(tls->session, push);
	tls->deadline_us = cl_now_us() + HANDSHAKE_US;
	do
		ret = gnutls_handshake(tls->session);
	while (ret < 0 && !gnutls_error_is_fatal(ret) && !tls->pull_errno);
	tls->deadline_us = 0;
	if (ret < 0) {
		ret = handshake_failed(tls, credentials, ret, error);
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
	gnutls_deinit(tls->session);
	free(tls);
}

/* ---- the session ---- */

int cl_tls_send(struct cl_tls *tls, const uint8_t *data, size_t bytes)
{
	ssize_t sent;

	tls->push_errno = 0;
	do
		sent = gnutls_record_send(tls->session, data, bytes);
	while (sent == GNUTLS_E_AGAIN || sent == GNUTLS_E_INTERRUPTED);
	if (sent < 0)
		return tls->push_errno ? -tls->push_errno : -EPROTO;
	return (size_t)sent == bytes ? 0 : -EMSGSIZE;
}

int64_t cl_tls_receive(struct cl_tls *tls, uint8_t *buffer, size_t size, struct cl_error *error)
{
	size_t total = 0;
	ssize_t got;

	for (tls->dont_wait = false; total < size;) {
		tls->pull_errno = 0;
		got = gnutls_record_recv(tls->session, buffer + total, size - total);
		if (got > 0) {
			total += (size_t)got;
			tls->dont_wait = tls->received = true;
			continue;
		}
		if (total) /* what is wrong, if anything is, will be so again */
			break;
		switch (got) {
		case GNUTLS_E_AGAIN: /* or it was something that is GnuTLS's own business */
			if (!tls->pull_errno)
				continue;
			if (tls->pull_errno != ECONNRESET)
				return cl_error_set(error, -tls->pull_errno, "%s", strerror(tls->pull_errno));
			/* fall through */
		case 0:
			if (tls->received)
				return cl_error_set(error, -ECONNRESET, "the connection was closed");
			return cl_error_set(
				error, -EPROTO,
				"it closed the connection at once (its log tells whether it refused our certificate)");
		case GNUTLS_E_INTERRUPTED:
		case GNUTLS_E_WARNING_ALERT_RECEIVED:
			continue;
		case GNUTLS_E_FATAL_ALERT_RECEIVED:
			return cl_error_set(error, -EPROTO, "TLS alert: %s",
					    gnutls_alert_get_name(gnutls_alert_get(tls->session)));
		default:
			/* Once there was an agreement, it is somebody on the way who broke it. */
			return cl_error_set(error, tls->received ? -ECONNRESET : -EPROTO, "TLS: %s",
					    gnutls_strerror((int)got));
		}
	}
	return (int64_t)total;
}

int cl_tls_check(struct cl_tls *tls, uint64_t wait_us, struct cl_error *error)
{
	struct pollfd poll_fd = { .fd = tls->fd, .events = POLLRDHUP };
	int64_t got;
	uint8_t byte;

	if (gnutls_protocol_get_version(tls->session) != GNUTLS_TLS1_3 ||
	    gnutls_auth_client_get_type(tls->session) != GNUTLS_CRD_CERTIFICATE)
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

int cl_tls_load(const struct cl_tls_config *config, struct cl_tls_credentials **out, struct cl_error *error)
{
	(void)config;
	*out = NULL;
	return cl_error_set(error, -ENOSYS,
			    "TLS: criu-lazy was built without GnuTLS; install libgnutls28-dev and build it again");
}

void cl_tls_credentials_free(struct cl_tls_credentials *credentials)
{
	(void)credentials;
}

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
