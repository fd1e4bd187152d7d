"""Bytes to user values: the one place of the program where anything is unpickled, or unpacked for a user."""

from __future__ import annotations

import io
import pickle
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from discoro.scheduler.errors import DiscoroError
from discoro.shipping import loading
from discoro.shipping.errors import PythonMismatch, UndecodableValue
from discoro.shipping.plain import PICKLED, all_unpacked, unpacked
from discoro.shipping.privatenames import plain_text

_loads = pickle.loads


class NameResolver(Protocol):
    """Who answers for the names in a pickle: a code space, or :data:`discoro.shipping.loading.HOME`."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the object that a pickle names."""


class _Unpickler(pickle.Unpickler):
    """Asks a receiver for the names; only pickles that name something come here."""

    names: NameResolver = loading.HOME

    def find_class(self, module: str, name: str) -> Any:
        return self.names.find_class(module, name)


def loads(
    data: bytes | bytearray | memoryview,
    names: NameResolver | None = None,
    buffers: Sequence[Any] | None = None,
) -> Any:
    """Return the value whose bytes these are.

    Args:
        data: What :func:`dumps` returned.
        names: The code space of the coroutine that receives it; None for a user's own program.
        buffers: The out-of-band buffers, if there are any; use :func:`loads_parts`.

    Raises:
        UndecodableValue: Whatever went wrong; the cause is what was raised.
        PythonMismatch: There is code of another Python in it; nothing of it was loaded.
    """
    if type(data) is not bytes:
        data = bytes(data)
    try:
        if data[0] != PICKLED:
            return unpacked(data)
        if 147 not in data:  # STACK_GLOBAL names something; a literal, for speed
            return _loads(data) if buffers is None else _loads(data, buffers=buffers)
        unpickler = _Unpickler(io.BytesIO(data), buffers=buffers)
        unpickler.names = names or loading.HOME
        return unpickler.load()
    except (PythonMismatch, UndecodableValue):
        raise
    except BaseException as error:
        # SystemExit included: what a message raises must not end the process that reads it.
        if isinstance(error, KeyboardInterrupt) and _may_be_ctrl_c():
            raise
        raise UndecodableValue(_reason(error)) from error


def loads_each(
    payloads: Sequence[bytes | memoryview],
    names: NameResolver | None,
    failed: Callable[[Exception], object],
) -> list[Any]:
    """Return the values of many messages; those that cannot be decoded are told to ``failed`` and left out."""
    together = all_unpacked(payloads)
    if together is not None:
        return together
    values = []
    for data in payloads:
        try:
            values.append(loads(data, names))
        except Exception as error:
            failed(error)
    return values


def _may_be_ctrl_c() -> bool:
    """Whether a KeyboardInterrupt may be a real one: else a value that raises it would end the process."""
    return (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )


def _reason(error: BaseException) -> str:
    text = plain_text(str(error))
    name = type(error).__name__
    if isinstance(error, ModuleNotFoundError):
        return f"{text}. Install it here, or, if it is your own, name it in depends=[...]"
    if isinstance(error, AttributeError):
        return f"{text}. If it is your own, name it in depends=[...]"
    if isinstance(error, DiscoroError):
        return text
    return f"{name}: {text}" if text else name
