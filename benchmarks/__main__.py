"""The command: ``python -m benchmarks [QUESTION ...]``."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path

from benchmarks import report
from benchmarks.contest import Question
from benchmarks.rounds import ask

#: One file each.
TOPICS: tuple[str, ...] = (
    "echo",
    "runs",
    "messages",
    "bulk",
    "files",
    "beside",
    "arrays",
    "local",
    "start",
    "memory",
    "setup",
    "growth",
)


def questions(wanted: list[str]) -> list[Question]:
    """Return the questions that the command line names, by file or by question; all when it names none."""
    known: list[tuple[str, Question]] = []
    for topic in TOPICS:
        module = importlib.import_module(f"benchmarks.{topic}")
        known += [(topic, question) for question in module.QUESTIONS]
    names = {topic for topic, _ in known} | {question.name for _, question in known}
    for name in wanted:
        if name not in names:
            raise SystemExit(f"no question {name!r}; there are: {' '.join(sorted(names))}")
    return [
        question
        for topic, question in known
        if not wanted or topic in wanted or question.name in wanted
    ]


def main() -> None:
    """Measure, and say what was found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("question", nargs="*", help=f"of: {' '.join(TOPICS)}; default: all")
    parser.add_argument("--rounds", type=int, default=7, help="default: 7")
    parser.add_argument("--quick", action="store_true", help="little work: a look, no measurement")
    parser.add_argument("--without-peers", action="store_true", help="discoro and the floors only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the ratios (PNG, SVG)")
    options = parser.parse_args()
    found = []
    for question in questions(options.question):
        if options.without_peers:
            question = question.without_peers()
        results = ask(question, options.rounds, quick=options.quick)
        found.append((question, results))
        command = f"python -m benchmarks {question.name} --rounds {options.rounds}"
        print(report.table(question, results, command), end="\n\n", flush=True)
    if options.json:
        data = report.as_data(found, options.rounds)
        options.json.write_text(json.dumps(data, indent=1) + "\n")
    if options.plot:
        print(report.plot(found, options.plot))


if __name__ == "__main__":
    main()
