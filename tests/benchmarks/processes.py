"""Polls the processes of a job, for the benchmarks of memory and CPU time."""

import os
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

_POLL_SECONDS = 0.2


class ProcessPoller:
    """Context manager that calls `poll` with the ids of a process and its descendants, several times per second."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def poll(self, pids: Sequence[int]) -> None:
        raise NotImplementedError

    def _run(self) -> None:
        while not self._stop.wait(_POLL_SECONDS):
            self.poll(descendants(self._pid))


def descendants(root: int) -> list[int]:
    """Ids of `root` and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # the process has just ended
                continue
            children.setdefault(parent, []).append(int(entry.name))
    processes, pending = [], [root]
    while pending:
        processes.append(pending.pop())
        pending += children.get(processes[-1], [])
    return processes


def memory_bytes(pid: int) -> tuple[int, int]:
    """Anonymous and shared memory in bytes; a page counts in proportion to the processes that map it (PSS)."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0, 0
    kilobytes = {name: int(value) for name, value in re.findall(r"^(Pss_\w+):\s+(\d+) kB", text, re.MULTILINE)}
    return kilobytes.get("Pss_Anon", 0) * 1024, kilobytes.get("Pss_Shmem", 0) * 1024


def peak_memory_bytes() -> int:
    """Peak resident memory of this process; `getrusage` would include that of the process that started it."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far; 0 if it has ended."""
    try:
        user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    except OSError:
        return 0.0
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
