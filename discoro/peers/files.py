"""Files and code between processes: what a computation needs, and what users send.

Bytes go over the bulk connection of the session. Code and files of computations are addressed by their SHA-256 and kept in the
user's cache: a machine that has them is not sent them again. Disks are touched in threads only.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from discoro.errors import DiscoroError, FileRefused, from_transport
from discoro.messages import Blob, DeleteFile, Done, Message, SendFile
from discoro.statefolder import StateFolder
from discoro.transport.bulkends import HashedFile, Writer
from discoro.transport.errors import FileError, NameHeld, TransportError
from discoro.transport.folder import FileFacts, describe
from discoro.transport.paths import safe_parts
from discoro.transport.store import Store
from discoro.transport.workdir import AlreadyThere, HashNeeded, Workdir

if TYPE_CHECKING:
    from discoro.peers.network import Network
    from discoro.peers.peer import Peer

T = TypeVar("T")
W = TypeVar("W", bound=Writer)

# A content that is on its way to a machine is waited for before another server there gets it as well: so many seconds, and
# one more for so many bytes. Short ones are not worth it.
_PATIENCE = 2.0
_SLOW = 10e6
_WORTH_WAITING = 64 << 10

# A file up to this length is hashed before it is offered: that takes a millisecond, less than a second offer where the first
# one is answered by "say the hash first". A longer one is hashed while it is sent.
_HASHED_FIRST = 1 << 20
# Many kernels count a file's time in ticks of up to 10 ms: what was written to less than some of them ago could be written to
# again without looking changed. It is hashed first as well: then the receiver sees whether its bytes are still the same.
_TICK_NS = 50_000_000
_DIGEST_BYTES = hashlib.sha256().digest_size

# Answers to SendFile: it stands there now, it did already, or something of its size does.
_STORED, _THERE, _HASH_NEEDED = range(3)

# Name, size, SHA-256 and mode, as an offer lists them.
Listed = tuple[str, int, bytes, int]


class Files:
    """The files of one process: its working directory and the user's cache."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._store: Store | None = None
        self._workdir = network.options.workdir
        # What people call the computations that hold files here.
        self._titles: dict[str, str] = {}
        # A server's own folder, where its computations find their files; else only send_file puts some there.
        self._serves = self._workdir is not None
        # Contents on their way to servers, by the server's host: (host, digest) -> the first one has it.
        self._going: dict[tuple[str, bytes], asyncio.Future[bool]] = {}
        # Writers that were made, or are being made, for somebody who does not wait any more: they are aborted.
        self._unwanted: set[asyncio.Task[None]] = set()
        network.requests.on(SendFile, self._sent)
        network.requests.on(DeleteFile, self._delete)

    # --- computations: at the server

    async def admit(self, owner: str, title: str, files: Sequence[Listed]) -> list[bytes]:
        """Reserve the names of a computation's files; gives the digests that are not here.

        Args:
            owner: The id of the computation, as text.
            title: What people call it.
            files: Its files.

        Raises:
            FileRefused: If a name is unsafe or held with other content, a file too big, the disk too full.
        """
        if not self._serves:
            raise FileRefused(
                files[0][0],
                "this discoro_server was started by hand in a program and takes no files: it never changes its "
                "directory. Start servers with: python -m discoro",
            )
        facts = [FileFacts(name=n, size=s, sha256=h, mode=m) for n, s, h, m in files]
        self._titles[owner] = title
        return await self._in_folder(self._admit, owner, facts)

    def _admit(self, owner: str, facts: list[FileFacts]) -> list[bytes]:
        assert self._workdir is not None
        try:
            self._workdir.admit(owner, facts)
            return [one.sha256 for one in self.store.missing(facts)]
        except OSError as error:  # about the folder, not one of the files
            reason = f"not taken here: {error.strerror or error}"
            raise FileRefused(facts[0].name, reason) from error

    async def missing(self, digest: bytes, size: int) -> bool:
        """Whether these bytes have to be sent."""
        return not await _threaded(lambda: self.store.has(digest, size))

    async def receive(self, peer: Peer, blob: Blob) -> bool:
        """Take bytes for the cache; False if they have come meanwhile, to another process of this user."""
        _check_content(blob.digest.hex(), blob.digest, blob.size)
        if not await self.missing(blob.digest, blob.size):
            peer.refuse_transfer(blob.transfer, blob.size, "is there already")
            return False
        try:
            writer = await self._writer(_threaded(self.store.writer, blob.digest, blob.size))
        except FileRefused:
            peer.refuse_transfer(blob.transfer, blob.size, "refused")
            raise
        await peer.expect_transfer(blob.transfer, blob.size, writer)
        return True

    async def read(self, digest: bytes) -> bytes:
        """The bytes of a bundle in the cache, their hash checked once more."""
        return await _threaded(self.store.read, digest)

    async def place(self, owner: str, files: Sequence[Listed]) -> None:
        """Put the admitted files of a computation where it will open them."""
        facts = [FileFacts(name=n, size=s, sha256=h, mode=m) for n, s, h, m in files]
        workdir = self._workdir
        assert workdir is not None
        for one in facts:
            await _threaded(workdir.place, owner, one, self.store)

    async def release(self, owner: str, *, keep: bool) -> None:
        """A computation ends: its files go, unless they are to stay."""
        if self._workdir is not None:
            await _threaded(partial(self._workdir.release, owner, keep=keep))
        self._titles.pop(owner, None)

    async def _in_folder(self, function: Callable[..., T], *args: Any) -> T:
        """Do in a thread what a held name may prevent: who holds it is named as people do."""
        try:
            return await _threaded(function, *args)
        except FileRefused as error:
            held = error.__cause__
            if not isinstance(held, NameHeld):
                raise
            holder = held.holder
            for owner, title in self._titles.items():
                holder = holder.replace(owner, title)
            raise from_transport(NameHeld(held.name, holder)) from held

    async def _writer(self, making: Coroutine[Any, Any, W]) -> W:
        """Wait for a writer that is made in a thread.

        Cancelling is safe: the thread goes on, and what it makes is aborted.
        """
        made = asyncio.ensure_future(making)
        try:
            return await asyncio.shield(made)
        except asyncio.CancelledError:
            task = asyncio.ensure_future(_abort(made))
            self._unwanted.add(task)
            task.add_done_callback(self._unwanted.discard)
            raise

    @property
    def store(self) -> Store:
        """The user's cache."""
        if self._store is None:
            folder = os.path.join(StateFolder().make().path, "cache")
            self._store = Store(folder, self._network.limits)
        return self._store

    # --- computations: at the client

    async def send_blob(
        self, peer: Peer, computation: bytes, digest: bytes, source: Any, size: int
    ) -> int:
        """Send bytes that a server wants; gives how many went, once they are there and their hash is right.

        Servers of one machine mostly share a cache: what goes to one of them is waited for, and then offered to the others,
        who refuse what they have. Not for ever: that one may be busy.
        """
        key = (peer.hint[0] if peer.hint is not None else "", digest)
        patience = _PATIENCE + size / _SLOW
        while size > _WORTH_WAITING and (first := self._going.get(key)) is not None:
            await asyncio.wait([first], timeout=patience)
            if not first.done() or first.result():
                return await self._send_blob(peer, computation, digest, source, size)
        first = self._going[key] = asyncio.get_running_loop().create_future()
        sent = -1
        try:
            sent = await self._send_blob(peer, computation, digest, source, size)
        finally:
            first.set_result(sent >= 0)
            if self._going.get(key) is first:
                del self._going[key]
        return sent

    async def _send_blob(
        self, peer: Peer, computation: bytes, digest: bytes, source: Any, size: int
    ) -> int:
        transfer = peer.bulk.send(source, size)
        try:
            answer = await self._network.requests.ask(
                peer, Blob(digest, size, transfer.number, computation)
            )
        except BaseException:
            peer.bulk.cancel(transfer.number)
            raise
        return size if isinstance(answer, Done) and answer.value == 1 else 0

    # --- send_file and del_file: at the receiver

    def _dest(self, name: str) -> Workdir:
        """The folder for files that are sent, ``name`` among them; made when the first one comes."""
        if self._workdir is None:
            path = self._network.options.dest_path
            if path is None:
                raise FileRefused(
                    name, "this process takes no files: its Scheduler was given no dest_path"
                )
            self._workdir = Workdir.shared(path, self._network.limits)
        return self._workdir

    async def _sent(self, peer: Peer, message: SendFile) -> Message:
        _check_content(message.name, message.digest or bytes(_DIGEST_BYTES), message.size)
        coming = message.size + _DIGEST_BYTES - len(message.digest)
        facts = FileFacts(
            name=message.name,
            size=message.size,
            sha256=message.digest,
            mode=message.mode,
            mtime_ns=message.modified_ns,
        )
        try:
            writer = await self._writer(
                self._in_folder(
                    lambda: self._dest(message.name).receive(facts, overwrite=message.overwrite)
                )
            )
        except AlreadyThere:
            peer.refuse_transfer(message.transfer, coming, "is there already")
            return Done(_THERE)
        except HashNeeded:
            peer.refuse_transfer(message.transfer, coming, "may be there already")
            return Done(_HASH_NEEDED)
        except BaseException:
            peer.refuse_transfer(message.transfer, coming, "refused")
            raise
        await peer.expect_transfer(message.transfer, coming, writer)
        return Done(_STORED)

    async def _delete(self, peer: Peer, message: DeleteFile) -> Message:
        await self._in_folder(lambda: self._dest(message.name).delete(message.name))
        return Done(0)

    # --- send_file and del_file: at the sender

    async def send(self, where: Any, path: str, dir: str | None, overwrite: bool) -> None:
        """See :meth:`discoro.Scheduler.send_file`."""
        name = _remote_name(os.path.basename(path), dir, self._network)
        facts = await _threaded(_facts_to_offer, path, name)
        peer = await self._network.peer_at(where)
        if peer.process == self._network.process:
            raise FileRefused(name, "is to be sent to this process itself, which has it already")
        answer = await self._offer(peer, path, facts, overwrite)
        if answer.value == _HASH_NEEDED:
            facts = await _threaded(describe, path, name)
            await self._offer(peer, path, facts, overwrite)

    async def _offer(self, peer: Peer, path: str, facts: FileFacts, overwrite: bool) -> Done:
        """Announce a file and send its bytes; without a hash in ``facts``, it is made on the way and goes behind them."""
        if facts.sha256:
            transfer = peer.bulk.send(path, facts.size)
        else:
            file = HashedFile(path, facts.size, facts.mtime_ns or 0)
            transfer = peer.bulk.send(file, file.size)
        message = SendFile(
            name=facts.name,
            size=facts.size,
            digest=facts.sha256,
            mode=facts.mode,
            modified_ns=facts.mtime_ns or 0,
            overwrite=overwrite,
            transfer=transfer.number,
        )
        try:
            answer = await self._network.requests.ask(peer, message)
        except DiscoroError as error:
            failed = transfer.done.exception() if transfer.done.done() else None
            if isinstance(failed, FileError):
                raise from_transport(failed) from error  # it is our file that was at fault
            peer.bulk.cancel(transfer.number)
            raise
        except BaseException:
            peer.bulk.cancel(transfer.number)
            raise
        return answer if isinstance(answer, Done) else Done()

    async def delete(self, where: Any, name: str, dir: str | None) -> None:
        """See :meth:`discoro.Scheduler.del_file`."""
        peer = await self._network.peer_at(where)
        if peer.process == self._network.process:
            raise FileRefused(name, "is to be removed by this process itself: use os.remove")
        await self._network.requests.ask(peer, DeleteFile(_remote_name(name, dir, self._network)))

    async def close(self) -> None:
        """Remove what computations left, and let go of the folders."""
        await asyncio.gather(*self._unwanted, return_exceptions=True)
        if self._workdir is not None:
            await _threaded(self._workdir.close)
        if self._store is not None:
            self._store.close()


