"""Credentials: cluster names, and a certificate that is made only when somebody needs it."""

from __future__ import annotations

import unicodedata

import pytest

from discoro.transport import credentials
from discoro.transport.credentials import Credentials, checked_cluster
from discoro.transport.secret import Secret


def test_the_certificate_is_made_on_first_use_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    class Counting:
        @classmethod
        def ephemeral(cls) -> object:
            made.append(object())
            return made[-1]

    monkeypatch.setattr(credentials, "Certificate", Counting)
    ours = Credentials(Secret("hello there"))
    assert not made

    assert ours.certificate is ours.certificate

    assert len(made) == 1


def test_making_credentials_derives_no_key() -> None:
    assert not Credentials(Secret("hello there")).secret.stretched


def test_the_cluster_is_called_default_unless_named() -> None:
    assert Credentials(Secret("hello there")).cluster == "default"


def test_two_ways_to_write_a_cluster_are_one_cluster() -> None:
    assert checked_cluster(unicodedata.normalize("NFD", "Zürich")) == "Zürich"


@pytest.mark.parametrize("name", ["", "a\nb", "a\0b", "\x1b[31m", "x" * 65, "ü" * 33])
def test_what_cannot_stand_in_a_datagram_is_no_cluster(name: str) -> None:
    with pytest.raises(ValueError, match="cluster"):
        Credentials(Secret("hello there"), name)


def test_credentials_do_not_show_the_secret() -> None:
    assert "hello" not in repr(Credentials(Secret("hello there")))
