"""Files and code between processes: what a computation needs, and what users send.

Bytes go over the bulk connection of the session, addressed by their SHA-256: a process that has them is not sent them again.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from discoro.errors import FileRefused
from discoro.messages import Blob

if TYPE_CHECKING:
    from discoro.network import Network
    from discoro.peer import Peer


async def send_blob(peer: Peer, computation: bytes, digest: bytes, source: Any, size: int) -> None:
    """Send bytes that a server wants; returns once they are there and their hash is right."""
    transfer = peer.bulk.send(source, size)
    try:
        await peer.network.requests.ask(peer, Blob(digest, size, transfer.number, computation))
    except BaseException:
        peer.bulk.cancel(transfer.number)
        raise


class Files:
    """The files of one process."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._bundles: dict[bytes, bytes] = {}

    def missing(self, wanted: dict[bytes, int]) -> list[Any]:
        """Which of these digests are not here."""
        return [digest for digest in wanted if digest not in self._bundles]

    def check(self, files: Any) -> None:
        """Refuse files that may not be placed here, before any byte of them comes."""
        raise FileRefused(files[0][0], "this process takes no files")

    async def receive(self, peer: Peer, digest: bytes, size: int, transfer: int) -> None:
        """Take bytes that a peer sends."""
        place = bytearray(size)
        await peer.bulk.expect(transfer, size, place)
        if hashlib.sha256(place).digest() != digest:
            raise FileRefused("bundle", "its bytes are not those that were announced")
        self._bundles[digest] = bytes(place)

    async def read(self, digest: bytes) -> bytes:
        """The bytes of a bundle that was received."""
        return self._bundles[digest]
