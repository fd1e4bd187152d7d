from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable

from discoro.node.watchdog import Blocked, Watchdog, user_frame
from discoro.shipping.privatenames import private_file
from tests.kit import eventually, run_async


def a_line_that_blocks(release: threading.Event) -> None:
    while not release.is_set():
        pass


def sleeping_in_the_library(release: threading.Event) -> None:
    release.wait(10)


def reports_while(block: Callable[[threading.Event], None]) -> list[Blocked | None]:
    """Block a loop until the watchdog has said so twice; return what it said, the end included."""
    reports: list[Blocked | None] = []
    release = threading.Event()

    def report(blocked: Blocked | None) -> None:
        reports.append(blocked)
        if len(reports) == 2:
            release.set()

    async def main() -> None:
        dog = Watchdog(asyncio.get_running_loop(), report, limit=0.02, every=0.005)
        dog.start()
        try:
            await asyncio.sleep(0.01)
            block(release)
            await eventually(lambda: None in reports)
        finally:
            dog.stop()

    run_async(main)
    return reports


def test_a_loop_that_computes_is_named_with_its_line() -> None:
    first, second, *_, last = reports_while(a_line_that_blocks)
    assert isinstance(first, Blocked) and isinstance(second, Blocked)
    assert first.file == __file__ and first.function == "a_line_that_blocks"
    assert first.line - a_line_that_blocks.__code__.co_firstlineno in (1, 2)
    assert second.seconds > first.seconds > 0.02
    assert last is None
    assert str(Blocked(12.3, "f.py", 7, "f")) == "blocked for 12 s at f.py:7 in f"


def test_the_line_is_the_users_and_not_the_librarys() -> None:
    first = reports_while(sleeping_in_the_library)[0]
    assert isinstance(first, Blocked)
    assert first.function == "sleeping_in_the_library" and first.file == __file__


def test_a_line_of_shipped_code_has_the_file_name_that_the_user_knows() -> None:
    names: dict[str, Callable[[threading.Event], None]] = {}
    private = private_file("0" * 32, "/home/me/work.py")
    exec(compile("def block(release): release.wait(10)", private, "exec"), names)
    first = reports_while(names["block"])[0]
    assert isinstance(first, Blocked) and first.file == "/home/me/work.py"


def test_a_loop_that_answers_is_never_reported() -> None:
    reports: list[Blocked | None] = []

    async def main() -> None:
        dog = Watchdog(asyncio.get_running_loop(), reports.append, limit=5.0, every=0.001)
        dog.start()
        for _ in range(50):
            await asyncio.sleep(0.001)
        dog.stop()

    run_async(main)
    assert reports == []


def test_time_in_which_we_ourselves_stood_still_is_not_held_against_the_loop() -> None:
    """After SIGCONT the thread wakes late too: nobody was blocked."""
    reports: list[Blocked | None] = []
    asked = threading.Event()

    class Loop:
        def call_soon_threadsafe(self, callback: Callable[[], object]) -> object:
            asked.set()
            return None

    dog = Watchdog(Loop(), reports.append, limit=0.05, every=0.001)
    original = dog._stop.wait

    def stopped(timeout: float | None = None) -> bool:
        if asked.is_set() and not stalled:
            stalled.append(True)
            time.sleep(0.2)
        return original(timeout)

    stalled: list[bool] = []
    dog._stop.wait = stopped  # type: ignore[method-assign]
    dog.start()
    limit = time.monotonic() + 10
    while not reports and time.monotonic() < limit:
        time.sleep(0.001)
    dog.stop()
    first = reports[0]
    assert isinstance(first, Blocked)
    assert first.seconds < 0.2


def test_it_ends_with_the_loop() -> None:
    class Closed:
        def call_soon_threadsafe(self, callback: Callable[[], object]) -> object:
            raise RuntimeError("Event loop is closed")

    dog = Watchdog(Closed(), lambda _: None, every=0.001)
    dog.start()
    dog._thread.join(10)
    assert not dog._thread.is_alive()
    dog.stop()


def test_without_a_users_frame_the_innermost_of_a_library_is_named() -> None:
    found = []

    class Spy(json.JSONEncoder):
        def default(self, o: object) -> object:
            frame = sys._getframe()
            assert frame.f_back is not None
            found.append(user_frame(frame.f_back))
            return None

    json.dumps({1: object()}, cls=Spy, indent=1)
    assert found[0].f_code.co_filename == __file__  # this test called json

    thread = threading.Thread(target=time.sleep, args=(0.2,))
    thread.start()
    frame = sys._current_frames()[thread.ident or 0]
    assert user_frame(frame).f_code.co_filename == threading.__file__
    del frame
    thread.join()
