"""Small projects of users, as files: equal names, other values. For the tests of shipped code."""

from __future__ import annotations

from pathlib import Path

HELPER = '''"""A module beside the script."""
from __future__ import annotations

import dataclasses
import enum
import importlib
import typing

MARK = {mark}
count = 0
T = typing.TypeVar("T")

@dataclasses.dataclass
class Thing:
    n: int
    other: Thing | None = None

    def mark(self) -> int:
        return MARK + self.n * (self.n == 1)

class Nested:
    class Deep:
        pass

class Size(enum.Enum):
    BIG = MARK

class Box(typing.Generic[T]):
    def __init__(self, value: T) -> None:
        self.value = value

def read() -> int:
    return MARK

def bump() -> int:
    global count
    count += MARK
    return count

def lazy() -> int:
    import late
    return late.MARK

def threaded() -> int:
    import concurrent.futures
    def body() -> int:
        import late_in_thread
        return late_in_thread.MARK
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(body).result()

def executed() -> int:
    names = {}
    exec("import late\\nfrom pkg import sub\\nMARK = late.MARK", names)
    return names["MARK"]

def by_importlib():
    return importlib.import_module("late").MARK, importlib.import_module("pkg.sub").deep.MARK

def hints() -> bool:
    return typing.get_type_hints(Thing)["other"] == typing.Optional[Thing]

def fail() -> None:
    raise ValueError({mark})
'''

FILES = {
    "helper.py": HELPER,
    "late.py": "MARK = {mark}\n",
    "late_in_thread.py": "import late\nMARK = late.MARK\n",
    "queue.py": "MARK = {mark}\n",
    "pkg/__init__.py": (
        "from . import sub\nMARK = {mark}\n\n"
        "def lazy():\n    from .sub import late\n    import pkg.sub.late as again\n"
        "    return late.MARK, again.MARK\n"
    ),
    "pkg/sub/__init__.py": "from . import deep\n",
    "pkg/sub/deep.py": (
        "import importlib\nMARK = {mark}\n\n"
        "def up():\n    from .. import MARK as above\n    return above\n\n"
        "def by_importlib():\n    return importlib.import_module('.late', __package__).MARK\n"
    ),
    "pkg/sub/late.py": "MARK = {mark}\n",
    "ring/__init__.py": "from . import left\n\ndef go():\n    return left.go()\n",
    "ring/left.py": "from . import right\nMARK = {mark}\n\ndef go():\n    return right.go()\n",
    "ring/right.py": "import ring.left\nfrom . import left\n\ndef go():\n    return left.MARK\n",
}


def write(folder: Path, files: dict[str, str], mark: int = 0) -> Path:
    """Write a project whose ``{mark}`` is this number; return its folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = text.replace("{mark}", str(mark))
        path.write_text(text)
    return folder
