"""Every public name of asyncoro and pycos is here, and so is every public name inside their classes."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from tests.compat.old import changed

OF_2012 = "AsynCoroSocket AsynCoroThreadPool AsynCoroDBCursor"
OF_2014 = """AsyncSocket AsynCoroSocket Coro AsynCoro Lock RLock Event Condition Semaphore HotSwapException MonitorException
Location Channel CategorizeMessages AsyncThreadPool AsyncDBCursor MetaSingleton logger serialize unserialize RCI"""
OF_2018 = """AsyncSocket AsynCoroSocket Coro AsynCoro Lock RLock Event Condition Semaphore HotSwapException MonitorException
Location Channel CategorizeMessages AsyncThreadPool AsyncDBCursor Singleton logger serialize deserialize unserialize Logger
PeerStatus RCI"""
OF_PYCOS = """Task Pycos Lock RLock Event Condition Semaphore AsyncSocket HotSwapException MonitorStatus Location Channel
CategorizeMessages AsyncThreadPool AsyncDBCursor Singleton logger serialize deserialize Logger PeerStatus RPS RTI"""
FILES = "AsyncFile AsyncPipe"
CONFIG = (
    "PickleProtocolVersion MsgTimeout MaxConnectionErrors NetPort MinPulseInterval MaxPulseInterval"
)

MODULES = {
    "asyncoro": f"{OF_2012} {OF_2014} {OF_2018}",
    "asyncoro.disasyncoro": f"{OF_2012} {OF_2014} {OF_2018} MaxConnectionErrors MsgTimeout",
    "asyncoro.asyncfile": FILES,
    "asyncoro.discoro": """Computation discoro_server Scheduler DiscoroStatus DiscoroCoroInfo DiscoroNodeInfo
DiscoroNodeAvailInfo DiscoroNodeAllocate""",
    "asyncoro.discoro_schedulers": "RemoteCoroScheduler",
    "asyncoro.httpd": "HTTPServer",
    "pycos.httpd": "HTTPServer",
    "pycos.dispycos": """Client Computation Scheduler DispycosStatus DispycosTaskInfo DispycosNodeInfo DispycosNodeAvailInfo
DispycosNodeAllocate MinPulseInterval MaxPulseInterval""",
    "pycos": OF_PYCOS,
    "pycos.netpycos": f"{OF_PYCOS} MsgTimeout",
    "pycos.asyncfile": FILES,
    "pycos.config": CONFIG,
}
CORO = """location name locate register unregister set_daemon suspend sleep resume wakeup send deliver receive recv throw value
finish terminate hot_swappable hot_swap monitor notify is_alive scheduler"""
CHANNEL = (
    "location locate register unregister set_transform subscribe unsubscribe send deliver close"
)
SERVICE = "location name locate register unregister monitor close __call__"
SCHEDULER = """instance location locations name scheduler finish terminate join is_alive atexit drop_atexit dest_path
locate peer discover_peers ignore_peers peer_status peers close_peer send_file del_file"""
SOCKET = """setblocking close unwrap get_ssl_version set_ssl_version setdefaulttimeout getdefaulttimeout settimeout gettimeout
create_connection recv send recvall sendall recvfrom sendto accept connect send_msg recv_msg fileno"""
CLASSES = {
    "asyncoro.Coro": CORO,
    "asyncoro.Channel": CHANNEL,
    "asyncoro.RCI": SERVICE,
    "asyncoro.AsynCoro": f"{SCHEDULER} cur_coro dest_path_prefix",
    "asyncoro.AsyncSocket": SOCKET,
    "asyncoro.CategorizeMessages": "add remove receive",
    "asyncoro.Condition": "acquire notify notify_all notifyAll wait",
    "asyncoro.Event": "set is_set clear wait",
    "asyncoro.Lock": "acquire release",
    "asyncoro.RLock": "acquire release",
    "asyncoro.Semaphore": "acquire release",
    "asyncoro.AsyncThreadPool": "async_task join terminate",
    "asyncoro.AsyncDBCursor": "execute executemany callproc",
    "asyncoro.Logger": "DEBUG INFO WARN WARNING ERROR CRITICAL FATAL setLevel show_ms log nolog flush shutdown",
    "asyncoro.Singleton": "instance discard",
    "asyncoro.asyncfile.AsyncFile": "read write readline readlines close fileno",
    "asyncoro.asyncfile.AsyncPipe": """write read readline read_stderr readline_stderr communicate poll close""",
    "asyncoro.discoro.Computation": """setup run ping close schedule nodes servers run_at run_async run_async_at run_result
run_result_at run_results run_each run_nodes run_servers run_node_servers enable_node enable_server""",
    "asyncoro.discoro.Scheduler": """NodeDiscovered NodeInitialized NodeClosed NodeIgnore NodeDisconnected ServerDiscovered
ServerInitialized ServerClosed ServerIgnore ServerDisconnected CoroCreated ComputationScheduled ComputationClosed""",
    "asyncoro.discoro.DiscoroNodeAllocate": "allocate",
    "pycos.dispycos.Client": """schedule nodes servers close rtask rtask_at io_rtask io_rtask_at run run_at run_async
run_async_at enable_node enable_server suspend_node resume_node suspend_server resume_server status_task""",
    "pycos.dispycos.Scheduler": """NodeIgnore NodeDiscovered NodeInitialized NodeSuspended NodeResumed NodeClosed
