/* SPDX-License-Identifier: Apache-2.0 */
/* tls_credentials: the certificates or the key that TLS sessions are made with (tls.h). */
#ifndef CL_TLS_CREDENTIALS_H
#define CL_TLS_CREDENTIALS_H

#include <stdbool.h>

#include "base/error.h"

/* For tls.c. */
struct cl_tls_credentials {
	struct ssl_ctx_st *context;
	bool server;
	unsigned char *key; /* NULL: x509 */
	long key_bytes;
	char *host; /* whom the server's certificate must name, or NULL */
};

/* Load certificates and keys, or a key. 0, or error->code: -ENOSYS, -ENOMEM, -EBADF. */
int cl_tls_load(const struct cl_tls_config *config, struct cl_tls_credentials **out, struct cl_error *error);
void cl_tls_credentials_free(struct cl_tls_credentials *credentials);

/* Why OpenSSL's last call of this thread failed. */
const char *cl_tls_reason(void);

#endif
