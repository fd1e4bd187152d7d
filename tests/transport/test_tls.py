"""TLS with real sockets: versions, certificates, keys that never reach a disk, and somebody in between."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import os
import ssl
import stat
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from discoro.transport import tls
from discoro.transport.credentials import Credentials
from discoro.transport.errors import (
    AuthenticationFailed,
    Busy,
    NotTLS,
    ProtocolError,
    TransportError,
    VersionMismatch,
)
from discoro.transport.handshake import Accepted, ClientHandshake, OtherCluster, ServerHandshake
from discoro.transport.secret import Secret, generate
from discoro.transport.tls import Certificate, CertificateUnusable, client_context, peer_fingerprint
from tests.kit import run_async

SECRET = generate()
Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


# --- a server and a client as plain as can be ------------------------------------------------------------------------


class Server:
    """Listens, does the handshake, remembers how each one ended."""

    def __init__(self, credentials: Credentials, **options: object) -> None:
        self.credentials = credentials
        self.options = options
        self.ended: list[Accepted | TransportError | None] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handshake = ServerHandshake(
            *(self.credentials.secret.prs, self.credentials.certificate.fingerprint),
            *(self.credentials.cluster, os.urandom, 0.0),
            **self.options,  # type: ignore[arg-type]
        )
        await shake(handshake, reader, writer)
        self.ended.append(handshake.done or handshake.failed)
        await goodbye(writer)


async def shake(
    handshake: ClientHandshake | ServerHandshake,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    try:
        while True:
            writer.write(handshake.data_to_send())
            if handshake.done or handshake.failed:
                await writer.drain()
                return
            data = await reader.read(4096)
            handshake.receive_data(data) if data else handshake.receive_eof()
    except (OSError, RuntimeError):
        handshake.receive_eof()


async def goodbye(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        await writer.wait_closed()
    except (OSError, ssl.SSLError):
        pass


@asynccontextmanager
async def listening(connected: Connected, context: ssl.SSLContext | None) -> AsyncIterator[int]:
    running: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(connected(reader, writer))
        running.add(task)
        task.add_done_callback(running.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


@asynccontextmanager
async def serving(credentials: Credentials, **options: object) -> AsyncIterator[Server]:
    server = Server(credentials, **options)
    async with listening(server.serve, credentials.certificate.server_context()) as port:
        server.port = port
        yield server


async def dial(port: int, credentials: Credentials) -> Accepted:
    """Return what both ends hold, or raise why there is nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context())
    try:
        fingerprint = peer_fingerprint(writer.get_extra_info("ssl_object"), "127.0.0.1", port)
        handshake = ClientHandshake(
            *(credentials.secret.prs, fingerprint, credentials.cluster, os.urandom, 0.0)
        )
        await shake(handshake, reader, writer)
    finally:
        await goodbye(writer)
    if handshake.failed is not None:
        raise handshake.failed
    assert handshake.done is not None
    return handshake.done


def credentials(secret: str = SECRET, cluster: str = "default") -> Credentials:
    return Credentials(Secret(secret), cluster)


# --- the handshake over it -------------------------------------------------------------------------------------------


def test_two_ends_with_one_secret_meet() -> None:
    async def main() -> None:
        async with serving(credentials()) as server:
            assert [await dial(server.port, credentials())] == server.ended

    run_async(main)


@pytest.mark.parametrize(
    ("theirs", "options", "error"),
    [
        (credentials(secret="another secret"), {}, AuthenticationFailed),
        (credentials(cluster="another"), {}, OtherCluster),
        (credentials(), {"versions": (7, 8)}, VersionMismatch),
        (credentials(), {"admit": lambda: 2.5}, Busy),
    ],
    ids=["secret", "cluster", "version", "busy"],
)
def test_both_ends_are_told_why_they_do_not_meet(
    theirs: Credentials, options: dict[str, object], error: type[TransportError]
) -> None:
    async def main() -> None:
        async with serving(credentials(), **options) as server:
            with pytest.raises(error):
                await dial(server.port, theirs)
            assert [type(end) for end in server.ended] == [error]

    run_async(main)


