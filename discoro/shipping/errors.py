"""Errors about the code and the values of a computation.

::

    DiscoroError
      ComputationError         something about a computation
        NotPicklable           a value cannot be sent (also a TypeError)
        MissingCode            a server lacks a module that the code needs
        PythonMismatch         code cannot cross between these two Pythons (also a VersionMismatch)
        SetupRefused           this code will not be taken: a file, a name, its bytes
      VersionMismatch          two versions that cannot do this together
      UndecodableValue         a value arrived that this process cannot decode
      RemoteError              the user's code failed there, with an exception that cannot travel
"""

from __future__ import annotations

from collections.abc import Sequence

from discoro.scheduler.errors import DiscoroError


class ComputationError(DiscoroError):
    """Something about a computation.

    Attributes:
        name: Name of the computation's function, where it is known.
    """

    def __init__(self, text: str, name: str = "") -> None:
        super().__init__(text)
        self.name = name


class NotPicklable(ComputationError, TypeError):
    """A value cannot be sent.

    Nothing was sent. Open it on the server instead, or pass what is needed to open it.

    Attributes:
        what: Who wanted to send it, for example ``"work()"``.
        path: The way from there to the culprit, for example ``"global 'conf' -> .db"``.
        culprit: Type of the object that cannot be pickled, for example ``"socket.socket"``.
        reason: Why not.
        hint: What to do about it.
    """

    def __init__(self, what: str, path: str, culprit: str, reason: str, hint: str) -> None:
        where = f"{path} is" if path else "it is"
        super().__init__(f"{what} cannot be sent: {where} a {culprit} ({reason}). {hint}")
        self.what = what
        self.path = path
        self.culprit = culprit
        self.reason = reason
        self.hint = hint

    def of(self, what: str) -> NotPicklable:
        """The same error, said of something else: who sends it knows better what it is."""
        return NotPicklable(what, self.path, self.culprit, self.reason, self.hint)


class MissingCode(ComputationError):
    """A server lacks modules that the code needs; nothing of the code has run there.

    Install them there, or, if they are yours, name them in ``depends=[...]``.

    Attributes:
        server: The name of the server.
        modules: The modules that it lacks.
    """

    def __init__(self, server: str, modules: Sequence[str], message: str) -> None:
        super().__init__(message)
        self.server = server
        self.modules = tuple(modules)


class VersionMismatch(DiscoroError):
    """The two ends run versions that cannot do this together.

    Attributes:
        ours: Version here.
        theirs: Version there.
    """

    ours: str
    theirs: str


class PythonMismatch(ComputationError, VersionMismatch):
    """Code cannot cross between these two Pythons; nothing of it has been loaded.

    Start the node with the Python version of the program. Plain values, arrays and files do cross.

    Attributes:
        ours: This process, for example ``"cpython-3.11"``.
        theirs: The process that the code comes from.
    """

    def __init__(self, ours: str, theirs: str) -> None:
        super().__init__(
            f"code from {theirs} cannot run on {ours}: bytecode only crosses between equal Python "
            f"versions (major.minor). Nothing was loaded. Start the server with {theirs}, or this "
            f"program with {ours}; plain values, arrays and files do cross"
        )
        self.ours = ours
        self.theirs = theirs


class SetupRefused(ComputationError):
    """This code will not be taken; nothing of it has run."""


class UndecodableValue(DiscoroError):
    """A value arrived that this process cannot decode; it has not been delivered.

    Most often its class is not known here: name that in ``depends=[...]``.

    Attributes:
        reason: What went wrong, in one line.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"a value arrived that cannot be decoded here: {reason}")
        self.reason = reason


class RemoteError(DiscoroError):
    """The user's code failed there, with an exception that cannot travel.

    An exception of a class that can be pickled arrives as itself.

    Attributes:
        type_name: The name of the exception's type, for example ``"helper.Broken"``.
        text: Its text.
        traceback_text: The traceback there, with source lines.
    """

    def __init__(self, type_name: str, text: str, traceback_text: str) -> None:
        super().__init__(f"{type_name}: {text}" if text else type_name)
        self.type_name = type_name
        self.text = text
        self.traceback_text = traceback_text


for _error in list(vars().values()):
    if isinstance(_error, type) and issubclass(_error, BaseException):
        # The name that users type, in tracebacks and reprs.
        _error.__module__ = "discoro.errors"
