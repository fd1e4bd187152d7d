"""Coroutines, mailboxes, channels and monitors in one process. Knows no network."""

from .coro import Coro
from .entry import OWN
from .errors import (
    DiscoroError,
    HotSwapException,
    HotSwapRefused,
    MailboxBusy,
    MailboxFull,
    NameTaken,
    NoSuchCoro,
    NotACoroutine,
    NotTheCoroutine,
    SchedulerClosed,
    SchedulerConflict,
    Terminated,
    WrongThread,
)
from .mailbox import Mailbox, Mark
from .outcome import Failed, MonitorException, Outcome, Returned, Stopped
from .scheduler import Elsewhere, Scheduler
from .threads import to_thread

__all__ = [
    "Coro",
    "DiscoroError",
    "Elsewhere",
    "Failed",
    "HotSwapException",
    "HotSwapRefused",
    "Mailbox",
    "MailboxBusy",
    "MailboxFull",
    "Mark",
    "MonitorException",
    "NameTaken",
    "NoSuchCoro",
    "NotACoroutine",
    "NotTheCoroutine",
    "OWN",
    "Outcome",
    "Returned",
    "Scheduler",
    "SchedulerClosed",
    "SchedulerConflict",
    "Stopped",
    "Terminated",
    "WrongThread",
    "to_thread",
]
