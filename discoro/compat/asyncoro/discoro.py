"""asyncoro's discoro module of 2014; its successors of 2015 and later are not here (docs/migration.md)."""

from discoro.compat.computations import Computation, discoro_server

__all__ = ["Computation", "discoro_server"]
