"""Control messages between two processes: one frozen dataclass each, to and from bytes. Pure.

A message travels as a msgpack array ``[tag, field, ...]`` in the order of its fields. Requests get one reply;
notices get none. User values in them are bytes that only :mod:`discoro.shipping.values` opens. The tags are part of the
protocol: a number is never used again for something else.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass
from typing import Any, ClassVar

from discoro.transport import codec
from discoro.transport.errors import ControlError
from discoro.transport.limits import Limits

# Depth and number of items. The session bounds the length: what does not fit into a batch goes beside it, as a whole.
_LIMITS = Limits(max_payload=Limits().max_message)


class Message:
    """Base of all control messages."""

    __slots__ = ()
    tag: ClassVar[int]

    def encode(self) -> bytes:
        """This message as bytes."""
        fields = [getattr(self, name) for name in _FIELDS[type(self)]]
        return codec.encode([self.tag, *fields], _LIMITS)


_BY_TAG: dict[int, type[Message]] = {}
_FIELDS: dict[type[Message], dict[str, tuple[type, ...]]] = {}


def _message(tag: int) -> typing.Callable[[type[Message]], type[Message]]:
    def enter(cls: type[Message]) -> type[Message]:
        assert tag not in _BY_TAG, f"tag {tag} is taken by {_BY_TAG[tag].__name__}"
        cls.tag = tag
        _BY_TAG[tag] = cls
        hints = typing.get_type_hints(cls)
        _FIELDS[cls] = {
            field.name: _accepted(hints[field.name])
            for field in dataclasses.fields(cls)  # type: ignore[arg-type]  # each is a dataclass
        }
        return cls

    return enter


def _accepted(hint: Any) -> tuple[type, ...]:
    """The exact types that a field takes on the wire."""
    if isinstance(hint, types.UnionType):
        return tuple(kind for part in typing.get_args(hint) for kind in _accepted(part))
    origin = typing.get_origin(hint) or hint
    return (type(None),) if origin is None else (origin,)


def decode(data: bytes | memoryview) -> Message:
    """The message that ``data`` holds.

    Raises:
        ControlError: If it is not one of ours: unknown tag, wrong number or types of fields.
    """
    parts = codec.decode(data, _LIMITS)
    if not isinstance(parts, list) or not parts or type(parts[0]) is not int:
        raise ControlError("a control message is an array that begins with its tag")
    cls = _BY_TAG.get(parts[0])
    if cls is None:
        raise ControlError(f"control message with unknown tag {parts[0]}")
    fields = _FIELDS[cls]
    if len(parts) != len(fields) + 1:
        raise ControlError(f"{cls.__name__} has {len(fields)} fields, {len(parts) - 1} came")
    for (name, accepted), value in zip(fields.items(), parts[1:], strict=True):
        if type(value) not in accepted:
            raise ControlError(f"{cls.__name__}.{name} is a {type(value).__name__}")
    return cls(*parts[1:])


# --- names and references


@_message(1)
@dataclass(frozen=True, slots=True)
class Locate(Message):
    """Who is registered under this name? Answer: :class:`Located`."""

    kind: str
    name: str
    wait: bool  # answer only once it is registered


@_message(2)
@dataclass(frozen=True, slots=True)
class Located(Message):
    """The number of what was asked for, 0 when there is nothing of that name."""

    number: int
    name: str


@_message(3)
@dataclass(frozen=True, slots=True)
class Done(Message):
    """The request was carried out; ``value`` where it has one."""

    value: int | None = None


@_message(4)
@dataclass(frozen=True, slots=True)
class Neighbours(Message):
    """Notice: TCP ports of other processes beside this one, at the address where this one was reached."""

    ports: list[Any]


# --- coroutines and channels


@_message(10)
@dataclass(frozen=True, slots=True)
class Finish(Message):
    """How does this coroutine end? Answer, when it has: :class:`Ended`."""

    number: int


@_message(11)
@dataclass(frozen=True, slots=True)
class Ended(Message):
    """An outcome: ``code`` of :mod:`discoro.outcomes` and what belongs to it."""

    code: int
    payload: bytes


@_message(12)
@dataclass(frozen=True, slots=True)
class Watch(Message):
    """Let your coroutine ``number`` monitor what the pickled reference ``observed`` names."""

    number: int
    observed: bytes


@_message(13)
@dataclass(frozen=True, slots=True)
class Subscribe(Message):
    """Let the pickled reference subscribe to, or leave, channel ``number``."""

    number: int
    subscriber: bytes
    leave: bool


@_message(14)
@dataclass(frozen=True, slots=True)
class ChannelDeliver(Message):
    """Deliver ``value`` over channel ``number`` once it has ``count`` subscribers. Answer: Done(how many)."""

    number: int
    value: bytes
    count: int
    timeout: float | int | None


@_message(15)
@dataclass(frozen=True, slots=True)
class CallService(Message):
    """Start a coroutine of the registered service ``number`` under ``run``. Answer: :class:`Located`."""

    number: int
    run: int
    arguments: bytes


@_message(17)
@dataclass(frozen=True, slots=True)
class Adjust(Message):
    """Notice: a plain call on coroutine ``number``: register, unregister, set_daemon, hot_swappable."""

    number: int
    call: str
    name: str | None
    flag: bool


@_message(18)
@dataclass(frozen=True, slots=True)
class Undecodable(Message):
    """Notice: a message that was sent to ``number`` could not be decoded and is lost; not every one is told of."""

    number: int
    reason: str


# --- computations


@_message(20)
@dataclass(frozen=True, slots=True)
class Offer(Message):
    """A computation that wants to be set up. Answer: :class:`Wanted`, or an error.

    ``files``: each [name, size, sha256, mode]; ``bundle`` may hold the code itself when it is small.
    """

    computation: bytes
    name: str
    python: str
    digest: bytes
    size: int
    files: list[Any]
    cleanup: bool
    bundle: bytes | None


@_message(21)
@dataclass(frozen=True, slots=True)
class Wanted(Message):
    """Digests of the blobs that the server does not have yet."""

    digests: list[Any]


@_message(22)
@dataclass(frozen=True, slots=True)
class Blob(Message):
    """Bytes for the cache, over ``transfer``. Answer: Done, when they are there and their hash is right; 0: they were there."""

    digest: bytes
    size: int
    transfer: int
    computation: bytes


@_message(23)
@dataclass(frozen=True, slots=True)
class Setup(Message):
    """Make the offered computation ready; then call ``func`` (pickled function, args, kwargs)."""

    computation: bytes
    func: bytes | None


@_message(24)
@dataclass(frozen=True, slots=True)
class Ready(Message):
    """The computation is set up; runs of it name ``handle``."""

    handle: int


@_message(25)
@dataclass(frozen=True, slots=True)
class CloseComputation(Message):
    """End what runs of it, call ``func``, remove its files and code."""

    computation: bytes
    func: bytes | None


@_message(26)
@dataclass(frozen=True, slots=True)
class PingComputation(Message):
    """Is it set up here? Answer: Done(1) or Done(0)."""

    computation: bytes


# --- files


@_message(31)
@dataclass(frozen=True, slots=True)
class SendFile(Message):
    """A file for ``dest_path``, over ``transfer``. Answer: Done(0) when it stands there, Done(1) if it did already.

    An empty ``digest`` comes in the transfer, behind the ``size`` bytes. Answer Done(2): say it first, it may be there already.
    """

    name: str
    size: int
    digest: bytes
    mode: int
    modified_ns: int
    overwrite: bool
    transfer: int


@_message(32)
@dataclass(frozen=True, slots=True)
class DeleteFile(Message):
    """Remove a file below ``dest_path``."""

    name: str
