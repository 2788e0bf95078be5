"""The list of processes that whoever started them keeps: what it still knows, and whom it must never hit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from guardianflow.processes.keeper import kept
from guardianflow.processes.process_watch import ProcessWatch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="by Linux's files on processes")

LAST_PID = Path("/proc/sys/kernel/ns_last_pid")
LETS_GO = """
import os, time
if os.fork() == 0:
    os.setsid()
    os.execve("/bin/sleep", ["sleep", "60"], {})
time.sleep(60)
"""


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.02)


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def begin(*argv: str) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(argv, start_new_session=True))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def test_what_was_seen_once_is_ended_though_nothing_leads_to_it_any_more(start):
    root = start(sys.executable, "-c", LETS_GO)
    watch = ProcessWatch(root.pid)
    wait_for(lambda: [child.name() for child in psutil.Process(root.pid).children()] == ["sleep"])
    daemon = psutil.Process(root.pid).children()[0]
    watch.note(now=True)
    root.kill()
    root.wait()
    assert [process.pid for process in watch.living()] == [daemon.pid]
    assert watch.end() == 1
    assert not daemon.is_running() or daemon.status() == psutil.STATUS_ZOMBIE


@pytest.mark.skipif(not os.access(LAST_PID, os.W_OK), reason="the next process id can be chosen as root only")
def test_a_process_that_was_given_the_id_of_another_is_never_hit(start):
    root = start("sleep", "60")
    watch = ProcessWatch(root.pid)
    time.sleep(0.05)  # starts are told apart by hundredths of a second
    root.kill()
    root.wait()
    for _ in range(50):
        LAST_PID.write_text(str(root.pid - 1), encoding="ascii")
        innocent = start("sh", "-c", "sleep 60 & sleep 60; true")
        if innocent.pid == root.pid:
            break
        innocent.kill()
    assert innocent.pid == root.pid
    wait_for(lambda: len(psutil.Process(innocent.pid).children()) == 2)
    watch.signal(signal.SIGTERM)
    assert watch.end() == 0
    assert innocent.poll() is None
    children = psutil.Process(innocent.pid).children()
    assert len(children) == 2
    for child in children:
        child.kill()


def test_a_keeper_is_as_quiet_as_what_it_keeps(start):
    """Its memory doesn't count, its end is that of the other, and what is not there is said by whoever starts it."""
    root = start(*kept([sys.executable, "-c", "held = b'x' * 50_000_000; import time; time.sleep(60)"]))
    watch = ProcessWatch(root.pid, kept=True)
    wait_for(lambda: watch.kept() and psutil.Process(watch.kept()).memory_info().rss > 55e6)
    watch.note(now=True)
    assert watch.read() == pytest.approx(psutil.Process(watch.kept()).memory_info().rss / 1e6, abs=2)
    os.kill(watch.kept(), signal.SIGSEGV)
    assert root.wait() == -signal.SIGSEGV
    assert subprocess.run(kept(["sh", "-c", "exit 7"]), check=False).returncode == 7
    with pytest.raises(FileNotFoundError):
        subprocess.run(kept(["no-such-program-there-is"]), check=False)


def test_what_is_left_of_a_killed_process_is_told_to_end_before_it_is_killed(start, tmp_path):
    script = f"cd '{tmp_path}'; trap 'echo told > told; exit' TERM; echo up > up; while :; do sleep 0.05; done"
    child = f"import subprocess; subprocess.run(['sh', '-c', {script!r}], start_new_session=True)"
    code = f"import subprocess, sys; from guardianflow.processes.keeper import kept; argv = '-c', {child!r}"
    code += "; subprocess.run(kept([sys.executable, *argv]))"
    parent = start(sys.executable, "-c", code)
    wait_for((tmp_path / "up").exists)
    keeper = psutil.Process(parent.pid).children()[0]
    parent.kill()
    wait_for((tmp_path / "told").exists)
    wait_for(lambda: not keeper.is_running() or keeper.status() == psutil.STATUS_ZOMBIE)