NodeDisconnected NodeAbandoned ServerDiscovered ServerInitialized ServerSuspended ServerResumed ServerClosed
ServerDisconnected ServerAbandoned TaskCreated TaskStarted TaskFinished TaskAbandoned TaskTerminated
ClientScheduled ClientClosed""",
    "asyncoro.discoro_schedulers.RemoteCoroScheduler": """schedule submit submit_at execute execute_at map_results finish""",
    "asyncoro.httpd.HTTPServer": "shutdown",
    "pycos.Task": f"{CORO} __call__",
    "pycos.Channel": CHANNEL,
    "pycos.RPS": SERVICE,
    "pycos.RTI": SERVICE,
    "pycos.Pycos": f"{SCHEDULER} cur_task host_ipaddr host_addrinfo",
    "pycos.PeerStatus": "Online Offline",
    "pycos.CategorizeMessages": "add remove receive recv",
}


def found(path: str) -> Any:
    module, _, name = f"discoro.compat.{path}".rpartition(".")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_every_public_name(module: str) -> None:
    imported = importlib.import_module(f"discoro.compat.{module}")
    missing = [name for name in MODULES[module].split() if not hasattr(imported, name)]
    assert not missing


@pytest.mark.parametrize("module", [name for name in MODULES if name != "pycos.config"])
def test_a_star_import_brings_what_it_brought(module: str) -> None:
    names: dict[str, Any] = {}
    exec(f"from discoro.compat.{module} import *", names)
    wanted = set(MODULES[module].split()) - {"MaxConnectionErrors", "MsgTimeout"}
    assert wanted <= names.keys()


@pytest.mark.parametrize("path", CLASSES)
def test_a_class_has_every_public_name(path: str) -> None:
    cls = found(path)
    missing = [name for name in CLASSES[path].split() if not hasattr(cls, name)]
    assert not missing


@pytest.mark.parametrize("path", ["asyncoro.RemoteCoro", "pycos.RemoteTask"])
def test_a_reference_has_the_names_of_a_coroutine(path: str) -> None:
    cls = found(path)
    own = {"receive", "recv", "sleep", "suspend", "scheduler"}
    missing = [name for name in CORO.split() if name not in own and not hasattr(cls, name)]
    assert not missing


def test_a_condition_has_its_lock_inside() -> None:
    condition = found("asyncoro.Condition")()
    assert callable(condition.release)
    with pytest.raises(TypeError):
        found("pycos.Condition")("a lock")


def test_what_ran_on_another_name_is_the_same() -> None:
    assert found("asyncoro.AsynCoroSocket") is found("asyncoro.AsyncSocket")
    assert found("asyncoro.AsynCoroThreadPool") is found("asyncoro.AsyncThreadPool")
    assert found("asyncoro.AsynCoroDBCursor") is found("asyncoro.AsyncDBCursor")
    assert found("asyncoro.SysCoro") is found("asyncoro.Coro")
    assert found("asyncoro.unserialize") is found("asyncoro.deserialize")
    assert found("asyncoro.MetaSingleton") is found("asyncoro.Singleton")
    assert found("pycos.RTI") is found("pycos.RPS")
    assert found("pycos.netpycos.Pycos") is found("pycos.Pycos")
    assert found("pycos").netpycos.Task is found("pycos.Task")
    assert found("asyncoro").disasyncoro.Coro is found("asyncoro.Coro")
    assert found("pycos").dispycos.Computation is found("pycos.dispycos.Client")
    assert found("pycos").httpd.HTTPServer is found("asyncoro").httpd.HTTPServer
    assert not hasattr(found("pycos"), "nothing")
    assert found("asyncoro.disasyncoro.RCI") is found("asyncoro.RCI")


def test_the_migration_guide_names_every_public_name() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "migration.md").read_text()
    words = set(re.findall(r"\w+", guide))
    lists = [*MODULES.values(), *CLASSES.values()]
    missing = {name for names in lists for name in names.split()} - words - {"__call__"}
    assert not missing


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("import asyncoro", "import discoro.compat.asyncoro as asyncoro"),
        ("import asyncoro  # 2016", "import discoro.compat.asyncoro as asyncoro  # 2016"),
        ("import pycos.netpycos", "import discoro.compat.pycos as pycos"),
        ("    import disasyncoro3 as asyncoro", "    import discoro.compat.asyncoro as asyncoro"),
        ("\timport disasyncoro as asyncoro", "\timport discoro.compat.asyncoro as asyncoro"),
        ("import asyncoro3 as asyncoro", "import discoro.compat.asyncoro as asyncoro"),
        ("import asyncoro as ac", "import discoro.compat.asyncoro as ac"),
        ("import discoro", "import discoro.compat.asyncoro.discoro as discoro"),
        ("import asyncfile", "import discoro.compat.asyncoro.asyncfile as asyncfile"),
        ("import asyncfile3 as asyncfile", "import discoro.compat.asyncoro.asyncfile as asyncfile"),
        ("import pycos, socket", "import discoro.compat.pycos as pycos, socket"),
        ("import os, asyncoro", "import os, discoro.compat.asyncoro as asyncoro"),
        (
            "import pycos.netpycos, sys, pycos",
            "import discoro.compat.pycos as pycos, sys, discoro.compat.pycos as pycos",
        ),
        ("from asyncoro.discoro import *", "from discoro.compat.asyncoro.discoro import *"),
        ("from pycos import Task, Pycos", "from discoro.compat.pycos import Task, Pycos"),
        ("import asyncoroutine, pycosat", "import asyncoroutine, pycosat"),
        ("import asyncoroutine as a", "import asyncoroutine as a"),
        ("from discoro import Computation", "from discoro import Computation"),
        ("import discoro.compat.pycos as pycos, os", "import discoro.compat.pycos as pycos, os"),
    ],
)
def test_the_sed_lines_of_the_migration_guide_change_an_import(before: str, after: str) -> None:
    assert changed(f"{before}\n") == f"{after}\n"
