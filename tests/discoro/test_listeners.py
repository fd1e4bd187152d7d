from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from discoro.node import listeners
from discoro.node.listeners import AddressUnusable, PortTaken, open_listeners, port_owner


def bound(
    given: tuple[str, ...], port: int = 0, *, has_secret: bool = False
) -> list[tuple[str, int]]:
    with ExitStack() as stack:
        opened = open_listeners(given, port, has_secret=has_secret)
        for listener in opened:
            stack.enter_context(listener)
            assert not listener.get_inheritable()
        return [listener.getsockname()[:2] for listener in opened]


def test_without_a_secret_loopback_is_bound_with_one_all() -> None:
    assert {host for host, _ in bound(())} <= {"127.0.0.1", "::1"}
    assert {host for host, _ in bound((), has_secret=True)} <= {"0.0.0.0", "::"}


def test_the_port_is_the_same_on_every_address() -> None:
    addresses = bound(("127.0.0.1", "127.0.0.2", "127.0.0.3"))
    assert [host for host, _ in addresses] == ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    assert len({port for _, port in addresses}) == 1


def test_a_port_taken_on_one_address_is_tried_no_further() -> None:
    with socket.create_server(("127.0.0.2", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken) as caught:
            open_listeners(("127.0.0.1", "127.0.0.2"), port, has_secret=True)
        assert (caught.value.host, caught.value.port) == ("127.0.0.2", port)
        assert f"pid {os.getpid()} (" in caught.value.owner
        with socket.create_server(("127.0.0.1", port)):
            pass  # the one that was bound first is free again


def test_any_port_is_tried_again_when_it_is_taken_on_the_second_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original: Callable[..., socket.socket | None] = listeners._open
    failures = [0]

    def sometimes(host: str, port: int, *, optional: bool) -> socket.socket | None:
        if host == "127.0.0.2" and failures[0] < 3:
            failures[0] += 1
            raise PortTaken(host, port, "others")
        return original(host, port, optional=optional)

    monkeypatch.setattr(listeners, "_open", sometimes)
    assert len(bound(("127.0.0.1", "127.0.0.2"))) == 2
    assert failures == [3]


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_ours_is_named(host: str) -> None:
    with pytest.raises(AddressUnusable, match=host) as caught:
        open_listeners((host,), 0, has_secret=True)
    assert host in caught.value.host


def test_a_machine_without_ipv6_listens_on_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    original = socket.socket.bind

    def bind(self: socket.socket, address: tuple[str, int]) -> None:
        if self.family == socket.AF_INET6:
            raise OSError(99, "Cannot assign requested address")
        original(self, address)

    monkeypatch.setattr(socket.socket, "bind", bind)
    assert [host for host, _ in bound(())] == ["127.0.0.1"]
    with pytest.raises(AddressUnusable):
        open_listeners(("::1",), 0, has_secret=False)


def test_an_owner_that_is_not_told_is_another_users() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert port_owner(port) == "another user's process"
