"""The user's state folder: which nodes run on this machine, the generated secret, where files go by default.

``$XDG_STATE_HOME/discoro`` (else ``~/.local/state/discoro``), mode 0700::

    secret                  the generated secret, mode 0600
    nodes/<id>.json         one living node, a :class:`NodeRecord`
    nodes/<id>.sock         where its parent answers ``status`` and ``stop``
    files/<server name>/    default ``dest_path``

A home directory may be shared by many machines, so a record says on which one it was written (machine and boot), and only
those of this machine are used or removed. A record is stale when nobody listens on its socket: the kernel refuses the
connection however the parent ended, so no lock and no process number has to be trusted.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from discoro.scheduler.errors import DiscoroError

FORMAT = 1


class StateFolderUnusable(DiscoroError):
    """The state folder cannot be made, or belongs to somebody else.

    Attributes:
        path: The folder.
    """

    __module__ = "discoro.errors"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            f"the state folder {path} cannot be used: {reason}. Set XDG_STATE_HOME to one of your own."
        )
        self.path = path


@dataclass(frozen=True)
class ServerRecord:
    """One server of a node: its name, the (host, port) pairs that it listens on, its process id in hex once it is known."""

    name: str
    addresses: list[tuple[str, int]]
    process: str = ""


@dataclass(frozen=True)
class NodeRecord:
    """What a node writes down about itself; all of it is a hint, nothing of it is secret."""

    id: str
    name: str
    cluster: str
    udp_port: int
    pid: int
    servers: list[ServerRecord] = field(default_factory=list)
    machine: str = ""
    format: int = FORMAT

    @classmethod
    def from_json(cls, text: str) -> NodeRecord | None:
        """Read one back; None for anything that is not exactly that."""
        try:
            data: dict[str, Any] = json.loads(text)
            data["servers"] = [
                ServerRecord(
                    str(s["name"]),
                    [(str(h), int(p)) for h, p in s["addresses"]],
                    bytes.fromhex(s["process"]).hex(),
                )
                for s in data["servers"]
            ]
            record = cls(**{f.name: data[f.name] for f in fields(cls)})
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        strings = (record.id, record.name, record.cluster, record.machine)
        if not all(isinstance(text, str) for text in strings):
            return None
        return record if record.format == FORMAT and isinstance(record.pid, int) else None


def machine_id() -> str:
    """Name this machine and this boot of it: records of an earlier boot are stale for certain."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
    except OSError:
        boot = ""
    return f"{socket.gethostname()}/{boot}"


def default_path() -> str:
    """Return where the folder is, by the environment; nothing is made."""
    base = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(base):  # the specification says: ignore relative ones
        base = os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(base, "discoro")


