"""The benchmarks run: questions, rounds, reports. What they find is not judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.__main__ import TOPICS, questions
from benchmarks.contest import Contestant, Question
from benchmarks.rounds import Result, ask
from benchmarks.worker import named

HOME = Path(__file__).resolve().parent.parent.parent


class Slow(Contestant):
    """Needs two of whatever it is."""

    label = "slow"

    async def round(self) -> float:
        return 2.0 * self.size


class Fast(Contestant):
    """Needs one."""

    label = "discoro"

    async def round(self) -> float:
        print("what a library prints does not disturb")
        return 1.0 * self.size


class Broken(Contestant):
    """Does not work."""

    label = "broken"

    async def round(self) -> float:
        raise ValueError("no")


def _question(*others: str, lower: bool = True) -> Question:
    here = "tests.benchmarks.test_harness"
    return Question(
        name="times",
        title="who needs less",
        unit="s",
        size=3,
        quick_size=1,
        floor=f"{here}:Slow",
        others=[f"{here}:{one}" if ":" not in one else one for one in others],
        goals={"discoro": 0.6},
        lower_is_better=lower,
    )


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HOME))


def test_a_figure_is_the_median_of_its_ratios_to_the_floor() -> None:
    slow, fast = ask(_question("Fast"), 3)
    assert slow.ratios == [1.0, 1.0, 1.0]
    assert (fast.ratio, fast.figure) == (0.5, 3.0)


def test_who_cannot_take_part_is_left_out_with_the_reason() -> None:
    question = _question("Fast", "Broken", "benchmarks.peers.none:Such")
    _, fast, broken, absent = ask(question, 1)
    assert fast.ratio == 0.5
    assert "ValueError: no" in broken.missing
    assert "benchmarks.peers.none" in absent.missing
    text = report.table(question, [fast, fast, broken, absent], "repeat it so")
    assert "ValueError: no" in text and "repeat it so" in text


@pytest.mark.parametrize(("lower", "ratio", "verdict"), [(True, 0.5, True), (False, 0.5, False)])
def test_a_goal_is_reached_on_the_right_side(lower: bool, ratio: float, verdict: bool) -> None:
    result = Result("discoro", True, [1.0], [ratio])
    assert report.reached(_question("Fast", lower=lower), result) is verdict


def test_every_contestant_of_every_question_can_be_found() -> None:
    assert {question.name.split("-")[0] for question in questions([])} == set(TOPICS)
    for question in questions([]):
        for reference in question.contestants:
            if not reference.startswith("benchmarks.peers."):
                assert named(reference).label


def test_a_quick_run_writes_a_table_and_json(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks", "runs", "echo", "--quick", "--rounds=1"]
    done = subprocess.run(
        [*command, "--without-peers", f"--json={file}"],
        cwd=HOME,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "discoro" in done.stdout
    figures = json.loads(file.read_text())
    assert [question["name"] for question in figures["questions"]] == ["echo", "runs"]
    for question in figures["questions"]:
        assert all(result["ratio"] > 0 for result in question["results"]), done.stdout
