"""pycos.netpycos: the same as pycos here."""

from discoro.compat.pycos import *  # noqa: F403
from discoro.compat.pycos import MsgTimeout as MsgTimeout
from discoro.compat.pycos import __all__ as __all__
from discoro.compat.pycos import __version__ as __version__
from discoro.compat.pycos import config as config
