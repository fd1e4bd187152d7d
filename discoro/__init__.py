"""discoro: run coroutines on every core of every machine you have, and talk to them while they run."""

import os as _os

_beside = _os.path.dirname(_os.path.dirname(_os.path.abspath(__file__)))
if not _os.path.isdir(_os.path.join(__path__[0], "scheduler")) and _os.path.isfile(
    _os.path.join(_beside, "setup.cfg")
):
    # A checkout keeps scheduler/ and transport/ beside this folder; an installed package inside it.
    __path__.append(_beside)
