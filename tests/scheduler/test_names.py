from __future__ import annotations

import pytest

from discoro.scheduler.errors import NameTaken
from discoro.scheduler.names import Names


def test_a_name_belongs_to_one_thing_of_a_kind() -> None:
    names, one, two = Names(), object(), object()

    assert names.register("coro", "a", one) and not names.register("coro", "a", one)
    assert names.register("channel", "a", two)
    with pytest.raises(NameTaken) as caught:
        names.register("coro", "a", two)
    assert (caught.value.kind, caught.value.name) == ("coro", "a")
    assert names.get("coro", "a") is one and names.get("channel", "a") is two


def test_only_the_thing_itself_gives_its_name_back() -> None:
    names, one, two = Names(), object(), object()
    names.register("coro", "a", one)
    names.register("coro", "b", one)

    assert not names.unregister("coro", "a", two) and names.of(one) == [
        ("coro", "a"),
        ("coro", "b"),
    ]
    assert names.unregister("coro", "a", one) and names.unregister("coro", "b", one)
    assert names.of(one) == [] and names.items() == []


def test_those_who_wait_are_told_once() -> None:
    names, thing = Names(), object()
    told: list[object] = []
    names.wait("coro", "a", 1, told.append)
    names.wait("coro", "a", 2, told.append)
    names.stop_waiting("coro", "a", 2)
    names.stop_waiting("coro", "b", 2)

    names.register("coro", "a", thing)
    names.unregister("coro", "a", thing)
    names.register("coro", "a", thing)

    assert told == [thing]


@pytest.mark.parametrize("name", ["", None, 5])
def test_a_name_is_a_text(name: object) -> None:
    with pytest.raises(TypeError):
        Names().register("coro", name, object())  # type: ignore[arg-type]
