"""Words of the benchmarks: a question, and who answers it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar


class Missing(Exception):
    """This contestant cannot take part; the text says why."""


class Contestant:
    """One program that answers a question, in a process of its own (and more that it starts).

    Attributes:
        label: Its name in the table.
        encrypted: Whether its bytes travel encrypted.
        size: How much there is to do in a round; the question says what of.
    """

    label: ClassVar[str] = ""
    encrypted: ClassVar[bool] = True

    def __init__(self, size: int) -> None:
        self.size = size

    async def start(self) -> None:
        """Get ready: start servers, connect. Raises Missing."""

    async def round(self) -> float:
        """Do it once and return the figure, in the question's unit."""
        raise NotImplementedError

    async def stop(self) -> None:
        """End what start has started."""


@dataclass(frozen=True)
class Question:
    """What is measured, by whom, and what must be reached.

    Attributes:
        name: For the command line.
        title: What is done.
        unit: Of the figures.
        lower_is_better: Times and sizes: yes; so many per second: no.
        size: How much there is to do in a round.
        quick_size: The same for a quick look.
        floor: ``module:class`` of the floor.
        others: The same of all others; discoro's own first.
        goals: Label -> ratio to the floor that this contestant must reach.
        most_more: Label -> how much more than the floor's its figure may be.
        at_most: Label -> the figure itself that it may have, whatever the floor's is.
        beats: Label of a peer -> how many times better discoro must be.
        rounds: Most rounds; for what takes long.
    """

    name: str
    title: str
    unit: str
    size: int
    quick_size: int
    floor: str
    others: Sequence[str]
    goals: Mapping[str, float] = field(default_factory=dict)
    beats: Mapping[str, float] = field(default_factory=dict)
    most_more: Mapping[str, float] = field(default_factory=dict)
    at_most: Mapping[str, float] = field(default_factory=dict)
    lower_is_better: bool = False
    rounds: int = 1000

    @property
    def contestants(self) -> list[str]:
        """All of them, the floor first."""
        return [self.floor, *self.others]

    def without_peers(self) -> Question:
        """The same for discoro and the floors only."""
        others = [one for one in self.others if not one.startswith("benchmarks.peers.")]
        return replace(self, others=others)
