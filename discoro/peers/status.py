"""Peer status: telling callables and coroutines which peers come, go, and are busy."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from discoro.transport.addresses import Location

if TYPE_CHECKING:
    from discoro.peers.network import Network
    from discoro.peers.peer import Peer

log = logging.getLogger("discoro.status")

HERE, GONE, BUSY = 1, 0, "busy"


class PeerStatus:
    """Who wants to hear of peers."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._listeners: list[tuple[Any, bool]] = []

    def add(self, listener: Callable[..., Any] | Any, busy: bool) -> None:
        """Tell ``listener`` of every peer that is here, comes or goes; with ``busy`` also of busy ones."""
        self._listeners.append((listener, busy))
        for peer in self._network.live_peers():
            self._tell(listener, peer, HERE)

    def remove(self, listener: Any) -> None:
        """Stop telling ``listener``."""
        self._listeners = [entry for entry in self._listeners if entry[0] is not listener]

    def close(self) -> None:
        """Tell nobody any more: the scheduler says goodbye, and what a callback would start could only fail."""
        self._listeners.clear()

    def __bool__(self) -> bool:
        return bool(self._listeners)

    def opened(self, peer: Peer) -> None:
        """A peer has come."""
        self._tell_all(peer, HERE)

    def lost(self, peer: Peer) -> None:
        """A peer has gone."""
        self._tell_all(peer, GONE)

    def busy(self, peer: Peer, busy: bool) -> None:
        """A peer computes and does not answer; or it does again."""
        for listener, wanted in list(self._listeners):
            if wanted:
                self._tell(listener, peer, BUSY if busy else HERE)

    def _tell_all(self, peer: Peer, status: int | str) -> None:
        for listener, _ in list(self._listeners):
            self._tell(listener, peer, status)

    def _tell(self, listener: Any, peer: Peer, status: int | str) -> None:
        location: Location = self._network.location_of(peer.process, peer.hint)
        try:
            if hasattr(listener, "send"):
                if not listener.is_alive():
                    self.remove(listener)
                    return
                listener.send((peer.name, location, status))
            else:
                listener(peer.name, location, status)
        except Exception:
            log.exception("a peer_status callback failed; it is not called again")
            self.remove(listener)
