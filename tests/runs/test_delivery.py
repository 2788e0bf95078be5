"""Records reach MLflow in order, and never make a run wait for a server that is slow, dead or odd."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from guardianflow.runs.delivery import BackgroundDelivery, Operation, Refusal
from guardianflow.runs.undelivered import Undelivered, keep_refusal


def metric(number: int) -> Operation:
    return Operation("metrics", "run", {"metrics": [["loss", number, 0, number]]})


class Server:
    """Takes operations; can be down, slow, or unable to take one of them."""

    def __init__(self) -> None:
        self.got: list[Operation] = []
        self.down = False
        self.broken: Operation | None = None
        self.refused: Operation | None = None
        self.hangs = threading.Event()
        self.hangs.set()

    def send(self, operation: Operation) -> list[Refusal]:
        self.hangs.wait()
        if self.down or operation == self.broken:
            raise ConnectionError("Connection refused")
        if operation == self.refused:
            return [Refusal(operation, "the name is illegal")]
        self.got.append(operation)
        return []

    def answers(self) -> bool:
        return not self.down

    def delivery(self, **options: object) -> BackgroundDelivery:
        return BackgroundDelivery(self.send, answers=self.answers, retry_s=0.01, **options)  # type: ignore[arg-type]


@pytest.fixture
def server() -> Server:
    return Server()


def test_order_is_kept_across_an_outage(server: Server) -> None:
    delivery = server.delivery()
    sent = [metric(number) for number in range(100)]
    for number, operation in enumerate(sent):
        if number == 30:
            server.down = True
        delivery.submit(operation)
    time.sleep(0.1)
    server.down = False
    assert delivery.close() == []
    assert server.got == sent


def test_threads_submit_side_by_side_and_nothing_is_lost(server: Server) -> None:
    delivery = server.delivery()

    def submit(first: int) -> None:
        for number in range(first, first + 200):
            delivery.submit(metric(number))

    threads = [threading.Thread(target=submit, args=(first,)) for first in (0, 1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert delivery.close() == []
    for first in (0, 1000):
        steps = [op.payload["metrics"][0][3] for op in server.got if first <= op.payload["metrics"][0][3] < first + 200]
        assert steps == list(range(first, first + 200))


def test_submitting_never_waits_for_a_server_that_hangs(server: Server) -> None:
    server.hangs.clear()
    delivery = server.delivery(patience_s=0.5)
    began = time.monotonic()
    for number in range(1000):
        delivery.submit(metric(number))
    assert time.monotonic() - began < 0.5
    assert len(delivery.close()) == 1000
    assert time.monotonic() - began < 2
    server.hangs.set()


def test_close_gives_up_on_a_dead_server_and_hands_back_everything_in_order(server: Server) -> None:
    server.down = True
    delivery = server.delivery()
    sent = [metric(number) for number in range(5)]
    for operation in sent:
        delivery.submit(operation)
    began = time.monotonic()
    assert delivery.close() == sent
    assert time.monotonic() - began < 3


def test_close_tries_once_more_when_the_server_has_just_come_back(server: Server) -> None:
    server.down = True
    delivery = server.delivery()
    delivery.submit(metric(1))
    time.sleep(0.3)  # long since hopeless, and pausing between attempts
    server.down = False
    assert delivery.close() == []
    assert server.got == [metric(1)]


def test_close_waits_as_long_as_something_moves(server: Server) -> None:
    server.send_at_once, slow = server.send, 0.1  # type: ignore[attr-defined]
    delivery = BackgroundDelivery(lambda op: (time.sleep(slow), server.send(op))[1], patience_s=0.4)
    for number in range(10):
        delivery.submit(metric(number))
    assert delivery.close() == []  # 1 s in all, though nobody waits longer than 0.4 s for one of them


def test_hurry_ends_the_waiting(server: Server) -> None:
    server.hangs.clear()
    delivery = server.delivery(patience_s=60)
    delivery.submit(metric(1))
    threading.Timer(0.2, delivery.hurry).start()
    began = time.monotonic()
    assert delivery.close() == [metric(1)]
    assert time.monotonic() - began < 2
    server.hangs.set()


def test_what_the_server_can_not_take_holds_up_nothing_behind_it(server: Server) -> None:
    server.broken = metric(2)
    delivery = server.delivery()
    for number in range(1, 6):
        delivery.submit(metric(number))
    assert delivery.flush(5) is False, "not everything has arrived"
    assert server.got == [metric(1), metric(3), metric(4), metric(5)]
    assert delivery.close() == [metric(2)]


def test_what_was_set_aside_gets_another_chance_at_the_end(server: Server) -> None:
    server.broken = metric(2)
    delivery = server.delivery()
    delivery.submit(metric(2))
    delivery.submit(metric(3))
    delivery.flush(5)
    server.broken = None
    assert delivery.close() == []
    assert server.got == [metric(3), metric(2)]


def test_a_refusal_is_reported_once_and_not_tried_again(server: Server) -> None:
    refused: list[Refusal] = []
    server.refused = metric(2)
    delivery = BackgroundDelivery(server.send, on_refused=refused.append)
    for number in range(1, 4):
        delivery.submit(metric(number))
    assert delivery.close() == []
    assert server.got == [metric(1), metric(3)]
    assert [refusal.operation for refusal in refused] == [metric(2)]


def test_a_password_in_an_error_stays_out_of_the_log(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    def send(_: Operation) -> list[Refusal]:
        raise ConnectionError("can't reach postgresql://user:hunter2@db/mlflow")

    delivery = BackgroundDelivery(send, retry_s=0.01)
    with caplog.at_level(logging.DEBUG):
        delivery.submit(metric(1))
        delivery.close()
    assert "can't reach" in caplog.text
    assert "hunter2" not in caplog.text


def test_what_came_after_the_end_is_said_to_be_lost(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    delivery = server.delivery()
    delivery.close()
    delivery.submit(metric(1))
    assert "came after its end" in caplog.text


# ---- the file of what was not delivered -------------------------------------------------------------


def test_undelivered_records_are_kept_in_order_behind_earlier_ones(tmp_path: Path) -> None:
    kept = Undelivered(tmp_path)
    assert kept.append([metric(1), metric(2)])
    assert kept.append([metric(3)])
    assert list(kept.read().operations) == [metric(1), metric(2), metric(3)]


def test_a_value_that_is_no_number_and_a_name_of_odd_bytes_survive_the_file(tmp_path: Path) -> None:
    odd = Operation("artifact", "run", {"path": "/a/\udcff파일", "folder": None})
    nan = Operation("metrics", "run", {"metrics": [["loss", float("nan"), 0, 0]]})
    Undelivered(tmp_path).append([odd, nan])
    first, second = Undelivered(tmp_path).read().operations
    assert first == odd
    assert second.payload["metrics"][0][1] != second.payload["metrics"][0][1]


def test_a_line_that_a_crash_cut_off_swallows_neither_neighbour(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Undelivered(tmp_path)
    kept.append([metric(1)])
    with kept.path.open("a") as file:
        file.write('{"kind": "metr')
    kept.append([metric(2)])
    assert list(kept.read().operations) == [metric(1), metric(2)]
    assert "broken line" in caplog.text


def test_settling_keeps_what_another_process_added_meanwhile(tmp_path: Path) -> None:
    kept = Undelivered(tmp_path)
    kept.append([metric(1), metric(2)])
    taken = kept.read()
    Undelivered(tmp_path).append([metric(3)])
    assert kept.settle(taken, [metric(2)])
    assert list(kept.read().operations) == [metric(2), metric(3)]


def test_two_senders_of_the_same_file_lose_nothing(tmp_path: Path) -> None:
    kept = Undelivered(tmp_path)
    kept.append([metric(1)])
    first, second = kept.read(), kept.read()
    kept.append([metric(2)])
    kept.settle(first, [])
    kept.settle(second, [])
    assert list(kept.read().operations) == [metric(2)]


def test_what_two_senders_have_both_sent_is_not_kept(tmp_path: Path) -> None:
    kept = Undelivered(tmp_path)
    kept.append([metric(1)])
    first = kept.read()
    kept.append([metric(2)])
    second = kept.read()  # the second one sends both, and the first one settles before it
    kept.settle(first, [])
    kept.settle(second, [])
    assert not kept.path.exists()


def test_the_file_goes_when_nothing_is_left(tmp_path: Path) -> None:
    kept = Undelivered(tmp_path)
    kept.append([metric(1)])
    kept.settle(kept.read(), [])
    assert not kept.path.exists()
    assert list(kept.read().operations) == []


FULL_DISK = """
import logging, resource, sys
from pathlib import Path
from guardianflow.runs.delivery import Operation, Refusal
from guardianflow.runs.undelivered import Undelivered, keep_refusal
logging.basicConfig(format="%(message)s")
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))  # every file ends at 100 bytes
operation = Operation("metrics", "run", {"metrics": [["loss", 1.0, 0, 0]] * 50})
assert Undelivered(Path(sys.argv[1])).append([operation]) is False
keep_refusal(Path(sys.argv[1]), Refusal(operation, "no"))
print("went on")
"""


def test_a_full_disk_is_said_crashes_nothing_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    kept = Undelivered(tmp_path)
    kept.append([metric(1)])
    before = kept.path.read_bytes()
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.stdout == "went on\n", done.stderr
    assert "can't be kept in" in done.stderr
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert kept.path.read_bytes() == before
    assert not list(tmp_path.glob("*.part"))


def test_a_refusal_is_kept_with_its_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keep_refusal(tmp_path, Refusal(metric(7), "the name is illegal"))
    (line,) = (tmp_path / "refused.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["reason"] == "the name is illegal"
    assert "metrics loss" in caplog.text
