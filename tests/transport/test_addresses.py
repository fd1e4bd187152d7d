"""Addresses: parsing, the one form of each, and how locations compare."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discoro.transport.addresses import (
    Location,
    format_address,
    is_loopback,
    listen_hosts,
    normal_host,
    parse_address,
    source_of,
)

ID, OTHER_ID = bytes(range(16)), bytes(range(1, 17))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("host:9", ("host", 9)),
        ("Host.Example.ORG.:9", ("host.example.org", 9)),
        ("10.0.0.1:51350", ("10.0.0.1", 51350)),
        ("[::1]:9", ("::1", 9)),
        ("[2001:DB8:0:0::1]:9", ("2001:db8::1", 9)),
        ("[fe80::1%eth0]:9", ("fe80::1%eth0", 9)),
        ("[::ffff:10.0.0.1]:9", ("10.0.0.1", 9)),
        (" host:9 ", ("host", 9)),
        ("host_with-dash:65535", ("host_with-dash", 65535)),
    ],
)
def test_an_address_is_parsed(text: str, expected: tuple[str, int]) -> None:
    assert parse_address(text) == expected
    assert parse_address(format_address(*expected)) == expected


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("host", "host"),
        ("10.0.0.1", "10.0.0.1"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("fe80::1", "fe80::1"),
    ],
)
def test_a_host_alone_takes_the_default_port(text: str, host: str) -> None:
    assert parse_address(text, 7) == (host, 7)
    with pytest.raises(ValueError, match="names no port"):
        parse_address(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            ":",
            ":9",
            "host:",
            "host:0",
            "host:65536",
            "host:-1",
            "host:x",
            "host:٣",
            "host:1:2",
        ),
        *(
            "[::1",
            "[::1]9",
            "[host]:9",
            "ho st:9",
            "user@host:9",
            "http://host:9",
            "a\nb:9",
            "host:1e3",
        ),
        *(".:9", "..:9", "a..b:9", "host..:9", ".host:9"),
        *("[]:9", "x" * 300 + ":9", "ho/st:9", "host%eth0:9"),
    ],
)
def test_what_is_no_address_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|names no port|is no address"):
        parse_address(text)


@settings(max_examples=300)
@given(st.text(max_size=40))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        host, port = parse_address(text, 7)
    except ValueError:
        return
    assert parse_address(format_address(host, port)) == (host, port)


def test_locations_without_id_compare_by_address_and_port() -> None:
    assert Location("10.0.0.1", 9) == Location("10.0.0.1", 9, name="other name")
    assert Location("10.0.0.1", 9) != Location("10.0.0.1", 8)
    assert Location("::ffff:10.0.0.1", 9) == Location("10.0.0.1", 9)
    assert hash(Location("Host", 9)) == hash(Location("host", 9))


def test_locations_with_id_compare_by_id() -> None:
    """NAT, proxies, several addresses: one process is one process."""
    assert Location("10.0.0.1", 9, id=ID) == Location("192.168.0.1", 10, "name", ID)
    assert Location("10.0.0.1", 9, id=ID) != Location("10.0.0.1", 9, id=OTHER_ID)
    assert hash(Location("10.0.0.1", 9, id=ID)) == hash(Location("192.168.0.1", 10, id=ID))


def test_a_location_with_id_never_equals_one_without() -> None:
    assert Location("10.0.0.1", 9, id=ID) != Location("10.0.0.1", 9)
    assert Location("10.0.0.1", 9) != Location("10.0.0.1", 9, id=ID)
    assert Location("10.0.0.1", 9) != ("10.0.0.1", 9)


def test_a_location_is_immutable() -> None:
    location = Location("10.0.0.1", 9, "node", ID)
    for name in ("addr", "port", "name", "id", "anything"):
        with pytest.raises(AttributeError, match="immutable"):
            setattr(location, name, 1)
    with pytest.raises(AttributeError, match="immutable"):
        del location.addr


@pytest.mark.parametrize("location", [Location("h", 9), Location("::1", 9, "n", ID)])
def test_a_location_survives_pickle_and_copy(location: Location) -> None:
    for twin in (pickle.loads(pickle.dumps(location)), copy.deepcopy(location)):
        assert twin == location
        assert (twin.addr, twin.port, twin.name, twin.id) == (
            *(location.addr, location.port),
            *(location.name, location.id),
        )


def test_a_location_shows_what_it_is() -> None:
    assert str(Location("::1", 9, "node-1")) == "node-1@[::1]:9"
    assert str(Location("h", 9)) == "h:9"
    assert repr(Location("h", 9, "n", ID)) == "Location('h', 9, name='n', id=00010203...)"
    assert Location.parse("h", 9) == Location("h", 9)


@pytest.mark.parametrize("port", [-1, 65536, "9", 9.0, True, None])
def test_a_location_refuses_what_is_no_port(port: object) -> None:
    with pytest.raises(ValueError, match="a port is a number"):
        Location("h", port)  # type: ignore[arg-type]


def test_a_location_refuses_what_is_no_id() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        Location("h", 9, id=b"short")


@pytest.mark.parametrize("host", ["", ".", "a b", "a/b", "a\0b", "http://h", "[h]", "x" * 254])
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(ValueError):
        normal_host(host)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *(("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("::ffff:127.0.0.1", True)),
        *(("localhost", True), ("LOCALHOST.", True), ("10.0.0.1", False), ("host", False)),
        *(("0.0.0.0", False), ("::", False)),
    ],
)
def test_loopback_is_recognised(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::1"),
        ("name", "name"),
    ],
)
def test_a_source_is_an_address_or_a_64_of_ipv6(host: str, source: str) -> None:
    assert source_of(host) == source


def test_without_a_secret_nothing_but_loopback_is_listened_on() -> None:
    assert all(is_loopback(host) for host in listen_hosts([], has_secret=False))
    assert listen_hosts([], has_secret=True) == ["0.0.0.0", "::"]


def test_exactly_the_given_addresses_are_listened_on() -> None:
    for has_secret in (True, False):
        assert listen_hosts(["10.0.0.1", "2001:DB8::1"], has_secret) == ["10.0.0.1", "2001:db8::1"]
