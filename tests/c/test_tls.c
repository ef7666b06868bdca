/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS sessions by a key, over a socket pair: content both ways at once, the ends of a connection, timeouts, damage, a peer
 * that changes its keys, and who must be refused. (Certificates: tests/system/test_tls.py, with criu at the other end.)
 */
#include <errno.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "check.h"
#include "criu_lazy.h"
#include "wire/conn.h"

enum { BYTES = 6 << 20, PIECE = 300 << 10 };

#define KEY "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define OTHER_KEY "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

struct end {
	pthread_t thread;
	int fd;
	const char *key;
	bool server;
	struct cl_tls_credentials *credentials;
	struct cl_conn conn;
	int ret;
	struct cl_error error;
};

static void *shake_hands(void *argument)
{
	struct end *end = argument;
	struct cl_tls_config config = { .key_hex = end->key, .server = end->server };

	CHECK(cl_tls_load(&config, &end->credentials, &end->error) == 0);
	end->conn.fd = end->fd;
	end->ret = cl_tls_start(end->credentials, end->fd, &end->conn.tls, &end->error);
	if (end->ret < 0)
		(void)shutdown(end->fd, SHUT_RDWR);
	return NULL;
}

static void start(struct end *end, int fd, const char *key, bool server)
{
	*end = (struct end){ .fd = fd, .key = key, .server = server };
	CHECK(pthread_create(&end->thread, NULL, shake_hands, end) == 0);
}

/* Two ends, with a session if the keys are the same. */
static void connect_both(struct end ends[2], const char *key, const char *server_key)
{
	int fds[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	start(&ends[0], fds[0], key, false);
	start(&ends[1], fds[1], server_key, true);
	CHECK(pthread_join(ends[0].thread, NULL) == 0 && pthread_join(ends[1].thread, NULL) == 0);
}

static void close_both(struct end ends[2])
{
	unsigned int i;

	for (i = 0; i < 2; i++) {
		cl_conn_close(&ends[i].conn);
		cl_tls_credentials_free(ends[i].credentials);
	}
}

static void *send_all(void *argument)
{
	struct end *end = argument;
	uint64_t random = end->server, content = end->server;
	uint8_t *piece = malloc(PIECE);
	size_t sent, part, i;

	CHECK(piece);
	for (sent = 0; sent < BYTES; sent += part) {
		part = 1 + next_random(&random) % (next_random(&random) % 2 ? PIECE : 100);
		if (part > BYTES - sent)
			part = BYTES - sent;
		for (i = 0; i < part; i++)
			piece[i] = (uint8_t)(content++ * 7 >> 3);
		CHECK(cl_conn_send(end->conn, piece, part) == 0);
	}
	free(piece);
	return NULL;
}

static void *receive_all(void *argument)
{
	struct end *end = argument;
	uint64_t random = 2, content = !end->server;
	uint8_t *piece = malloc(PIECE);
	size_t total = 0;
	int64_t got, i;

	CHECK(piece);
	while (total < BYTES) {
		got = cl_conn_receive(end->conn, piece, 1 + next_random(&random) % PIECE, &end->error);
		CHECK(got > 0);
		total += (size_t)got;
		for (i = 0; i < got; i++)
			CHECK(piece[i] == (uint8_t)(content++ * 7 >> 3));
	}
	CHECK(total == BYTES);
	free(piece);
	return NULL;
}

static void check_content_both_ways_at_once(void)
{
	pthread_t threads[4];
	struct end ends[2];
	unsigned int i;

	connect_both(ends, KEY, KEY);
	CHECK(ends[0].ret == 0 && ends[1].ret == 0);
	for (i = 0; i < 4; i++)
		CHECK(pthread_create(&threads[i], NULL, i < 2 ? send_all : receive_all, &ends[i % 2]) == 0);
	for (i = 0; i < 4; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	close_both(ends);
}

static void *receive_nothing(void *argument)
{
	struct end *end = argument;
	uint8_t byte;

	CHECK(cl_conn_receive(end->conn, &byte, 1, &end->error) < 0);
	return NULL;
}

/* A receiver that is shut down leaves a session that can send; an end without a good-bye is an error, after the content. */
static void check_the_ends(void)
{
	struct end ends[2];
	uint8_t data[16];
	pthread_t thread;

	connect_both(ends, KEY, KEY);
	CHECK(pthread_create(&thread, NULL, receive_nothing, &ends[0]) == 0);
	CHECK(shutdown(ends[0].fd, SHUT_RD) == 0 && pthread_join(thread, NULL) == 0);
	CHECK(cl_conn_send(ends[0].conn, (const uint8_t *)"all the same", 12) == 0);
	CHECK(shutdown(ends[0].fd, SHUT_WR) == 0);
	CHECK(cl_conn_receive(ends[1].conn, data, sizeof(data), &ends[1].error) == 12 && !memcmp(data, "all the same", 12));
	CHECK(cl_conn_receive(ends[1].conn, data, sizeof(data), &ends[1].error) == -ECONNRESET);
	CHECK(strcmp(ends[1].error.text, "the connection was closed") == 0);
	CHECK(cl_conn_send(ends[1].conn, data, 1) == -EPIPE); /* no signal */
	close_both(ends);
}

static void check_timeouts_and_damage(void)
{
	const struct timeval soon = { .tv_usec = 1000 };
	const uint8_t damage[64] = { 23, 3, 3, 0, 40 };
	struct end ends[2];
	uint8_t byte = 9;

	connect_both(ends, KEY, KEY);
	CHECK(setsockopt(ends[0].fd, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof(soon)) == 0);
	CHECK(cl_conn_receive(ends[0].conn, &byte, 1, &ends[0].error) == -EAGAIN);
	CHECK(cl_conn_send(ends[1].conn, &byte, 1) == 0);
	CHECK(cl_conn_receive(ends[0].conn, &byte, 1, &ends[0].error) == 1 && byte == 9);
	CHECK(send(ends[1].fd, damage, sizeof(damage), 0) == sizeof(damage));
	CHECK(cl_conn_receive(ends[0].conn, &byte, 1, &ends[0].error) == -ECONNRESET);
	CHECK(cl_conn_send(ends[0].conn, &byte, 1) < 0);
	close_both(ends);
}

static void check_another_key_is_refused(void)
{
	static const char *const bad[] = { "", "00ff", "none" };
	struct cl_tls_credentials *credentials;
	struct cl_error error;
	struct end ends[2];
	size_t i;

	connect_both(ends, KEY, OTHER_KEY);
	CHECK(ends[0].ret < 0 && ends[1].ret < 0);
	CHECK(strstr(ends[0].error.text, "TLS: handshake with the page server: "));
	close_both(ends);
	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct cl_tls_config config = { .key_hex = bad[i] };

		CHECK(cl_tls_load(&config, &credentials, &error) == -EBADF);
	}
}

/* ---- another program at the server's end ---- */

static int know_key(SSL *session, const unsigned char *name, size_t bytes, SSL_SESSION **known)
{
	static const unsigned char cipher[] = { 0x13, 0x01 };
	unsigned char key[32];
	size_t i;

	for (i = 0; i < sizeof(key); i++)
		key[i] = (unsigned char)i;
	CHECK(bytes == 9 && memcmp(name, "criu-lazy", 9) == 0);
	*known = SSL_SESSION_new();
	CHECK(*known && SSL_SESSION_set1_master_key(*known, key, sizeof(key)));
	CHECK(SSL_SESSION_set_cipher(*known, SSL_CIPHER_find(session, cipher)));
	CHECK(SSL_SESSION_set_protocol_version(*known, TLS1_3_VERSION));
	return 1;
}

static void use_own_certificate(SSL_CTX *context)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = X509_new();

	CHECK(key && certificate && X509_set_pubkey(certificate, key));
	CHECK(X509_gmtime_adj(X509_getm_notBefore(certificate), 0));
	CHECK(X509_gmtime_adj(X509_getm_notAfter(certificate), 3600) && X509_sign(certificate, key, EVP_sha256()));
	CHECK(SSL_CTX_use_certificate(context, certificate) && SSL_CTX_use_PrivateKey(context, key));
	X509_free(certificate);
	EVP_PKEY_free(key);
}

