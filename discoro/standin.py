"""Who answers a server's port while no process of it runs: the node's parent."""

from __future__ import annotations

import socket

from discoro.deaths import Death
from discoro.nodesettings import ServerSettings


class AnswerForDead:
    """Answers for one server between its death and the next one's readiness.

    The parent holds the listening sockets, so a connection made meanwhile waits in the kernel's queue until the next process takes
    it; that one is told how its predecessor ended (``ServerSettings.last_end``) and answers.
    """

    def __init__(self, settings: ServerSettings, listeners: list[socket.socket]) -> None:
        self.settings = settings
        self.listeners = listeners

    def start(self, death: Death) -> None:
        """Begin: the server has ended by ``death``."""

    def stop(self) -> None:
        """Leave the port to the server: it is ready, or is not coming back."""
