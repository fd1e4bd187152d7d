"""The small things that came with asyncoro and pycos: thread pools, database cursors, a logger, structures."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import sys
import time
from collections.abc import Callable
from typing import Any, ClassVar, Self, TypeVar

from discoro.scheduler import sync
from discoro.scheduler.categorize import CategorizeMessages as _Categorized
from discoro.scheduler.threads import Pool
from discoro.shipping.values import dumps, loads

T = TypeVar("T")

log = logging.getLogger("discoro.compat")


class Condition(sync.Condition):
    """A condition with a lock of its own."""

    def __init__(self) -> None:
        super().__init__()


class CategorizeMessages:
    """Sorts the messages of a coroutine into categories; see :class:`discoro.CategorizeMessages`."""

    def __init__(self, coro: Any) -> None:
        self._native = _Categorized(coro)

    def add(self, categorize: Any) -> None:
        """Try this function of one argument before the others; what is none is ignored with a warning."""
        fits = isinstance(categorize, functools.partial)
        if inspect.isfunction(categorize) or inspect.ismethod(categorize):
            fits = len(inspect.signature(categorize).parameters) == 1
        if fits:
            self._native.add(categorize)
        else:
            log.warning("%r is no function of one message, and is ignored", categorize)

    def remove(self, categorize: Any) -> None:
        """Do not use this function any more."""
        try:
            self._native.remove(categorize)
        except ValueError:
            log.warning("%r was not added", categorize)

    async def receive(
        self, category: Any = None, timeout: float | None = None, alarm_value: Any = None
    ) -> Any:
        """Wait for a message of this category."""
        return await self._native.receive(category, timeout, alarm_value)

    recv = receive


class AsyncThreadPool:
    """Threads for calls that block: ``line = yield pool.async_task(sys.stdin.readline)``."""

    def __init__(self, num_threads: int) -> None:
        self._running: set[Any] = set()
        try:
            self._pool: Pool | None = Pool(num_threads)
        except RuntimeError:  # 3.12.1 starts no thread once the script has ended: take the loop's
            self._pool = None

    def async_task(self, target: Callable[..., T], *args: Any, **kwargs: Any) -> Any:
        """Call ``target`` in a thread, now; to be yielded for its result.

        Takes its arguments also the way ``threading.Thread`` does: ``args=``, ``kwargs=``.
        """
        if not args and kwargs:
            args = kwargs.pop("args", ())
            kwargs = kwargs.pop("kwargs", kwargs)
        if self._pool is None:
            return asyncio.to_thread(target, *args, **kwargs)
        future = self._pool.submit(target, *args, **kwargs)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        return asyncio.wrap_future(future)

    def join(self) -> None:
        """Wait until every call has ended; from an ordinary thread."""
        for future in list(self._running):
            future.exception()

    def terminate(self) -> None:
        """Wait until every call has ended, and end the threads."""
        self.join()
        if self._pool is not None:
            self._pool.shutdown()


class AsyncDBCursor:
    """A database cursor whose statements run in a thread, one after the other."""

    def __init__(self, thread_pool: AsyncThreadPool, cursor: Any) -> None:
        self._thread_pool = thread_pool
        self._cursor = cursor
        self._turn = sync.Semaphore()

    def __getattr__(self, name: str) -> Any:
        if name == "_cursor":
            raise AttributeError(name)
        return getattr(self._cursor, name)

    async def _run(self, call: Callable[..., Any], *args: Any) -> Any:
        async with self._turn:
            return await self._thread_pool.async_task(call, *args)

    async def execute(self, query: str, args: Any = None) -> Any:
        """Run a statement."""
        given = (query,) if args is None else (query, args)
        return await self._run(self._cursor.execute, *given)

    async def executemany(self, query: str, args: Any) -> Any:
        """Run a statement for each of ``args``."""
        return await self._run(self._cursor.executemany, query, args)

    async def callproc(self, proc: str, args: Any = ()) -> Any:
        """Call a stored procedure."""
        return await self._run(self._cursor.callproc, proc, args)


class Logger:
    """Writes lines with a time to a stream."""

    DEBUG = 10
    INFO = 20
    WARN = WARNING = 30
    ERROR = 40
    CRITICAL = FATAL = 50

    def __init__(
        self, name: str, stream: Any = None, level: int | None = None, log_ms: bool = False
    ) -> None:
        self.name = name
        self._stream = stream
        self.level = level or Logger.INFO
        self.log_ms = log_ms

    @property
    def stream(self) -> Any:
        """Where the lines go."""
        return self._stream or sys.stdout

    @stream.setter
    def stream(self, stream: Any) -> None:
        self._stream = stream

    def setLevel(self, level: Any) -> None:
        """Write messages of this level and above: a number, its name, or ``Logger.debug`` for ``Logger.DEBUG``.

        Raises:
            ValueError: If it is something else.
        """
        name = level if isinstance(level, str) else getattr(level, "__name__", "")
        number = getattr(Logger, name.upper(), level)
        if not isinstance(number, int):
            raise ValueError(
                f"{level!r} is no level: give Logger.DEBUG, INFO, WARNING, ERROR or CRITICAL"
            )
        self.level = number

    def show_ms(self, flag: bool) -> None:
        """Write milliseconds, or not."""
        self.log_ms = bool(flag)

    def log(self, message: Any, *args: Any) -> None:
        """Write a message, whatever the level."""
        now = time.time()
        text = str(message) % args if args else str(message)
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
        if self.log_ms:
            stamp += f".{int(now * 1000) % 1000:03d}"
        self.stream.write(f"{stamp} {self.name} - {text}\n")

    def nolog(self, message: Any, *args: Any) -> None:
        """Write nothing."""

    def _at(level: int, name: str) -> Callable[..., None]:  # type: ignore[misc]  # runs while the class is made
        def write(self: Logger, message: Any, *args: Any) -> None:
            if level >= self.level:
                self.log(message, *args)

        write.__name__ = name
        return write

    debug = _at(DEBUG, "debug")
    info = _at(INFO, "info")
    warn = warning = _at(WARNING, "warning")
    error = _at(ERROR, "error")
    critical = fatal = _at(FATAL, "critical")
    del _at

    def flush(self) -> None:
        """Flush the stream."""
        self.stream.flush()

    shutdown = flush

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.flush()


class Struct:
    """Named values; a name that was not given is None, and cannot be set."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        log.warning("attribute %r is invalid", name)
        return None

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.__dict__:
            raise AttributeError(f'Invalid attribute "{name}"')
        self.__dict__[name] = value


class Singleton(type):
    """Metaclass of classes with one instance: the first call makes it, later ones give it."""

    _made: ClassVar[dict[type, Any]] = {}

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """The one instance."""
        if cls not in Singleton._made:
            Singleton._made[cls] = super().__call__(*args, **kwargs)
        return Singleton._made[cls]

    @classmethod
    def instance(mcs, cls: type) -> Any:
        """The instance there is, or None."""
        return Singleton._made.get(cls)

    @classmethod
    def discard(mcs, cls: type) -> None:
        """Forget the instance."""
        Singleton._made.pop(cls, None)


def serialize(obj: Any) -> bytes:
    """A value as bytes."""
    return dumps(obj)


def deserialize(pkl: bytes) -> Any:
    """The value that :func:`serialize` has made bytes of. Only for bytes of your own: unpickling runs code."""
    return loads(pkl)
