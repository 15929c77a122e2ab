/* TLS by GnuTLS: loading the server's files, and sessions. */
#include "linux/nbd/tls.h"

#include <ashlar/blk_driver.h>

#include <errno.h>

#include "base/platform.h"

struct nbd_tls {
    gnutls_certificate_credentials_t certificate; /* one of the two is set */
    gnutls_psk_server_credentials_t psk;
    gnutls_priority_t priority;
    bool verify_client;
};

static int load_certificate(struct nbd_tls *t, const struct nbd_tls_files *f, struct blk_error *err)
{
    int e = gnutls_certificate_allocate_credentials(&t->certificate);
    if (e < 0)
        return blk_error_set(err, -ENOMEM, "TLS: %s", gnutls_strerror(e));
    e = gnutls_certificate_set_x509_key_file(t->certificate, f->cert, f->key, GNUTLS_X509_FMT_PEM);
    if (e < 0)
        return blk_error_set(err, -EIO, "TLS certificate %s with key %s: %s", f->cert, f->key,
                             gnutls_strerror(e));
    if (!f->ca)
        return 0;
    t->verify_client = true;
    e = gnutls_certificate_set_x509_trust_file(t->certificate, f->ca, GNUTLS_X509_FMT_PEM);
    if (e < 0)
        return blk_error_set(err, -EIO, "TLS authority %s: %s", f->ca, gnutls_strerror(e));
    if (e == 0)
        return blk_error_set(err, -EIO, "TLS authority %s: holds no certificate", f->ca);
    return 0;
}

static int load_psk(struct nbd_tls *t, const struct nbd_tls_files *f, struct blk_error *err)
{
    int e = gnutls_psk_allocate_server_credentials(&t->psk);
    if (e == 0)
        e = gnutls_psk_set_server_credentials_file(t->psk, f->psk);
    return e < 0 ? blk_error_set(err, -EIO, "TLS keys %s: %s", f->psk, gnutls_strerror(e)) : 0;
}

int nbd_tls_load(const struct nbd_tls_files *f, struct nbd_tls **tls, struct blk_error *err)
{
    struct nbd_tls *t = base_alloc(sizeof(*t));
    *tls = NULL;
    if (!t)
        return blk_error_set(err, -ENOMEM, "out of memory");
    int error = f->psk ? load_psk(t, f, err) : load_certificate(t, f, err);
    if (error == 0) {
        int e = gnutls_priority_init(&t->priority,
                                     f->psk ? "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-KX-ALL:"
                                              "+ECDHE-PSK:+DHE-PSK:+PSK"
                                            : "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2",
                                     NULL);
        if (e < 0)
            error = blk_error_set(err, -EIO, "TLS: %s", gnutls_strerror(e));
    }
    if (error < 0) {
        nbd_tls_free(t);
        return error;
    }
    *tls = t;
    return 0;
}

void nbd_tls_free(struct nbd_tls *t)
{
    if (!t)
        return;
    if (t->certificate)
        gnutls_certificate_free_credentials(t->certificate);
    if (t->psk)
        gnutls_psk_free_server_credentials(t->psk);
    if (t->priority)
        gnutls_priority_deinit(t->priority);
    base_free(t);
}

int nbd_tls_session(const struct nbd_tls *t, int fd, gnutls_session_t *session)
{
    gnutls_session_t s;
    if (gnutls_init(&s, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) < 0)
        return -ENOMEM;
    int e = gnutls_priority_set(s, t->priority);
    if (e == 0 && t->psk)
        e = gnutls_credentials_set(s, GNUTLS_CRD_PSK, t->psk);
    else if (e == 0)
        e = gnutls_credentials_set(s, GNUTLS_CRD_CERTIFICATE, t->certificate);
    if (e < 0) {
        gnutls_deinit(s);
        return -ENOMEM;
    }
    if (t->verify_client) {
        gnutls_certificate_server_set_request(s, GNUTLS_CERT_REQUIRE);
        gnutls_session_set_verify_cert(s, NULL, 0);
    }
    gnutls_transport_set_int(s, fd);
    gnutls_handshake_set_timeout(s, GNUTLS_INDEFINITE_TIMEOUT);
    *session = s;
    return 0;
}
