"""asyncoro's discoro module: that of 2014 (Computation.setup, run, close) and that of 2015 to 2018 (schedule, run, close)."""

from discoro.compat.computations import discoro_server
from discoro.compat.jobs import Computation, MaxPulseInterval, MinPulseInterval, Scheduler
from discoro.compat.nodes import (
    DiscoroCoroInfo,
    DiscoroNodeAllocate,
    DiscoroNodeAvailInfo,
    DiscoroNodeInfo,
    DiscoroStatus,
)

__all__ = [
    "Computation",
    "DiscoroCoroInfo",
    "DiscoroNodeAllocate",
    "DiscoroNodeAvailInfo",
    "DiscoroNodeInfo",
    "DiscoroStatus",
    "MaxPulseInterval",
    "MinPulseInterval",
    "Scheduler",
    "discoro_server",
]
