"""TLS to the stores: the other side's certificate must be good, and be for the host that we asked for."""

import ssl
from typing import Any
from urllib.parse import urlsplit

LEAST = ssl.TLSVersion.TLSv1_2


def context(ca_file: str = "") -> ssl.SSLContext:
    """What a client trusts: the CAs of a file, or the system's.

    Raises OSError, of which SSLError is one, for a file that cannot be read or holds no certificate.
    """
    made = ssl.create_default_context(cafile=ca_file or None)
    made.minimum_version = LEAST
    # newer Pythons ask for extensions that many private CAs lack; py-amqp and PyMySQL do not
    made.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return made


def for_kombu(broker_url: str, ca_file: str = "") -> dict[str, Any] | None:
    """The same in kombu's words; None for a URL without TLS.

    By itself kombu would take the certificate of any host.
    """
    parts = urlsplit(broker_url)
    if parts.scheme != "amqps":
        return None
    return {
        "ca_certs": ca_file or None,
        "cert_reqs": ssl.CERT_REQUIRED,
        "server_hostname": parts.hostname,
        "tls_minimum_version": LEAST,
    }
