"""What was found: a table for the terminal, JSON, a plot."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from benchmarks.contest import Question
from benchmarks.rounds import Result


def reached(question: Question, result: Result) -> bool | None:
    """Whether a contestant has reached its goal; None when it has none, or no figures."""
    if not result.ratios:
        return None
    more = question.most_more.get(result.label)
    if more is not None:
        return result.figure - result.figure / result.ratio <= more
    most = question.at_most.get(result.label)
    if most is not None:
        return result.figure <= most
    goal = question.goals.get(result.label)
    if goal is None:
        return None
    return result.ratio <= goal if question.lower_is_better else result.ratio >= goal


def times_better(question: Question, ours: Result, peer: Result) -> float:
    """How many times better discoro is than a peer."""
    return peer.ratio / ours.ratio if question.lower_is_better else ours.ratio / peer.ratio


def table(question: Question, results: list[Result], command: str) -> str:
    """Return the results of one question as lines of text."""
    better = "lower" if question.lower_is_better else "higher"
    lines = [f"{question.name}: {question.title} ({question.unit}; {better} is better)"]
    lines.append(f"  {'':34}{'to floor':>9}  {'middle half':>13}{question.unit:>12}  goal")
    ours = next((one for one in results if one.label.startswith("discoro") and one.ratios), None)
    for index, result in enumerate(results):
        name = ("floor: " if not index else "") + result.label
        name += "" if result.encrypted else " (plain)"
        if not result.figures:
            lines.append(f"  {name:34}  left out: {result.missing or 'the floor is missing'}")
            continue
        low, high = result.spread
        figure = f"{result.figure:,.0f}" if result.figure >= 100 else f"{result.figure:,.3g}"
        line = f"  {name:34}{result.ratio:>9.2f}  {low:>6.2f}-{high:<6.2f}{figure:>12}  "
        lines.append(line + _goal(question, result, ours))
    lines.append(f"  repeat: {command}")
    return "\n".join(lines)


def _goal(question: Question, result: Result, ours: Result | None) -> str:
    verdict = reached(question, result)
    more = question.most_more.get(result.label)
    if verdict is not None and more is not None:
        extra = result.figure - result.figure / result.ratio
        return f"{extra:.3g} more, at most {more:g}: {'reached' if verdict else 'MISSED'}"
    most = question.at_most.get(result.label)
    if verdict is not None and most is not None:
        return f"itself at most {most:g}: {'reached' if verdict else 'MISSED'}"
    if verdict is not None:
        sign = "at most" if question.lower_is_better else "at least"
        return f"{sign} {question.goals[result.label]:g}: {'reached' if verdict else 'MISSED'}"
    wanted = question.beats.get(result.label)
    if wanted is None or ours is None:
        return ""
    times = times_better(question, ours, result)
    verdict = times >= wanted
    return (
        f"discoro {times:.3g} times better, {wanted:g} wanted: {'reached' if verdict else 'MISSED'}"
    )


def as_data(found: list[tuple[Question, list[Result]]], rounds: int) -> dict[str, Any]:
    """Return everything as JSON takes it."""
    return {
        "machine": {
            "python": platform.python_version(),
            "system": platform.platform(),
            "cpus": os.cpu_count(),
        },
        "rounds": rounds,
        "questions": [
            {
                "name": question.name,
                "title": question.title,
                "unit": question.unit,
                "lower_is_better": question.lower_is_better,
                "results": [
                    {
                        "label": one.label,
                        "encrypted": one.encrypted,
                        "missing": one.missing or None,
                        "ratio": one.ratio if one.ratios else None,
                        "figure": one.figure if one.figures else None,
                        "ratios": one.ratios,
                        "figures": one.figures,
                        "goal": question.goals.get(one.label),
                        "reached": reached(question, one),
                    }
                    for one in results
                ],
            }
            for question, results in found
        ],
    }


def plot(found: list[tuple[Question, list[Result]]], path: Path) -> str:
    """Draw the ratios into a PNG or SVG file; returns what to tell the user."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return "no plot: matplotlib is not installed"
    figure = Figure(figsize=(9, 2.2 * len(found)), layout="constrained")
    for axes, (question, results) in zip(
        figure.subplots(len(found), squeeze=False)[:, 0], found, strict=True
    ):
        shown = [one for one in reversed(results) if one.ratios]
        colours = ["tab:orange" if one.label.startswith("discoro") else "tab:gray" for one in shown]
        axes.barh([one.label for one in shown], [one.ratio for one in shown], color=colours)
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set_xscale("log")
        better = "lower" if question.lower_is_better else "higher"
        axes.set_title(f"{question.name}: ratio to the floor ({better} is better)", fontsize=9)
        axes.tick_params(labelsize=8)
    figure.savefig(path)
    return f"plot: {path}"
