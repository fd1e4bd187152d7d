"""Coroutines, mailboxes, channels and monitors in one process. Knows no network."""

from .categorize import CategorizeMessages
from .channel import Channel
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
from .files import AsyncFile
from .life import Elsewhere
from .mailbox import Mailbox, Mark
from .outcome import Failed, MonitorException, Outcome, Returned, Stopped
from .pipes import AsyncPipe
from .scheduler import Scheduler
from .sync import Condition, Event, Lock, RLock, Semaphore
from .threads import to_thread

__all__ = [
    "AsyncFile",
    "AsyncPipe",
    "CategorizeMessages",
    "Channel",
    "Condition",
    "Coro",
    "DiscoroError",
    "Elsewhere",
    "Event",
    "Failed",
    "HotSwapException",
    "HotSwapRefused",
    "Lock",
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
    "RLock",
    "Returned",
    "Scheduler",
    "SchedulerClosed",
    "SchedulerConflict",
    "Semaphore",
    "Stopped",
    "Terminated",
    "WrongThread",
    "to_thread",
]
