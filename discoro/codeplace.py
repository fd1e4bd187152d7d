"""Whose code a coroutine runs: the computation it belongs to travels with its context.

A coroutine that a computation's coroutine starts inherits the context, and so belongs to the same computation; messages for
it are decoded with that computation's names.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

# The code space (discoro.shipping.codespace.CodeSpace) of the computation that is running; unset in a user's own program.
code_space: ContextVar[Any] = ContextVar("discoro code space", default=None)


def names_for(receiver: Any) -> Any:
    """The names in which messages for a coroutine or channel are decoded; None: the program's own."""
    context = getattr(receiver, "_context", None)
    return None if context is None else context.get(code_space)