def test_a_relay_with_its_own_certificate_is_found_out_by_both_ends() -> None:
    """It ends TLS on both sides and forwards every byte of what is inside."""

    async def main() -> None:
        seen: list[bytes] = []

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_connection(
                "127.0.0.1", server.port, ssl=client_context()
            )

            async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                while data := await source.read(4096):
                    seen.append(data)
                    sink.write(data)

            try:
                await asyncio.wait(
                    [
                        asyncio.ensure_future(pump(reader, back)),
                        asyncio.ensure_future(pump(there, writer)),
                    ],
                    return_when=asyncio.FIRST_COMPLETED,
                )
            finally:
                await goodbye(back)
                await goodbye(writer)

        async with (
            serving(credentials()) as server,
            listening(relay, Certificate.ephemeral().server_context()) as port,
        ):
            with pytest.raises(AuthenticationFailed):
                await dial(port, credentials())
            assert [type(end) for end in server.ended] == [AuthenticationFailed]
            assert len(b"".join(seen)) >= 84 + 84 + 36

    run_async(main)


def test_whoever_hangs_up_in_the_middle_costs_nothing_but_an_error() -> None:
    async def main() -> None:
        async with serving(credentials()) as server:
            _, writer = await asyncio.open_connection(
                "127.0.0.1", server.port, ssl=client_context()
            )
            writer.write(b"\x01\x00\x00PDSC1")
            await goodbye(writer)
            while not server.ended:
                await asyncio.sleep(0.001)
            assert [type(end) for end in server.ended] == [ProtocolError]
            await dial(server.port, credentials())

    run_async(main)


# --- TLS itself ------------------------------------------------------------------------------------------------------


def older(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def test_a_client_that_speaks_only_tls_1_2_is_refused() -> None:
    async def main() -> None:
        async with serving(credentials()) as server:
            with pytest.raises((ssl.SSLError, OSError)):
                await asyncio.open_connection("127.0.0.1", server.port, ssl=older(client_context()))
            assert server.ended == []

    run_async(main)


def test_a_server_that_speaks_only_tls_1_2_is_refused() -> None:
    async def main() -> None:
        async def nobody(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            raise AssertionError("TLS 1.2 was agreed on")

        old = older(Certificate.ephemeral().server_context())
        async with listening(nobody, old) as port:
            with pytest.raises((ssl.SSLError, OSError)):
                await asyncio.open_connection("127.0.0.1", port, ssl=client_context())

    run_async(main)


def test_a_server_without_tls_is_refused() -> None:
    async def main() -> None:
        async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"\x02\x00\x00PDSC1")
            await goodbye(writer)

        async with listening(plain, None) as port:
            with pytest.raises((ssl.SSLError, OSError)):
                await asyncio.open_connection("127.0.0.1", port, ssl=client_context())

    run_async(main)


def test_a_connection_is_tls_1_3_without_tickets_and_the_client_sees_the_servers_certificate() -> (
    None
):
    async def main() -> None:
        async with serving(credentials()) as server:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", server.port, ssl=client_context()
            )
            connection = writer.get_extra_info("ssl_object")
            assert connection.version() == "TLSv1.3"
            der = server.credentials.certificate.der
            assert connection.getpeercert(binary_form=True) == der
            assert peer_fingerprint(connection) == hashlib.sha256(der).digest()
            writer.write(b"x" * 84)
            assert await reader.read() == b""
            assert connection.session is None or not connection.session.has_ticket
            await goodbye(writer)

    run_async(main)


@pytest.mark.parametrize(("version", "der"), [("TLSv1.2", b"x"), (None, None), ("TLSv1.3", None)])
def test_without_tls_1_3_or_a_certificate_there_is_no_fingerprint(
    version: str | None, der: bytes | None
) -> None:
    class Connection:
        def getpeercert(self, binary_form: bool) -> bytes | None:
            return der

        def version(self) -> str | None:
            return version

    with pytest.raises(NotTLS, match=r"10\.0\.0\.1:9"):
        peer_fingerprint(Connection(), "10.0.0.1", 9)  # type: ignore[arg-type]


# --- certificates and their keys -------------------------------------------------------------------------------------


