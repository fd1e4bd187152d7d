"""asyncoro.asyncfile."""

from discoro.compat.asyncfile import AsyncFile, AsyncPipe

__all__ = ["AsyncFile", "AsyncPipe"]
