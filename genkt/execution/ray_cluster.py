"""Tasks on Ray: on an existing cluster, or on one started here for the run."""

from __future__ import annotations

import contextlib
import os
import platform
import socket
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from genkt.execution.errors import portable
from genkt.execution.tasks import ExecutorSettings, Progress, ShardTask
from genkt.types import UserError

MOST_DEATHS = 5
"""A task is not run again after this many of its processes or machines have died."""

_LEAST_AHEAD = 8
_KNOCK_SECONDS = 10.0
_QUIET_SECONDS = 5.0
"""Progress is reported at least this often, in seconds."""


def run_on_ray(
    tasks: Sequence[ShardTask], settings: ExecutorSettings, progress: Progress, *, on_gpu: bool
) -> None:
    """Run the tasks where Ray has room; tasks of a lost machine run again elsewhere.

    Raises:
        UserError: Ray is not installed, there is no cluster at the address, or a task whose
        processes died repeatedly.
        Exception: what a task raised; the other tasks were stopped.
    """
    if not tasks:
        return
    ray = _imported()
    with _connected(ray, settings):
        gpus = 1 if on_gpu and ray.cluster_resources().get("GPU") else 0
        remote = ray.remote(_run).options(
            num_cpus=1, num_gpus=gpus, max_retries=MOST_DEATHS - 1, scheduling_strategy="SPREAD"
        )
        waiting, running = list(reversed(tasks)), dict[Any, ShardTask]()
        try:
            while waiting or running:
                # Submit a few more than the cluster can run, as it may grow, but never all of a
                # million.
                cores = int(ray.cluster_resources().get("CPU", 0))
                most = settings.num_workers or max(_LEAST_AHEAD, 2 * cores)
                while waiting and len(running) < most:
                    task = waiting.pop()
                    running[remote.remote(task, os.getcwd())] = task
                progress(0)
                for done in ray.wait(list(running), timeout=_QUIET_SECONDS)[0]:
                    _raise_from(ray, done, running[done])
                    progress(running.pop(done).size)
        finally:
            for reference in running:
                ray.cancel(reference)


def _run(task: ShardTask, folder: str) -> Exception | None:
    """Runs on the task's machine; returns what the task raised."""
    try:
        if not os.path.isdir(folder):
            raise UserError(
                f"{task.name}: expected the folder {folder} on every machine, "
                f"but {platform.node()} does not have it; all machines must share the files"
            )
        os.chdir(folder)  # paths of a task may be relative
        task.run(lambda _: None)
    except Exception as error:
        return portable(error, task.name)
    return None


def _raise_from(ray: ModuleType, done: Any, task: ShardTask) -> None:
    try:
        error = ray.get(done)
    except ray.exceptions.RayError as lost:
        reason = str(lost).splitlines()[0]
        raise UserError(
            f"{task.name}: {MOST_DEATHS} attempts on Ray ended without a result "
            f"({reason}); finished work is kept"
        ) from lost
    if error is not None:
        raise error


def _imported() -> ModuleType:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no report of usage leaves the machine
    try:
        import ray
    except ImportError as error:
        raise UserError("executor=ray: needs Ray: pip install 'genkt[ray]'") from error
    return ray


@contextlib.contextmanager
def _connected(ray: ModuleType, settings: ExecutorSettings) -> Iterator[None]:
    """The cluster at the address, or a new one; left as it was found."""
    if ray.is_initialized():
        yield
        return
    address = settings.address or os.environ.get("RAY_ADDRESS") or "local"
    own = {"include_dashboard": False, "num_cpus": settings.num_workers}
    try:
        _knock(address)
        ray.init(
            address=address, configure_logging=False, log_to_driver=False,
            **(own if address == "local" else {}),
        )  # fmt: skip
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"executor=ray: no cluster at {address}: {reason}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Fail at once if no server answers: Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=_KNOCK_SECONDS).close()
