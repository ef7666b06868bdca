/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/tls_credentials.h"

#include <errno.h>

#ifdef CL_WITH_TLS

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* criu's, with SYSCONFDIR=/etc as distributions build it. */
#define DEFAULT_CA_CERT "/etc/pki/CA/cacert.pem"
#define DEFAULT_CA_CRL "/etc/pki/CA/cacrl.pem"
#define DEFAULT_CERT "/etc/pki/criu/cert.pem"
#define DEFAULT_KEY "/etc/pki/criu/private/key.pem"

/* The fastest first. The first and the second are all that a key is for: its handshakes are hashed by SHA-256. */
#define CIPHERS_OF_KEY "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256"
#define CIPHERS CIPHERS_OF_KEY ":TLS_AES_256_GCM_SHA384"
/*
 * OpenSSL 3.5's default key share has more than 1,100 bytes: where bulk doesn't pass, the handshake would time out, and
 * nobody could tell why. What that share is for, a peer with a quantum computer, the key withstands by itself.
 */
#define GROUPS_OF_KEY "X25519:P-256"
#define KEY_NAME "criu-lazy"

static const unsigned char cipher_of_key[] = { 0x13, 0x01 }; /* TLS_AES_128_GCM_SHA256 */

enum {
	MIN_KEY_BYTES = 16,
	MAX_KEY_BYTES = 256,         /* OpenSSL's */
	READ_AHEAD_BYTES = 32 << 10, /* received by one system call; more would not stay in the cache */
};

/* Why OpenSSL's last call failed. */
const char *cl_tls_reason(void)
{
	unsigned long code = ERR_peek_error();
	const char *text = ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);

	return text ? text : "unknown error";
}

static int refuse_file(const char *what, const char *path, const char *why, struct cl_error *error)
{
	return cl_error_set(error, -EBADF, "TLS: %s %s: %s", what, path, why);
}

static int load_authorities(SSL_CTX *context, const struct cl_tls_config *config, struct cl_error *error)
{
	const char *ca_cert = config->ca_cert ? config->ca_cert : DEFAULT_CA_CERT;
	const char *ca_crl = config->ca_crl ? config->ca_crl : DEFAULT_CA_CRL;
	X509_STORE *store = SSL_CTX_get_cert_store(context);
	X509_LOOKUP *lookup;

	/* A client may well trust the public authorities, and none at all is no error: what counts is the server's
	 * certificate. Whoever has one of theirs is not a client of ours. */
	if (!config->ca_cert && !config->server)
		(void)SSL_CTX_set_default_verify_paths(context);
	if (access(ca_cert, R_OK) == 0) {
		if (!SSL_CTX_load_verify_file(context, ca_cert))
			return refuse_file("certificate authority", ca_cert, cl_tls_reason(), error);
	} else if (config->server && !config->ca_cert) {
		return refuse_file("certificate authority", ca_cert, "there is none; let --tls-cacert name the clients'",
				   error);
	} else if (config->ca_cert) {
		return refuse_file("certificate authority", ca_cert, strerror(errno), error);
	}
	if (access(ca_crl, R_OK) == 0) {
		lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());
		if (!lookup || X509_load_crl_file(lookup, ca_crl, X509_FILETYPE_PEM) <= 0)
			return refuse_file("revocation list", ca_crl, cl_tls_reason(), error);
		(void)X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
	} else if (config->ca_crl) {
		return refuse_file("revocation list", ca_crl, strerror(errno), error);
	}
	return 0;
}

static int load_own(SSL_CTX *context, const struct cl_tls_config *config, struct cl_error *error)
{
	const char *cert = config->cert ? config->cert : DEFAULT_CERT;
	const char *key = config->key ? config->key : DEFAULT_KEY;

	if (access(cert, R_OK) < 0)
		return refuse_file("certificate", cert, strerror(errno), error);
	if (access(key, R_OK) < 0)
		return refuse_file("private key", key, strerror(errno), error);
	if (!SSL_CTX_use_certificate_chain_file(context, cert) ||
	    !SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM))
		return cl_error_set(error, -EBADF, "TLS: certificate %s with private key %s: %s", cert, key,
				    cl_tls_reason());
	return 0;
}

/* A private key that is encrypted is refused: nobody is there to be asked. */
static int give_no_password(char *out, int size, int writes, void *context)
{
	(void)out;
	(void)size;
	(void)writes;
	(void)context;
	return -1;
}

/* As GnuTLS, and so criu, has it: an address may be written as a name, and a name in the subject if nowhere else. */
static bool names_host(X509 *certificate, const char *host)
{
	return X509_check_ip_asc(certificate, host, 0) == 1 ||
	       X509_check_host(certificate, host, 0, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) == 1;
}

/* Those that a session was made with. */
static const struct cl_tls_credentials *credentials_of(const SSL *session)
{
	return SSL_CTX_get_app_data(SSL_get_SSL_CTX(session));
}

static int judge_certificate(int is_good, X509_STORE_CTX *chain)
{
	SSL *session = X509_STORE_CTX_get_ex_data(chain, SSL_get_ex_data_X509_STORE_CTX_idx());
	const char *host = credentials_of(session)->host;

	/* There are lists of some authorities only. */
	if (!is_good && X509_STORE_CTX_get_error(chain) == X509_V_ERR_UNABLE_TO_GET_CRL) {
		X509_STORE_CTX_set_error(chain, X509_V_OK);
		is_good = 1;
	}
	if (is_good && host && X509_STORE_CTX_get_error_depth(chain) == 0 &&
	    !names_host(X509_STORE_CTX_get_current_cert(chain), host)) {
		X509_STORE_CTX_set_error(chain, X509_V_ERR_HOSTNAME_MISMATCH);
		is_good = 0;
	}
	return is_good;
}