def _facts_to_offer(path: str, name: str) -> FileFacts:
    """What is told of a file before it is sent: without its hash where that would take long."""
    facts = describe(path, name, hashed=False)
    now = time.time_ns()
    just_written = now - _TICK_NS < (facts.mtime_ns or 0) <= now
    if facts.size > _HASHED_FIRST and not just_written:
        return facts
    return describe(path, name)


def _check_content(name: str, digest: bytes, size: int) -> None:
    """See that an announced content can be one at all; what came is only known to be bytes and a number.

    Raises:
        FileRefused: If not.
    """
    if len(digest) != hashlib.sha256().digest_size or size < 0:
        raise FileRefused(name, f"{size} bytes with a hash of {len(digest)} bytes cannot be a file")


def _remote_name(name: str, dir: str | None, network: Network) -> str:
    """The name of a file below the receiver's folder, checked here already: the error is then nearer."""
    joined = f"{dir.rstrip('/')}/{name}" if dir else name
    try:
        safe_parts(joined, network.limits)
    except FileError as error:
        raise from_transport(error) from error
    return joined


async def _abort(made: asyncio.Future[W]) -> None:
    """Abort a writer that nobody waits for any more, once it is made; if it could not be, nothing is left."""
    with suppress(DiscoroError, TransportError, OSError):
        writer = await made
        await asyncio.to_thread(writer.abort)


async def _threaded(function: Callable[..., T], *args: Any) -> T:
    """Call a function that touches the disk, in a thread; its errors are the users' ones."""
    try:
        return await asyncio.to_thread(function, *args)
    except (AlreadyThere, HashNeeded):
        raise
    except FileError as error:
        raise from_transport(error) from error
    except OSError as error:
        raise FileRefused(str(error.filename or ""), error.strerror or str(error)) from error


__all__ = ["Files"]