/* It must know nothing, and not get in: our client was told a key, not a certificate. */
static void check_a_certificate_does_not_stand_for_the_key(void)
{
	SSL_CTX *context = SSL_CTX_new(TLS_server_method());
	struct end client;
	SSL *session;
	int fds[2];

	CHECK(context && socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	use_own_certificate(context);
	session = SSL_new(context);
	CHECK(session && SSL_set_fd(session, fds[1]));
	start(&client, fds[0], KEY, false);
	CHECK(SSL_accept(session) <= 0);
	CHECK(pthread_join(client.thread, NULL) == 0 && client.ret == -EACCES);
	cl_conn_close(&client.conn);
	cl_tls_credentials_free(client.credentials);
	SSL_free(session);
	SSL_CTX_free(context);
	close(fds[1]);
}

/* It asks for a change of the other side's key, too, which is told before the next content. */
static void check_a_peer_may_change_keys(void)
{
	SSL_CTX *context = SSL_CTX_new(TLS_server_method());
	struct end client;
	uint8_t data[8];
	SSL *session;
	int fds[2], i;

	CHECK(context && socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	SSL_CTX_set_psk_find_session_callback(context, know_key);
	session = SSL_new(context);
	CHECK(session && SSL_set_fd(session, fds[1]));
	start(&client, fds[0], KEY, false);
	CHECK(SSL_accept(session) == 1);
	CHECK(pthread_join(client.thread, NULL) == 0 && client.ret == 0);
	for (i = 0; i < 3; i++) {
		CHECK(SSL_key_update(session, SSL_KEY_UPDATE_REQUESTED) == 1 && SSL_write(session, "from it", 7) == 7);
		CHECK(cl_conn_receive(client.conn, data, sizeof(data), &client.error) == 7 && !memcmp(data, "from it", 7));
		CHECK(cl_conn_send(client.conn, (const uint8_t *)"from us", 7) == 0);
		CHECK(SSL_read(session, data, sizeof(data)) == 7 && !memcmp(data, "from us", 7));
	}
	cl_conn_close(&client.conn);
	cl_tls_credentials_free(client.credentials);
	SSL_free(session);
	SSL_CTX_free(context);
	close(fds[1]);
}

int main(void)
{
	check_content_both_ways_at_once();
	check_the_ends();
	check_timeouts_and_damage();
	check_another_key_is_refused();
	check_a_certificate_does_not_stand_for_the_key();
	check_a_peer_may_change_keys();
	return 0;
}
