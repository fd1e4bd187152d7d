"""The figures that the design promises, once more, as numbers."""

from __future__ import annotations

import dataclasses

import pytest

from discoro.transport.limits import Limits

PROMISED = {
    "max_payload": 1 << 20,
    "max_message": 1 << 30,
    "max_file_size": 1 << 30,
    "max_runs": 200_000,
    "max_monitors": 200_000,
    "max_sessions": 16_384,
    "batch_bytes": 64 << 10,
    "batch_message": 128,
    "ack_bytes": 256 << 10,
    "ack_delay": 0.025,
    "window": 8 << 20,
    "resend_ahead": 64 << 10,
    "resume_client": 60.0,
    "resume_server": 75.0,
    "silence": 15.0,
    "ping_idle": 5.0,
    "own_stall": 2.0,
    "first_grant": 64 << 10,
    "most_grant": 1 << 20,
    "grant_budget": 1 << 30,
    "lane_queue": 64 << 20,
    "handshake_timeout": 5.0,
    "handshake_connections": 64,
    "handshake_per_source": 8,
    "free_failures": 5,
    "failures_per_source": 1.0,
    "failures_total": 20.0,
    "weak_secret": 12,
    "hint_interval": 60.0,
    "hint_again": 1.0,
    "hint_rate": 50.0,
    "hint_refusals": 3,
    "outcomes_kept": 1024,
    "outcome_seconds": 600.0,
    "bulk_idle": 60.0,
    "max_files": 10_000,
    "receive_buffer": 256 << 10,
}


@pytest.mark.parametrize("name", PROMISED)
def test_the_default_is_what_was_promised(name: str) -> None:
    assert getattr(Limits(), name) == PROMISED[name]


def test_limits_are_a_value() -> None:
    limits = Limits(window=5)
    assert limits == Limits(window=5) != Limits()
    with pytest.raises(dataclasses.FrozenInstanceError):
        limits.window = 6  # type: ignore[misc]
    assert limits.max_frame == limits.max_payload + limits.frame_overhead


def test_every_figure_is_positive() -> None:
    for field in dataclasses.fields(Limits):
        assert getattr(Limits(), field.name) > 0, field.name
