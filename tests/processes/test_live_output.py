"""What a wrapped script prints, live, through two FIFOs."""

from __future__ import annotations

import io
import os
import stat
import sys
import threading
import time
from pathlib import Path

import pytest

from guardianflow.processes.supervision.live_output import LiveOutput, live_folder
from guardianflow.processes.supervision.process import Limits, SupervisedProcess
from guardianflow.processes.supervision.terminal_orders import TerminalOrders

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="FIFOs are POSIX's own")


def run_script(tmp_path: Path, code: str, live: Path | None, **limits: float) -> object:
    return SupervisedProcess(
        [sys.executable, "-u", "-c", code],
        cwd=tmp_path,
        environment=dict(os.environ),
        folder=tmp_path / "logs",
        limits=Limits(**limits),  # type: ignore[arg-type]
        live=live,
    ).run()


class Gate(io.RawIOBase):
    """A terminal that somebody has halted, until it is let go."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.held = b""

    def write(self, data: object) -> int:
        self.free.wait(30)
        self.held += bytes(data)  # type: ignore[call-overload]
        return len(bytes(data))  # type: ignore[call-overload]


class Broken(io.RawIOBase):
    """A pipe that nobody reads any more."""

    def write(self, data: object) -> int:
        raise BrokenPipeError


def test_output_comes_through_each_stream_as_it_is(tmp_path):
    out, err = io.BytesIO(), io.BytesIO()
    with LiveOutput(out, err) as live:
        code = "import sys; sys.stdout.buffer.write(b'a\\xff\\r50%\\r'); print('x' * 300000);"
        code += " print('oops', file=sys.stderr)"
        assert run_script(tmp_path, code, live.folder).ok
    assert out.getvalue() == b"a\xff\r50%\r" + b"x" * 300_000 + b"\n"
    assert err.getvalue() == b"oops\n"


def test_it_comes_while_the_script_runs(tmp_path):
    out = io.BytesIO()
    seen: list[bytes] = []
    with LiveOutput(out, io.BytesIO()) as live:
        code = "import time; print('no newline yet', end=''); time.sleep(1.5); print(' and the rest')"
        thread = threading.Thread(target=run_script, args=(tmp_path, code, live.folder))
        thread.start()
        deadline = time.monotonic() + 10
        while not out.getvalue() and time.monotonic() < deadline:
            time.sleep(0.02)
        seen.append(out.getvalue())
        thread.join()
    assert seen == [b"no newline yet"]
    assert out.getvalue() == b"no newline yet and the rest\n"


def test_several_scripts_one_after_another(tmp_path):
    out = io.BytesIO()
    with LiveOutput(out, io.BytesIO()) as live:
        for number in range(3):
            run_script(tmp_path, f"print({number})", live.folder)
    assert out.getvalue() == b"0\n1\n2\n"


def test_folder_is_private_and_goes_away(monkeypatch):
    with LiveOutput(io.BytesIO(), io.BytesIO()) as live:
        assert stat.S_IMODE(live.folder.stat().st_mode) == 0o700
        assert live_folder() is None
        for name, value in live.environment.items():
            monkeypatch.setenv(name, value)
        assert live_folder() == live.folder
    assert not live.folder.exists()
    assert live.environment == {}
    assert live_folder() is None


def test_nobody_writes_and_the_block_ends():
    began = time.monotonic()
    with LiveOutput(io.BytesIO(), io.BytesIO()):
        pass
    assert time.monotonic() - began < 5


def test_target_that_broke_does_not_hold_the_script(tmp_path):
    with LiveOutput(Broken(), io.BytesIO()) as live:  # type: ignore[arg-type]
        ended = run_script(tmp_path, "print('x' * 5_000_000)", live.folder)
    assert ended.ok
    assert ended.stdout_bytes == 5_000_001


def test_halted_terminal_halts_the_script_and_the_timeout_still_acts(tmp_path):
    gate = Gate()
    with LiveOutput(gate, io.BytesIO()) as live:  # type: ignore[arg-type]
        threading.Timer(4, gate.free.set).start()
        ended = run_script(
            tmp_path, "while True: print('x' * 100_000)", live.folder, timeout_s=1.5, terminate_grace_s=0.5
        )
    assert ended.stopped == "timeout"
    assert ended.stdout_bytes < 10_000_000


def test_slow_terminal_gets_the_end_too(tmp_path):
    gate = Gate()
    with LiveOutput(gate, io.BytesIO()) as live:  # type: ignore[arg-type]
        threading.Timer(1.5, gate.free.set).start()
        ended = run_script(tmp_path, "for _ in range(30): print('x' * 100_000)", live.folder)
    assert ended.ok
    assert len(gate.held) == 30 * 100_001


def test_reader_that_goes_away_does_not_hold_the_script(tmp_path):
    folder = tmp_path / "live"
    folder.mkdir()
    os.mkfifo(folder / "stdout")
    reader = os.open(folder / "stdout", os.O_RDONLY | os.O_NONBLOCK)
    threading.Timer(1, os.close, [reader]).start()
    ended = run_script(tmp_path, "for _ in range(50): print('x' * 100_000)", folder)
    assert ended.ok
    assert ended.stdout_bytes == 50 * 100_001


def test_no_reader_at_all_and_no_fifo_at_all(tmp_path):
    folder = tmp_path / "live"
    folder.mkdir()
    os.mkfifo(folder / "stdout")
    (folder / "stderr").write_text("a file, not a FIFO")
    ended = run_script(tmp_path, "import sys; print('x'); print('y', file=sys.stderr)", folder)
    assert ended.ok
    assert (folder / "stderr").read_text() == "a file, not a FIFO"
    assert run_script(tmp_path, "print('x')", tmp_path / "nowhere").ok


# --- what a terminal would do beyond drawing ---------------------------------------------------------

DRAWN = (
    b"\x1b[1;31mred\x1b[0m \x1b[2K\x1b[1A\r50%\x1b[?25l \xc2\xb0C \xed\x95\x9c \x1b[38:2::1:2:3mtrue\x1b[m \x1b[3 qa\a"
)
ORDERS = (
    b"\x1b]52;c;Y3VybCBldmls\x07",
    b"\x1b]0;another title\x1b\\",
    b"\x1b]8;;https://evil.example\x1b\\",
    b"\xc2\x9d52;c;Y3VybA==\xc2\x9c",
    b"\x1bPq#0\x1b\\",
    b"\x1b_Gf=100;AAAA\x1b\\",
    b"\x1b[6n",
    b"\x1b[>c",
    b"\x1b[21t",
    b"\xc2\x9b5n",
    b"\x05",
)


@pytest.mark.parametrize("size", [1, 3, 10_000])
def test_a_terminal_gets_colours_and_bars_and_no_orders(size: int) -> None:
    stream = DRAWN.join([b"", *ORDERS, b""])
    orders = TerminalOrders()
    got = b"".join(orders.without(stream[at : at + size]) for at in range(0, len(stream), size))
    assert got == DRAWN * (len(ORDERS) + 1)


def test_a_text_without_an_end_swallows_its_line_and_no_more() -> None:
    assert TerminalOrders().without(b"a\x1b]0;never ended\nb\n") == b"a\nb\n"


def test_a_script_can_not_reach_the_clipboard_of_a_terminal(tmp_path):
    master, slave = os.openpty()
    with os.fdopen(slave, "wb") as terminal, LiveOutput(terminal, io.BytesIO()) as live:
        code = "import sys; sys.stdout.write('\\x1b[32mfine\\x1b[0m\\x1b]52;c;Y3VybA==\\x07 done')"
        assert run_script(tmp_path, code, live.folder).ok
    got = os.read(master, 1000)
    os.close(master)
    assert got == b"\x1b[32mfine\x1b[0m done"