class StateFolder:
    """The folder, made on first use. Two processes may use it at once."""

    def __init__(self, path: str | None = None) -> None:
        self.path = path or default_path()

    def __repr__(self) -> str:
        return f"StateFolder({self.path!r})"

    @property
    def nodes_path(self) -> str:
        """Folder of the records and sockets of the nodes."""
        return os.path.join(self.path, "nodes")

    @property
    def secret_path(self) -> str:
        """File of the generated secret."""
        return os.path.join(self.path, "secret")

    def default_dest_path(self) -> str:
        """Return where servers keep their files when nobody says where; it is made by whoever uses it."""
        return os.path.join(self.path, "files")

    def make(self) -> StateFolder:
        """Make the folder, closed to everybody else.

        Raises:
            StateFolderUnusable: If it cannot be made, or is somebody else's.
        """
        for path in (self.path, self.nodes_path):
            try:
                os.makedirs(path, mode=0o700, exist_ok=True)
                state = os.stat(path)
            except OSError as error:
                raise StateFolderUnusable(path, error.strerror or str(error)) from error
            if state.st_uid != os.geteuid():
                raise StateFolderUnusable(path, f"it belongs to user {state.st_uid}")
            if stat.S_IMODE(state.st_mode) & 0o077:
                os.chmod(path, 0o700)
        return self

    # --- the generated secret --------------------------------------------------------------------------------------

    def read_secret(self) -> str | None:
        """Return the generated secret, or None when there is none yet."""
        try:
            with open(self.secret_path) as file:
                return file.read().strip() or None
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it holds no text"
            raise StateFolderUnusable(self.path, f"its file `secret`: {reason}") from error

    def check(self) -> None:
        """See that we may look into the folder, if there is one.

        Raises:
            StateFolderUnusable: If it is somebody else's.
        """
        try:
            os.listdir(self.nodes_path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StateFolderUnusable(self.path, error.strerror or str(error)) from error

    def secret(self, generate: Callable[[], str]) -> tuple[str, bool]:
        """Return the user's secret and whether this call has made it, with ``generate``.

        Of processes that start at once exactly one makes it: ``link`` refuses to replace.
        """
        known = self.read_secret()
        if known is not None:
            return known, False
        self.make()
        try:
            # Its mode is 0600 from the start.
            handle, beside = tempfile.mkstemp(prefix=".secret-", dir=self.path)
        except OSError as error:
            raise StateFolderUnusable(self.path, error.strerror or str(error)) from error
        try:
            with os.fdopen(handle, "w") as file:
                file.write(generate() + "\n")
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(beside, self.secret_path)
                made = True
            except FileExistsError:
                made = False
        finally:
            os.unlink(beside)
        known = self.read_secret()
        if known is None:
            raise StateFolderUnusable(self.secret_path, "the file is empty; remove it")
        return known, made

    # --- nodes of this machine -------------------------------------------------------------------------------------

    def announce(self, record: NodeRecord) -> None:
        """Write a node's record, in one step, so that no reader sees half of it."""
        handle, beside = tempfile.mkstemp(prefix=".node-", dir=self.nodes_path)
        with os.fdopen(handle, "w") as file:
            json.dump(asdict(record), file)
        os.replace(beside, self._file(record.id, "json"))

    def withdraw(self, id: str) -> None:
        """Remove a node's record and socket; it is no error when they are gone."""
        for ending in ("json", "sock"):
            try:
                os.unlink(self._file(id, ending))
            except FileNotFoundError:
                pass

    def nodes(self, *, cluster: str | None = None, udp_port: int | None = None) -> list[NodeRecord]:
        """Return the nodes that run on this machine, by name; remove what dead ones left behind.

        Args:
            cluster: Only those of this cluster.
            udp_port: Only those of this discovery port.
        """
        found = []
        for record in self._records():
            if not self._alive(record):
                self.withdraw(record.id)
            elif cluster in (None, record.cluster) and udp_port in (None, record.udp_port):
                found.append(record)
        return sorted(found, key=lambda record: (record.name, record.pid))

    def _records(self) -> Iterator[NodeRecord]:
        try:
            names = os.listdir(self.nodes_path)
        except (FileNotFoundError, PermissionError):
            return
        here = machine_id()
        host = here.partition("/")[0]
        for name in names:
            id, dot, ending = name.partition(".")
            if not (id and dot and ending == "json"):
                continue
            try:
                with open(os.path.join(self.nodes_path, name)) as file:
                    record = NodeRecord.from_json(file.read())
            except OSError:
                continue
            if record is None or record.id != id:
                continue  # a later version's, or damaged: not ours to judge
            if record.machine == here:
                yield record
            elif record.machine.partition("/")[0] == host:
                self.withdraw(id)  # this machine before it was started anew

    def _alive(self, record: NodeRecord) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(2.0)
            try:
                with self.socket_address(record.id) as address:
                    probe.connect(address)
            except (ConnectionRefusedError, FileNotFoundError):
                return False
            except OSError:  # its queue is full: busy is not dead
                return True
        return True

    def _file(self, id: str, ending: str) -> str:
        return os.path.join(self.nodes_path, f"{id}.{ending}")

    @contextmanager
    def socket_address(self, id: str) -> Iterator[str]:
        """Give the address of a node's Unix socket, valid inside the ``with``.

        A socket's path ends at 108 bytes, a state folder's need not: where the kernel lets us we go through the open folder.
        """
        path = self._file(id, "sock")
        if len(os.fsencode(path)) < 100 or not os.path.isdir("/proc/self/fd"):
            yield path
            return
        folder = os.open(self.nodes_path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield f"/proc/self/fd/{folder}/{id}.sock"
        finally:
            os.close(folder)