static int load_x509(struct cl_tls_credentials *credentials, const struct cl_tls_config *config, struct cl_error *error)
{
	SSL_CTX *context = credentials->context;
	X509_VERIFY_PARAM *rules = SSL_CTX_get0_param(context);
	int ret;

	if (config->host && !config->no_cn_verify) {
		credentials->host = strdup(config->host);
		if (!credentials->host)
			return cl_error_set(error, -ENOMEM, "TLS: no memory");
	}
	SSL_CTX_set_default_passwd_cb(context, give_no_password);
	/*
	 * Checked inside the handshake: with criu's own way, after it, a client that leaves a server which it doesn't
	 * trust looks to that server like one that has everything, and the task is killed.
	 */
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, judge_certificate);
	/* As GnuTLS, and so criu: whatever certificate is named is trusted, and one will do for both sides. */
	(void)X509_VERIFY_PARAM_set_flags(rules, X509_V_FLAG_PARTIAL_CHAIN);
	(void)X509_VERIFY_PARAM_set_purpose(rules, X509_PURPOSE_ANY);
	ret = load_authorities(context, config, error);
	return ret < 0 ? ret : load_own(context, config, error);
}

/* The key, as a session of which both sides know. NULL: no memory. */
static SSL_SESSION *known_session(SSL *session)
{
	const struct cl_tls_credentials *credentials = credentials_of(session);
	SSL_SESSION *known = SSL_SESSION_new();

	if (known && SSL_SESSION_set1_master_key(known, credentials->key, (size_t)credentials->key_bytes) &&
	    SSL_SESSION_set_cipher(known, SSL_CIPHER_find(session, cipher_of_key)) &&
	    SSL_SESSION_set_protocol_version(known, TLS1_3_VERSION))
		return known;
	SSL_SESSION_free(known);
	return NULL;
}

static int use_key(SSL *session, const EVP_MD *hash, const unsigned char **name, size_t *name_bytes, SSL_SESSION **known)
{
	(void)hash; /* the ciphers have but one */
	*name = (const unsigned char *)KEY_NAME;
	*name_bytes = strlen(KEY_NAME);
	*known = known_session(session);
	return *known != NULL;
}

static int find_key(SSL *session, const unsigned char *name, size_t name_bytes, SSL_SESSION **known)
{
	bool is_ours = name_bytes == strlen(KEY_NAME) && memcmp(name, KEY_NAME, name_bytes) == 0;

	*known = is_ours ? known_session(session) : NULL;
	return !is_ours || *known;
}

static int load_key(struct cl_tls_credentials *credentials, const char *hex, struct cl_error *error)
{
	SSL_CTX *context = credentials->context;

	credentials->key = OPENSSL_hexstr2buf(hex, &credentials->key_bytes);
	if (!credentials->key || credentials->key_bytes < MIN_KEY_BYTES || credentials->key_bytes > MAX_KEY_BYTES)
		return cl_error_set(error, -EBADF, "TLS: the key is to be %d hexadecimal digits or more, up to %d",
				    2 * MIN_KEY_BYTES, 2 * MAX_KEY_BYTES);
	if (!SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) || !SSL_CTX_set_ciphersuites(context, CIPHERS_OF_KEY) ||
	    !SSL_CTX_set1_groups_list(context, GROUPS_OF_KEY))
		return cl_error_set(error, -ENOSYS, "TLS: %s", cl_tls_reason());
	if (credentials->server) {
		SSL_CTX_set_psk_find_session_callback(context, find_key);
	} else {
		SSL_CTX_set_psk_use_session_callback(context, use_key);
		/* Nobody is trusted who shows a certificate instead of knowing the key. */
		SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	}
	return 0;
}

/* What these credentials are made of. 0, or error->code. */
static int load_all(struct cl_tls_credentials *credentials, const struct cl_tls_config *config, struct cl_error *error)
{
	SSL_CTX *context = SSL_CTX_new(config->server ? TLS_server_method() : TLS_client_method());

	ERR_clear_error();
	credentials->server = config->server;
	credentials->context = context;
	if (!context || !SSL_CTX_set_app_data(context, credentials))
		return cl_error_set(error, -ENOMEM, "TLS: no memory");
	(void)SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION);
	(void)SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	(void)SSL_CTX_set_num_tickets(context, 0);
	(void)SSL_CTX_set_mode(context, SSL_MODE_AUTO_RETRY); /* so a read ends with content or without anything to read */
	SSL_CTX_set_read_ahead(context, 1);
	SSL_CTX_set_default_read_buffer_len(context, READ_AHEAD_BYTES);
	if (config->key_hex)
		return load_key(credentials, config->key_hex, error);
	if (!SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) || !SSL_CTX_set_ciphersuites(context, CIPHERS))
		return cl_error_set(error, -ENOSYS, "TLS: %s", cl_tls_reason());
	return load_x509(credentials, config, error);
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
	SSL_CTX_free(credentials->context);
	if (credentials->key)
		OPENSSL_clear_free(credentials->key, (size_t)credentials->key_bytes);
	free(credentials->host);
	free(credentials);
}

#else

int cl_tls_load(const struct cl_tls_config *config, struct cl_tls_credentials **out, struct cl_error *error)
{
	(void)config;
	*out = NULL;
	return cl_error_set(error, -ENOSYS,
			    "TLS: criu-lazy was built without OpenSSL; install libssl-dev and build it again");
}

void cl_tls_credentials_free(struct cl_tls_credentials *credentials)
{
	(void)credentials;
}

#endif
