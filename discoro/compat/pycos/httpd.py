"""pycos.httpd."""

from discoro.compat.httpd import HTTPServer

__all__ = ["HTTPServer"]