def test_an_ephemeral_certificate_is_p_256_new_each_time_and_says_nothing_about_us() -> None:
    ours = Certificate.ephemeral()
    parsed = x509.load_der_x509_certificate(ours.der)
    key = parsed.public_key()

    assert isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1"
    assert parsed.subject.rfc4514_string() == "CN=discoro"
    now = datetime.datetime.now(datetime.UTC)
    assert parsed.not_valid_before_utc < now - datetime.timedelta(hours=23)
    assert parsed.not_valid_after_utc > now + datetime.timedelta(days=3000)
    assert ours.fingerprint == hashlib.sha256(ours.der).digest()
    assert ours.fingerprint != Certificate.ephemeral().fingerprint
    assert ours.server_context() is ours.server_context()


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="no memfd on this system")
def test_the_key_never_reaches_a_disk_and_its_memory_file_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_file(*args: object, **kwargs: object) -> None:
        raise AssertionError("a temporary file was made")

    monkeypatch.setattr(tempfile, "mkstemp", no_file)
    before = set(os.listdir("/proc/self/fd"))

    Certificate.ephemeral()

    assert set(os.listdir("/proc/self/fd")) == before


def test_without_memfd_the_key_is_in_a_private_file_that_is_gone_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    with tls._readable(b"key") as path:
        assert Path(path).parent == tmp_path
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert Path(path).read_bytes() == b"key"

    Certificate.ephemeral()
    assert list(tmp_path.iterdir()) == []


def test_the_private_file_is_gone_even_when_loading_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    with pytest.raises(ZeroDivisionError), tls._readable(b"key"):
        raise ZeroDivisionError

    assert list(tmp_path.iterdir()) == []


class Files:
    """A certificate and key of the user's."""

    def __init__(self, folder: Path, name: str = "user") -> None:
        pem, key, self.der = tls._self_signed()
        self.cert, self.key, self.both = (
            folder / f"{name}{end}.pem" for end in ("-cert", "-key", "-both")
        )
        self.cert.write_bytes(pem)
        self.key.write_bytes(key)
        self.both.write_bytes(key + pem)


def test_a_certificate_of_the_users_is_bound_the_same_way(tmp_path: Path) -> None:
    files = Files(tmp_path)

    async def main() -> None:
        for paths in ((str(files.cert), str(files.key)), (str(files.both),)):
            ours = Credentials(Secret(SECRET), certificate=Certificate.from_files(*paths))
            assert ours.certificate.der == files.der
            async with serving(ours) as server:
                assert [await dial(server.port, credentials())] == server.ended

    run_async(main)


def test_of_a_chain_the_first_certificate_counts(tmp_path: Path) -> None:
    files, issuer = Files(tmp_path), Files(tmp_path, "issuer")
    files.cert.write_bytes(files.cert.read_bytes() + issuer.cert.read_bytes())

    assert Certificate.from_files(str(files.cert), str(files.key)).der == files.der


def locked(files: Files) -> Path:
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
    )
    return files.key


@pytest.mark.parametrize(
    ("spoil", "path", "reason"),
    [
        (lambda files: files.cert.unlink(), "cert", "No such file"),
        (lambda files: files.key.unlink(), "key", "No such file"),
        (lambda files: files.cert.write_text("hello"), "cert", "no PEM certificate"),
        (lambda files: files.cert.write_bytes(b"\xff\xfe"), "cert", "not PEM"),
        (lambda files: files.key.write_text("hello"), "key", "no private key"),
        (locked, "key", "without a password"),
        (
            lambda files: files.key.write_bytes(tls._self_signed()[1]),
            "key",
            "does not belong to the certificate",
        ),
    ],
    ids=["no cert", "no key", "no PEM", "binary", "empty key", "password", "other key"],
)
def test_files_that_cannot_be_used_are_named_with_the_reason(
    tmp_path: Path, spoil: Callable[[Files], object], path: str, reason: str
) -> None:
    files = Files(tmp_path)
    spoil(files)

    with pytest.raises(CertificateUnusable, match=reason) as caught:
        Certificate.from_files(str(files.cert), str(files.key))

    assert caught.value.path == str(getattr(files, path))
