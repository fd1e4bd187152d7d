"""Dask distributed over TLS: one worker with one thread, in a process of its own."""

from __future__ import annotations

import statistics
from time import perf_counter
from typing import Any

from benchmarks.contest import Contestant
from benchmarks.floor.bulk import payload
from benchmarks.start import Script

#: Dask is so much slower in these that it gets a part of the work.
PART = 20


class _Same:
    def same(self, value: Any) -> Any:
        return value


def _same(value: Any) -> Any:
    return value


class Cluster(Contestant):
    """With a cluster of one worker."""

    label = "Dask"
    workers = 1

    async def start(self) -> None:
        import dask
        import distributed
        from distributed.security import Security

        dask.config.set({"distributed.worker.daemon": False})
        security = Security.temporary()
        self.cluster = distributed.LocalCluster(
            n_workers=self.workers,
            threads_per_worker=1,
            security=security,
            protocol="tls://",
            dashboard_address=None,
            silence_logs=50,
            worker_dashboard_address=None,
        )
        self.client = distributed.Client(self.cluster, security=security)
        self.client.submit(_same, 1).result()

    async def stop(self) -> None:
        self.client.close()
        self.cluster.close()


class Echo(Cluster):
    """A method of an actor."""

    label = "Dask actor"

    async def round(self) -> float:
        actor = self.client.submit(_Same, actor=True).result()
        times = []
        for _ in range(max(1, self.size // PART)):
            begun = perf_counter()
            actor.same({"i": 1, "x": "abc"}).result()
            times.append(perf_counter() - begun)
        return statistics.median(times) * 1e6


class Calls(Cluster):
    """Tasks, all in flight."""

    label = "Dask submit"

    async def round(self) -> float:
        count = max(1, self.size // PART)
        begun = perf_counter()
        futures = [self.client.submit(_same, value, pure=False) for value in range(count)]
        assert self.client.gather(futures)[-1] == count - 1
        return count / (perf_counter() - begun)


class Bulk(Cluster):
    """An array as argument."""

    async def start(self) -> None:
        await super().start()
        self._array = payload("array", self.size)

    async def round(self) -> float:
        begun = perf_counter()
        self.client.submit(len, self._array, pure=False).result()
        return self.size * 1.048576 / (perf_counter() - begun)


class Array(Bulk):
    """An array as argument and as result."""

    async def round(self) -> float:
        begun = perf_counter()
        self.client.submit(_same, self._array, pure=False).result()
        return 2 * self.size * 1.048576 / (perf_counter() - begun)


class Upload(Cluster):
    """``upload_file`` of a file of as many bytes."""

    label = "Dask upload_file"
    workers = 16

    async def round(self) -> float:
        import os
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, f"data{perf_counter():.9f}.zip")
            with open(path, "wb") as file:
                file.write(os.urandom(self.size * 1_000_000))
            begun = perf_counter()
            self.client.upload_file(path, load=False)
            return (perf_counter() - begun) * 1e3


class Worker(Cluster):
    """Resident memory of the worker."""

    label = "Dask worker"

    async def round(self) -> float:
        from benchmarks.memory import resident

        worker = next(iter(self.cluster.workers.values()))
        return resident(worker.pid)


class Client(Script):
    """A local cluster and one task."""

    label = "Dask"
    encrypted = False
    text = """
from distributed import Client, LocalCluster

def add(a, b):
    return a + b

if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster:
        with Client(cluster) as client:
            assert client.submit(add, 1, 2).result() == 3
            print("done", flush=True)
"""
