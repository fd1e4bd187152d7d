"""Limits: every size, count and time that the transport promises, in one frozen value.

Pure. Sizes are bytes, times are seconds, unless the line says otherwise. A test compares the figures with those in the docs.
Whoever needs a limit takes a :class:`Limits` as an argument; nobody reads a constant from somewhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a process accepts, keeps and waits for. Every figure can be set; the defaults are the promised ones."""

    # --- before authentication -------------------------------------------------------------------------------------
    handshake_timeout: float = 5.0
    """From accept to the end of the handshake, TLS included; then the connection is closed."""
    handshake_connections: int = 64
    """Connections that have not proved themselves, per process; more get FAIL "busy" or are closed."""
    handshake_per_source: int = 8
    """The same, per source address (IPv6: /64)."""
    handshake_per_loopback: int = 32
    """The same, for a loopback source."""
    handshake_backlog: int = 512
    """Length of the listening queue in the kernel, in connections."""
    free_failures: int = 5
    """Wrong secrets of one source that cost no waiting."""
    failures_per_source: float = 1.0
    """Wrong secrets answered per second and source, after the free ones."""
    failures_total: float = 20.0
    """Wrong secrets answered per second, all sources that never proved themselves together."""
    throttle_sources: int = 16_384
    """Sources whose failures are remembered."""
    weak_secret: int = 12
    """A secret with fewer characters warns."""
    tls_shutdown_timeout: float = 2.0
    """How long a closing TLS connection waits for the other side's goodbye."""

    # --- discovery -------------------------------------------------------------------------------------------------
    ask_first: float = 0.25
    """Wait between the first asks; doubled up to ``ask_every``."""
    ask_every: float = 10.0
    """Wait between asks later on."""
    hint_interval: float = 60.0
    """An address that was only hinted at is dialled at most once in this time .."""
    hint_again: float = 1.0
    """... but after this, doubled each time, where nobody was there just then, and after this where somebody had proved himself."""
    hint_rate: float = 50.0
    """Hinted addresses dialled per second, those not counted that a peer has told of."""
    hint_refusals: int = 3
    """After so many refusals a hint is ignored."""
    hint_addresses: int = 4_096
    """Hinted addresses remembered."""
    beacon_bytes: int = 1_024
    """Longest discovery datagram that is looked at."""
    beacon_rate: float = 200.0
    """Discovery datagrams answered per second."""

    # --- frames and control data -----------------------------------------------------------------------------------
    max_payload: int = 1 * MIB
    """Longest message that travels inside a batch; what is longer goes over the bulk connection."""
    frame_overhead: int = 64 * KIB
    """What a frame may hold beyond its payload: header and control part."""
    batch_bytes: int = 64 * KIB
    """A batch is closed at so many bytes (or holds one longer message)."""
    batch_message: int = 128
    """What each message in a batch counts beside its length: four hundred small ones are a batch too."""
    batch_entries: int = 65_536
    """Entries in one batch."""
    raw_payload: int = 1 * KIB
    """Payloads from this length on stand raw behind the table instead of inside it."""
    control_depth: int = 32
    """Nesting of control data."""
    control_items: int = 65_536
    """Items of one array or map of control data."""
    tls_receive: int = 64 * KIB
    """What one turn of the loop takes from one connection, at most."""
    receive_buffer: int = 256 * KIB
    """The one receive buffer of a loop, shared by its links."""

    # --- sessions --------------------------------------------------------------------------------------------------
    max_sessions: int = 16_384
    """Sessions of one process."""
    window: int = 8 * MIB
    """Bytes sent and not acknowledged; further batches wait unnumbered. May overshoot by one batch."""
    session_queue: int = 1 * GIB
    """What may wait so: results, answers and receipts need no grant. A peer that has caused more, and takes none of it, loses
    its session."""
    ack_bytes: int = 256 * KIB
    """An ack goes alone once so many bytes wait for one ..."""
    ack_delay: float = 0.025
    """... or after this time."""
    resend_ahead: int = 64 * KIB
    """After a resume kept batches are sent again at most this far ahead of the peer's ack."""
    resume_client: float = 60.0
    """The side that dials gives a session up after so long without a link ..."""
    resume_server: float = 75.0
    """... and the other one later, so that nobody resumes into nothing by a race."""
    refused_timeout: float = 5.0
    """"Connection refused" for so long, on an address the peer itself listens on, ends its session."""
    ping_idle: float = 5.0
    """Nothing heard for so long: PING."""
    silence: float = 15.0
    """Nothing heard for so long: ask the kernel. It answers: busy. It does not: the link is down."""
    own_stall: float = 2.0
    """A tick that comes this much late means that we stood still: the excess is not held against the peer."""
    tick: float = 1.0
    """Time between two looks at the clock."""
    probe_interval: int = 3
    """Kernel keepalive: seconds between probes ..."""
    probe_idle: int = 10
    """... after so many quiet seconds ..."""
    probe_count: int = 3
    """... and so many unanswered ones end the connection."""
    protocol_errors: int = 3
    """So many links in a row that broke the rules end the session."""
    close_timeout: float = 2.0
    """A closing session waits so long for its last batches to be acknowledged."""
    dial_first: float = 0.05
    """Wait before the second dial; doubled ..."""
    dial_most: float = 2.0
    """... up to this, each with a jitter ..."""
    dial_jitter: float = 0.5
    """... of so large a part either way."""

    # --- grants ----------------------------------------------------------------------------------------------------
    first_grant: int = 64 * KIB
    """What a sender may have in flight to a new receiver without asking."""
    most_grant: int = 1 * MIB
    """To what a grant grows while its receiver takes."""
    grant_budget: int = 1 * GIB
    """All grants that a process has given, together."""
    lane_queue: int = 64 * MIB
    """What may wait at the sender for one receiver; beyond it ``send`` raises ``MailboxFull``. May overshoot by one message."""

    # --- messages, runs, monitors ----------------------------------------------------------------------------------
    max_message: int = 1 * GIB
    """Longest message."""
    max_runs: int = 200_000
    """Runs of one process."""
    max_monitors: int = 200_000
    """Monitors of one process."""
    max_requests: int = 65_536
    """Requests of one peer that wait for an answer here."""
    run_bytes: int = 1 * GIB
    """What the arguments of runs that have not started may take together."""
    monitor_bytes: int = 64 * MIB
    """What the monitors of one process may take together."""
    max_computations: int = 64
    """Open computations of one client at one server."""
    outcomes_kept: int = 1_024
    """Outcomes kept for repeated questions: the newest ..."""
    outcome_seconds: float = 600.0
    """... for so long ..."""
    outcome_bytes: int = 64 * MIB
    """... as long as what they returned takes no more together."""

    # --- bulk transfers --------------------------------------------------------------------------------------------
    bulk_write: int = 64 * KIB
    """One write on a bulk connection, followed by a turn of the loop."""
    bulk_buffer: int = 256 * KIB
    """High-water mark of a bulk connection's write buffer."""
    bulk_ack: int = 1 * MIB
    """A receiver confirms its offset every so many bytes."""
    max_transfers: int = 1_024
    """Transfers announced on one session and not finished, per direction."""
    transfer_bytes: int = 4 * GIB
    """What they may announce together, per direction."""
    bulk_idle: float = 60.0
    """A bulk connection without a transfer is closed after so long."""

    # --- files -----------------------------------------------------------------------------------------------------
    max_file_size: int = 1 * GIB
    """Longest file."""
    max_files: int = 10_000
    """Files of one computation ..."""
    max_files_bytes: int = 4 * GIB
    """... and their sum."""
    free_space: int = 256 * MIB
    """What must stay free on the file system after a file was written."""
    file_part: int = 1 * MIB
    """One part of a file, written in a thread."""
    file_parts_in_flight: int = 4
    """Parts read or received and not yet written."""
    path_bytes: int = 1_024
    """Longest relative name ..."""
    path_parts: int = 16
    """... in so many parts ..."""
    path_part_bytes: int = 255
    """... each of so many bytes."""
    cache_bytes: int = 16 * GIB
    """What the content-addressed cache may hold before the oldest files go."""

    @property
    def max_frame(self) -> int:
        """Longest frame, its length field not counted."""
        return self.max_payload + self.frame_overhead
