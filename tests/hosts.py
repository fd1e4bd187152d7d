"""Two hosts on one machine: network namespaces of our own making, with a cable between them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def why_no_namespaces() -> str:
    if sys.platform != "linux" or shutil.which("ip") is None:
        return "no `ip` here"
    if os.geteuid() != 0:
        return "network namespaces need root"
    name = f"dsc-probe-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode != 0:
        return "network namespaces are not allowed here"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return ""


def why_no_firewall() -> str:
    """Why network namespaces with rules in them are not to be had here; empty where they are."""
    if why := why_no_namespaces():
        return why
    if shutil.which("nft") is None:
        return "no `nft` here"
    probe = ["unshare", "-n", "nft", "add", "table", "inet", "probe"]
    if subprocess.run(probe, capture_output=True).returncode != 0:
        return "this kernel has no nftables"
    return ""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def two_machines() -> Iterator[tuple[str, str]]:
    """Two network namespaces with a cable between them: 10.77.0.1 and 10.77.0.2, and IPv6 link-local."""
    names = (f"dsc-a-{os.getpid()}", f"dsc-b-{os.getpid()}")
    made = []
    try:
        for name in names:
            ip("netns", "add", name)
            made.append(name)
        ip(
            *("link", "add", "cable", "netns", names[0], "type", "veth"),
            *("peer", "name", "cable", "netns", names[1]),
        )
        for number, name in enumerate(names, 1):
            # Without the second of waiting for duplicates that IPv6 wants.
            dad = "echo 0 > /proc/sys/net/ipv6/conf/cable/accept_dad"
            subprocess.run(["ip", "netns", "exec", name, "sh", "-c", dad], capture_output=True)
            ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", "cable")
            ip("-n", name, "link", "set", "cable", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


@contextmanager
def deaf(*hosts: str) -> Iterator[None]:
    """These machines hear nothing more from the cable, and nobody is told: what arrives is dropped before TCP sees it."""
    for host in hosts:
        nft(host, "add", "table", "inet", "deaf")
        nft(
            host,
            "add",
            "chain",
            "inet",
            "deaf",
            "arriving",
            "{ type filter hook input priority 0; }",
        )
        nft(host, "add", "rule", "inet", "deaf", "arriving", "iifname", "cable", "drop")
    try:
        yield
    finally:
        for host in hosts:
            nft(host, "delete", "table", "inet", "deaf")


@contextmanager
def unplugged(host: str) -> Iterator[None]:
    """The cable is pulled out of a machine, which notices."""
    ip("-n", host, "link", "set", "cable", "down")
    try:
        yield
    finally:
        ip("-n", host, "link", "set", "cable", "up")


def nft(host: str, *words: str) -> None:
    command = ["ip", "netns", "exec", host, "nft", *words]
    subprocess.run(command, check=True, capture_output=True)
