"""TLS for floors and peers: one certificate for this user's benchmarks, made on first use."""

from __future__ import annotations

import datetime
import os
import ssl
import tempfile
from pathlib import Path


def certificate() -> tuple[str, str]:
    """Return the paths of a certificate and its key."""
    folder = Path(tempfile.gettempdir()) / f"discoro-benchmarks-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / "both.pem"
    if not path.exists():
        made = path.with_suffix(f".{os.getpid()}")
        made.write_bytes(_made())
        made.replace(path)
    return str(path), str(path)


def _made() -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return text + signed.public_bytes(serialization.Encoding.PEM)


def server_context() -> ssl.SSLContext:
    """TLS 1.3 with that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(*certificate())
    return context


def client_context() -> ssl.SSLContext:
    """TLS 1.3 that trusts anybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
