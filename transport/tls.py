"""TLS: certificates and contexts of both roles. Shell.

TLS 1.3 only. Without a certificate of the user's each process makes one that lives as long as it does: it needs
no authority, because the handshake binds its hash (``handshake.py``), and a relay would have to show another
one. Its key never reaches a disk: OpenSSL reads it from a memfd, or, where there is none (macOS), from a file of
mode 0600 that is removed at once.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import ssl
import tempfile
from collections.abc import Iterator

from .errors import NotTLS, TransportError

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


class CertificateUnusable(TransportError):
    """The certificate or key that the user named cannot be used.

    Attributes:
        path: File that is at fault.
        reason: Why, in words.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"cannot use {path} for TLS: {reason}")
        self.path = path
        self.reason = reason


class Certificate:
    """A server's certificate with its key, loaded.

    Attributes:
        der: The certificate, DER.
        fingerprint: SHA-256 of it, 32 bytes: what the handshake binds.
    """

    def __init__(self, der: bytes, context: ssl.SSLContext) -> None:
        self.der = der
        self.fingerprint = hashlib.sha256(der).digest()
        self._context = context

    @classmethod
    def ephemeral(cls) -> Certificate:
        """Make a certificate of P-256 for this process (4 ms the first time, then 0.4)."""
        pem, key, der = _self_signed()
        context = _new_server_context()
        with _readable(key + pem) as path:
            context.load_cert_chain(path)
        return cls(der, context)

    @classmethod
    def from_files(cls, certfile: str, keyfile: str | None = None) -> Certificate:
        """Load a PEM certificate (its chain may follow) and its key (default: in the same file).

        Raises:
            CertificateUnusable: If a file cannot be read, or the two do not belong together.
        """
        try:
            with open(certfile, encoding="ascii") as file:
                der = _first_certificate(file.read())
        except (OSError, ValueError) as error:
            raise CertificateUnusable(certfile, _reason(error)) from None
        context = _new_server_context()
        try:
            # A password is refused, not asked for: the question would hang a service.
            context.load_cert_chain(certfile, keyfile, password=lambda: b"")
        except (OSError, ValueError) as error:
            raise CertificateUnusable(keyfile or certfile, _reason(error)) from None
        return cls(der, context)

    def server_context(self) -> ssl.SSLContext:
        """Return the context with which a server shows this certificate; always the same object."""
        return self._context

    def __repr__(self) -> str:
        return f"<Certificate {self.fingerprint.hex()[:16]}>"


def client_context() -> ssl.SSLContext:
    """Return a context for dialling. It checks no certificate: the handshake proves who is there."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _restrict(context)
    return context


def peer_fingerprint(
    connection: ssl.SSLObject | ssl.SSLSocket, host: str = "", port: int = 0
) -> bytes:
    """Return the SHA-256 of the certificate that the server has shown, for the handshake.

    Args:
        connection: ``TlsTransport.tls``, or ``get_extra_info("ssl_object")`` of asyncio's.
        host: Address that was dialled, for the error.
        port: Its port.

    Raises:
        NotTLS: If the connection is not TLS 1.3, or no certificate was shown.
    """
    der = connection.getpeercert(binary_form=True)
    version = connection.version()
    if version != "TLSv1.3" or not der:
        raise NotTLS(host, port, f"{version or 'nothing'} was agreed on")
    return hashlib.sha256(der).digest()


def _new_server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _restrict(context)
    # No resumption: one way in less, and the handshake sees the certificate every time.
    context.num_tickets = 0
    return context


def _restrict(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION


def _self_signed() -> tuple[bytes, bytes, bytes]:
    """Return a new certificate (PEM), its key (PEM) and the certificate again (DER)."""
    # Imported here: x509 takes 20 ms, and programs that only dial need none of it.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "discoro")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # A day back: clocks differ. Nobody checks the dates; ten years keep tools from complaining.
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding
    key_pem = key.private_bytes(
        encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(encoding.PEM), key_pem, certificate.public_bytes(encoding.DER)


@contextlib.contextmanager
def _readable(data: bytes) -> Iterator[str]:
    """Give ``data`` a path for as long as the block lasts: in memory where the system can."""
    if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
        descriptor = os.memfd_create("discoro", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, data)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    descriptor, path = tempfile.mkstemp(prefix="discoro-")  # mode 0600
    try:
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)
        yield path
    finally:
        os.unlink(path)


def _first_certificate(pem: str) -> bytes:
    """Return the leaf, which stands first, as DER."""
    start = pem.find(_BEGIN)
    end = pem.find(_END, start)
    if start < 0 or end < 0:
        raise ValueError("it holds no PEM certificate")
    return ssl.PEM_cert_to_DER_cert(pem[start : end + len(_END)])


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        if error.reason == "KEY_VALUES_MISMATCH":
            return "the key does not belong to the certificate"
        if error.reason is None or "PEM" in (error.library or ""):
            return "it holds no private key that can be read without a password"
        return error.reason.lower().replace("_", " ")
    if isinstance(error, UnicodeDecodeError):
        return "it is not PEM"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
