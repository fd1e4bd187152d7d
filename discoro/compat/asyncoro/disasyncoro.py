"""asyncoro.disasyncoro: the same as asyncoro here."""

from discoro.compat.asyncoro import *  # noqa: F403
from discoro.compat.asyncoro import MaxConnectionErrors as MaxConnectionErrors
from discoro.compat.asyncoro import MsgTimeout as MsgTimeout
from discoro.compat.asyncoro import __all__ as __all__
from discoro.compat.asyncoro import __version__ as __version__
