"""Carry one chaos plan out by hand: ``python -m tests.chaos --seconds 600 --seed 5``.

The folder with the plan, the history and the node's output stays: its path is said at the end.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.chaos.checker import check, figures
from tests.chaos.driver import begin
from tests.functional.nodes import ended_at_last
from tests.kit import run_async
from tests.processes import world


def carry_out(folder: Path, seconds: float, seed: int, **options: Any) -> None:
    """Carry a plan out, print its figures, and raise AssertionError for what the history has against it."""
    print(f"seed {seed}, {seconds:.0f} s, {options}; plan and history in {folder / 'history'}")
    start = time.monotonic()
    with world(folder) as here:
        chaos, node = begin(here, seconds, seed, **options)
        with ended_at_last(node):
            node.ready()
            try:
                run_async(lambda: chaos.run(node), guard=seconds + 400)
            finally:
                history = chaos.history()
                for name, value in figures(history).items():
                    print(f"  {name}: {value}")
                for name, sizes in chaos.memories.items():
                    print(f"  memory of {name}: at most {max(sizes) >> 20} MiB")
            node.process.terminate()
            assert node.ends() == 0
            assert "Traceback" not in node.text, node.text
    wrong = check(history)
    print(f"  {len(wrong)} violations, {time.monotonic() - start:.0f} s in all")
    assert not wrong, "\n".join([f"seed {seed}, history in {folder / 'history'}", *wrong[:50]])


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=float, default=1.0, help="mean seconds between two faults")
    parser.add_argument("--longest", type=float, default=20.0, help="of one fault, in seconds")
    parser.add_argument("--overlong", type=float, default=90.0, help="of one partition in ten")
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="discoro-chaos-"))
    try:
        carry_out(
            folder,
            options.seconds,
            options.seed,
            every=options.every,
            longest=options.longest,
            overlong=options.overlong,
        )
    except AssertionError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
