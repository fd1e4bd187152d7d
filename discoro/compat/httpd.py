"""The httpd of both old systems, whose web page is not here: a program that starts it runs on, and is told what there is instead."""

from __future__ import annotations

import logging
from typing import Any

log = logging.getLogger("discoro.compat")


class HTTPServer:
    """Took a computation or client, and showed it in a browser; all its arguments mean nothing."""

    def __init__(self, computation: Any, *args: Any, **kwargs: Any) -> None:
        log.warning("httpd shows nothing here: 'python -m discoro status' does")

    def shutdown(self, wait: bool = True) -> None:
        """Do nothing."""


__all__ = ["HTTPServer"]
