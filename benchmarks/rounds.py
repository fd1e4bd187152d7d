"""Rounds: all contestants of a question, taking turns; and what comes of their figures."""

from __future__ import annotations

import json
import os
import selectors
import signal
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from typing import Any

from benchmarks.contest import Question
from benchmarks.worker import named

#: A contestant that takes longer for its start, or for a round, is left out.
PATIENCE = 120.0


@dataclass
class Result:
    """What one contestant has reached.

    Attributes:
        figures: One per round.
        ratios: The same, each divided by the floor's of that round.
        missing: Why there are none.
    """

    label: str
    encrypted: bool
    figures: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    missing: str = ""

    @property
    def figure(self) -> float:
        """The median."""
        return statistics.median(self.figures)

    @property
    def ratio(self) -> float:
        """The median of the ratios."""
        return statistics.median(self.ratios)

    @property
    def spread(self) -> tuple[float, float]:
        """The middle half of the ratios."""
        if len(self.ratios) < 3:
            return min(self.ratios), max(self.ratios)
        low, _, high = statistics.quantiles(self.ratios, n=4, method="inclusive")
        return low, high


class Runner:
    """The process of one contestant."""

    def __init__(self, reference: str, size: int) -> None:
        self.reference = reference
        self.missing = ""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", reference, str(size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        self.missing = self._reply().get("missing", "")

    def round(self) -> float | None:
        """Let it do its work once; None when it cannot."""
        if self.missing:
            return None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"round\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        reply = self._reply()
        self.missing = reply.get("missing", "")
        return reply.get("figure")

    def _reply(self) -> dict[str, Any]:
        stdout = self._process.stdout
        assert stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            if not selector.select(PATIENCE):
                return {"missing": f"no answer within {PATIENCE:g} s"}
        line = stdout.readline()
        if line:
            reply: dict[str, Any] = json.loads(line)
            return reply
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        return {"missing": f"failed: {said[-1] if said else 'it said nothing'}"}

    def close(self) -> None:
        """End it, and whatever it has started and left."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()


def ask(question: Question, rounds: int, *, quick: bool = False) -> list[Result]:
    """Let all contestants answer, in turns; the floor's result is the first."""
    size = question.quick_size if quick else question.size
    results = []
    runners: list[Runner | None] = []
    try:
        for reference in question.contestants:
            result = Result("", True)
            results.append(result)
            try:
                contestant = named(reference)
                result.label, result.encrypted = contestant.label, contestant.encrypted
                runners.append(Runner(reference, size))
            except ImportError as error:
                result.label, result.missing = reference, str(error)
                runners.append(None)
        for turn in range(1 + min(rounds, question.rounds)):
            figures = [None if runner is None else runner.round() for runner in runners]
            if not turn and question.rounds > 1:
                continue  # the first one warms up
            if figures[0] is None:
                break
            for result, figure in zip(results, figures, strict=True):
                if figure is not None:
                    result.figures.append(figure)
                    result.ratios.append(figure / figures[0])
        for result, runner in zip(results, runners, strict=True):
            if runner is not None:
                result.missing = runner.missing
    finally:
        for runner in runners:
            if runner is not None:
                runner.close()
    return results
