"""Credentials: what a process proves itself with, and what it is bound to. Shell (makes certificates)."""

from __future__ import annotations

import unicodedata

from .secret import Secret
from .tls import Certificate

DEFAULT_CLUSTER = "default"
CLUSTER_BYTES = 64
"""Longest name of a cluster, UTF-8: it stands in every discovery datagram."""


class Credentials:
    """Secret, cluster and certificate of one process.

    Attributes:
        secret: The shared secret.
        cluster: Name of the cluster, in Unicode form NFC.

    Raises:
        ValueError: If the name of the cluster is empty, too long or holds control characters.
    """

    def __init__(
        self,
        secret: Secret,
        cluster: str = DEFAULT_CLUSTER,
        certificate: Certificate | None = None,
    ) -> None:
        self.secret = secret
        self.cluster = checked_cluster(cluster)
        self._certificate = certificate

    @property
    def certificate(self) -> Certificate:
        """The server's certificate; made on first use, since a process that only dials needs none."""
        if self._certificate is None:
            self._certificate = Certificate.ephemeral()
        return self._certificate

    def __repr__(self) -> str:
        return f"<Credentials of cluster {self.cluster!r}>"


def checked_cluster(name: str) -> str:
    """Return the name of a cluster in Unicode form NFC.

    Raises:
        ValueError: If it is empty, longer than 64 bytes or not printable.
    """
    name = unicodedata.normalize("NFC", name)
    if not name or not name.isprintable():
        raise ValueError(f"a cluster needs a name of printable characters, not {name!r}")
    if len(name.encode()) > CLUSTER_BYTES:
        raise ValueError(f"the name of a cluster takes at most {CLUSTER_BYTES} bytes: {name!r}")
    return name
