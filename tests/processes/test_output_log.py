"""A log with a cap, and the pieces that it is made of."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from guardianflow.processes.supervision.frames import STDERR, STDOUT, Frames, Job, frame
from guardianflow.processes.supervision.output_log import OutputLog
from guardianflow.processes.supervision.streams import Backlog, LineBlocks


def written(path: Path, blocks: list[bytes], *, limit: int, idle: object = lambda: True) -> bytes:
    log = OutputLog(path, limit=limit)
    log.redact = lambda data: data.replace(b"SECRET", b"***")
    for block in blocks:
        log.add(block)
        if idle():
            log.work(idle=idle())
    log.close()
    assert log.failed == ""
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    return path.read_bytes()


def lines(count: int) -> list[bytes]:
    return [b"line %06d\n" % number for number in range(count)]


def test_short_output_is_kept_whole(tmp_path):
    assert written(tmp_path / "a.log", lines(10), limit=1000) == b"".join(lines(10))


def test_output_of_just_the_cap_is_kept_whole(tmp_path):
    assert written(tmp_path / "a.log", lines(100), limit=1200) == b"".join(lines(100))


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_pace_the_first_and_last_half_are_kept(tmp_path, seed):
    chance = random.Random(seed)
    share = chance.random()
    all_lines = lines(chance.randrange(100, 2000))
    limit = chance.randrange(120, 4000)
    kept = written(tmp_path / "a.log", all_lines, limit=limit, idle=lambda: chance.random() < share)
    head, sign, tail = kept.partition("… ".encode())
    if not sign:
        assert kept == b"".join(all_lines)
        return
    count, _, tail = tail.partition(" bytes left out …\n".encode())
    assert b"".join(all_lines).startswith(head)
    assert b"".join(all_lines).endswith(tail)
    assert limit / 2 - 12 <= len(head) <= limit / 2
    assert limit / 2 - 12 <= len(tail) <= limit / 2 + 1
    assert int(count.replace(b",", b"")) == 12 * len(all_lines) - len(head) - len(tail)


def test_blocks_larger_than_a_half_are_cut_at_a_line(tmp_path):
    for first in (b"", b"z\n" * 20):
        kept = written(tmp_path / "a.log", [b"x\n" * 50, first, b"y\n" * 500, b"end\n"], limit=200)
        assert kept == b"x\n" * 50 + f"… {2 * 452 + len(first):,} bytes left out …\n".encode() + b"y\n" * 48 + b"end\n"


def test_secrets_are_taken_out_of_both_halves(tmp_path):
    kept = written(tmp_path / "a.log", [b"a SECRET\n"] * 1000, limit=300)
    assert b"SECRET" not in kept
    assert kept.count(b"a ***\n") > 30


def test_nothing_is_written_before_secrets_can_be_taken_out(tmp_path):
    log = OutputLog(tmp_path / "a.log", limit=100)
    log.add(b"SECRET\n")
    assert not log.work(idle=True)
    log.close()
    assert (tmp_path / "a.log").read_text(encoding="utf-8") == "… 7 bytes left out …\n"


def test_what_a_killed_supervisor_left_is_put_together(tmp_path):
    path = tmp_path / "a.log"
    log = OutputLog(path, limit=240)
    log.redact = lambda data: data
    for line in lines(100):
        log.add(line)
        log.work(idle=True)
    for file in [log._head, *[part.file for part in log._parts]]:  # as the system does with a killed process's
        file.close()
    OutputLog.recover(path)
    kept = path.read_bytes()
    assert kept.startswith(b"line 000000\n")
    assert kept.endswith(b"line 000099\n")
    assert [file.name for file in tmp_path.iterdir()] == ["a.log"]


def test_a_log_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    log = OutputLog(tmp_path / "file" / "a.log", limit=100)
    log.redact = lambda data: data
    log.add(b"x\n")
    log.close()
    assert "a.log is not whole" in log.failed


@pytest.mark.parametrize("seed", range(20))
def test_blocks_are_whole_lines_and_lose_nothing(seed):
    chance = random.Random(seed)
    ends = [b"\n", b"\r", b"\r\n", b" "]
    data = b"".join(
        bytes([97 + number % 26]) * chance.randrange(chance.choice([5, 500, 200_000])) + chance.choice(ends)
        for number in range(60)
    )
    cutter, blocks, at = LineBlocks(), [], 0
    while at < len(data):
        size = chance.choice([1, 10, 10_000, 1_000_000])
        blocks += cutter.take(data[at : at + size])
        at += size
    blocks += cutter.rest()
    assert b"".join(blocks) == data
    assert max(map(len, blocks)) <= 2 * 256 * 1024
    for block in blocks[:-1]:
        assert block.endswith((b"\n", b"\r")) or len(block) >= 64 * 1024


@pytest.mark.parametrize("secret", [b"one word", b"-----BEGIN\nmany lines\nEND-----\n"])
@pytest.mark.parametrize("seed", range(10))
def test_a_secret_is_not_torn(secret, seed):
    chance = random.Random(seed)
    data = b"".join(b"x" * chance.randrange(300_000) + secret + chance.choice([b"", b"\n"]) for _ in range(20))
    cutter, blocks, at = LineBlocks([secret]), [], 0
    while at < len(data):
        size = chance.choice([7, 1000, 100_000])
        blocks += cutter.take(data[at : at + size])
        at += size
    blocks += cutter.rest()
    assert b"".join(blocks) == data
    assert sum(block.count(secret) for block in blocks) == 20


def test_backlog_gives_up_the_oldest_of_the_stream_that_pours():
    backlog = Backlog()
    backlog.add(STDERR, b"important\n")
    for number in range(200):
        backlog.add(STDOUT, b"%099999d\n" % number)
    taken = []
    while backlog:
        taken.append(backlog.take())
    assert taken[0] == (STDERR, b"important\n")
    assert taken[-1][1].endswith(b"199\n")
    assert 4 << 20 <= sum(len(block) for _, block in taken) < 5 << 20
    assert backlog.lost == 20_000_000 - sum(len(block) for kind, block in taken if kind == STDOUT)


def test_frames_survive_being_torn():
    data = frame(STDOUT, b"abc") + frame(b"D", {"exit_code": 3}) + frame(STDERR, b"")
    for size in (1, 2, 3, 7, 100):
        reader = Frames()
        found = [item for at in range(0, len(data), size) for item in reader.feed(data[at : at + size])]
        assert found == [(STDOUT, b"abc"), (b"D", b'{"exit_code": 3}'), (STDERR, b"")]


def test_job_keeps_names_that_are_no_utf8():
    job = Job(["a\udcff"], "/", {"한글": "값"}, "/f", 1, 2, 3, 4, 5, ["s"], "", True)
    assert Job.from_bytes(job.to_bytes()) == job
