"""Keys of sessions that are over here, or whose OPEN was never answered. Pure.

The other end may still have such a session, and lets it be replaced, or opened again, by nobody who cannot show its key:
whoever knows the secret could claim our process id, and take the place of a session whose connection is cut.
"""

from __future__ import annotations

from collections import OrderedDict

from .proofs import open_proof

KEYS = 8
"""Keys kept of one session: each OPEN that was sent and not answered has one."""


class FormerKeys:
    """What one endpoint remembers.

    Args:
        most: Of so many sessions, the newest.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._keys: OrderedDict[bytes, list[bytes]] = OrderedDict()

    def __contains__(self, session: bytes) -> bool:
        return session in self._keys

    def remember(self, session: bytes, key: bytes) -> None:
        """A session may be known to the other end by this key."""
        keys = self._keys.setdefault(session, [])
        if key not in keys:
            keys.append(key)
            del keys[:-KEYS]
        self._keys.move_to_end(session)
        if len(self._keys) > self._most:
            self._keys.popitem(last=False)

    def proofs(self, session: bytes, transcript: bytes) -> tuple[bytes, ...]:
        """Return proofs that a session was ours, for the connection with this transcript."""
        return tuple(open_proof(key, transcript, session) for key in self._keys.get(session, ()))
