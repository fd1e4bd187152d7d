"""The discoro module of 2014: Computation with codes, and discoro_server."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from discoro.compat import references
from discoro.computation import Computation as _Computation
from discoro.errors import DiscoroError
from discoro.server import discoro_server

log = logging.getLogger("discoro.compat")


class Computation:
    """A generator function, and what it needs, to be run at servers.

    Raises:
        TypeError: If ``computation`` is something else.
    """

    def __init__(
        self, computation: Callable[..., Any], depends: Iterable[Any] = (), cleanup: bool = True
    ) -> None:
        self._native: _Computation[..., Any] = _Computation(computation, depends, cleanup)

    async def setup(
        self,
        peer: Any,
        timeout: float | None = None,
        func: Any = None,
        args: Any = (),
        kwargs: Any = None,
    ) -> int:
        """Transfer it to a server: 0 or -1."""
        return await self._code("setup", self._native.setup(peer, timeout, func, args, kwargs))

    async def run(self, peer: Any, *args: Any, **kwargs: Any) -> Any:
        """Start a coroutine of it: a reference; None when it did not start."""
        try:
            coro = await self._native.run(peer, *args, **kwargs)
        except (DiscoroError, TimeoutError, TypeError) as error:
            log.warning("run: %s", error)
            return None
        return references.faced("asyncoro", coro)

    async def ping(self, peer: Any, timeout: float | None = 2) -> int:
        """Whether it is set up at a server that answers: 0, else -1."""
        return await self._code("ping", self._native.ping(peer, timeout))

    async def close(self, peer: Any, func: Any = None, args: Any = (), kwargs: Any = None) -> int:
        """End it at a server, and remove its files there: 0 or -1."""
        return await self._code("close", self._native.close(peer, func, args, kwargs))

    async def _code(self, call: str, work: Any) -> int:
        try:
            return int(await work)
        except (DiscoroError, TimeoutError, TypeError) as error:
            log.warning("%s: %s", call, error)
            return -1


__all__ = ["Computation", "discoro_server"]
