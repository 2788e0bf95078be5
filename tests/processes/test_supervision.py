"""Scripts that misbehave in every way: each has a truthful end, and nothing of it is left."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from guardianflow.exceptions import InputError, RunFailedError, RunInterruptedError
from guardianflow.processes.control_group import ControlGroup
from guardianflow.processes.interrupts import signals_raise, signals_wait
from guardianflow.processes.supervision.direct import DirectLink
from guardianflow.processes.supervision.link import SupervisorLink
from guardianflow.processes.supervision.process import Ended, Limits, SupervisedProcess

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a child subreaper is Linux's own")

PROGRAMS = Path(__file__).with_name("programs")
MARK = "SUPERVISION_TEST_MARK"
SHORT = {"interrupt_grace_s": 0.5, "terminate_grace_s": 0.5}
SECRET = "geheimes-wort-42"


def left_of(mark: str) -> list[psutil.Process]:
    """Processes that were started with the mark in their environment, and still live."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_for(condition: Callable[[], object], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.02)


class Script:
    """Makes supervised processes whose every descendant can be found again."""

    def __init__(self, folder: Path) -> None:
        self.kind = SupervisedProcess
        self.mark = uuid.uuid4().hex
        self.folder = folder / "로그 logs"
        self.cwd = folder / "work dir"
        self.cwd.mkdir()
        self.output: list[tuple[str, bytes]] = []
        self.pids: list[int] = []

    def __call__(self, *argv: str, **options: object) -> SupervisedProcess:
        words = [sys.executable, str(PROGRAMS / argv[0]), *argv[1:]] if argv[0].endswith(".py") else list(argv)
        limits = Limits(**{**SHORT, **options.pop("limits", {})})  # type: ignore[arg-type]
        environment = {**os.environ, MARK: self.mark, "MY_VALUE": SECRET}
        environment.pop("PYTHONUNBUFFERED", None)
        options.setdefault("on_output", lambda name, chunk: self.output.append((name, chunk)))
        options.setdefault("on_start", self.pids.append)
        return self.kind(words, cwd=self.cwd, environment=environment, folder=self.folder, limits=limits, **options)  # type: ignore[arg-type]

    def printed(self, name: str = "stdout") -> bytes:
        return b"".join(chunk for stream, chunk in self.output if stream == name)

    def log(self, name: str = "stdout") -> bytes:
        return (self.folder / f"{name}.log").read_bytes()


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    made = Script(tmp_path)
    yield made
    left = left_of(made.mark)
    for process in left:
        process.kill()
    assert left == []


def test_well_behaved_script_ends_well(script):
    ended = script(sys.executable, "-c", "print('hello'); sum(range(3_000_000))").run()
    assert ended.ok
    assert (ended.exit_code, ended.signal, ended.stopped, ended.reason) == (0, "", "", "")
    assert script.printed() == script.log() == b"hello\n"
    assert ended.stdout_bytes == 6
    assert ended.wall_s > 0
    assert 0 < ended.cpu_s < 10
    assert 5 < ended.peak_memory_mb < 200
    assert ended.left_behind == ended.unread_bytes == 0


def test_exit_code_is_told_as_it_is(script):
    ended = script("sh", "-c", "echo went wrong >&2; exit 3").run()
    assert not ended.ok
    assert (ended.exit_code, ended.signal, ended.stopped) == (3, "", "")
    assert ended.reason == "it ended with exit code 3: went wrong"


def test_crash_is_told_by_its_signal(script):
    ended = script("sh", "-c", "kill -SEGV $$").run()
    assert (ended.exit_code, ended.signal, ended.stopped) == (None, "SIGSEGV", "")
    assert "segmentation fault" in ended.reason


@pytest.mark.slow
def test_script_that_is_over_in_a_moment_on_a_busy_machine_loses_no_word(tmp_path):
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(6)]
    try:
        for number in range(15):
            (tmp_path / str(number)).mkdir()
            run = Script(tmp_path / str(number))
            ended = run("sh", "-c", "echo good; echo bad >&2; exit 3").run()
            assert (run.log("stdout"), run.log("stderr"), ended.remarks) == (b"good\n", b"bad\n", ())
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_daemon_that_forked_twice_and_is_deaf_ends_with_the_script(script):
    ended = script("forks_twice.py").run()
    assert ended.ok
    assert ended.left_behind == 1
    assert b"script done\n" in script.printed()
    assert b"daemon at work\n" in script.log()
    assert ended.wall_s < 10


def test_children_in_the_background_are_ended(script):
    ended = script("sh", "-c", "sleep 100 & sleep 101 & echo done").run()
    assert (ended.exit_code, ended.left_behind) == (0, 2)


def test_child_that_ends_by_itself_in_a_moment_is_not_left_behind(script):
    ended = script("sh", "-c", "(sleep 0.1; echo late) & echo done").run()
    assert ended.left_behind == 0
    assert script.log() == b"done\nlate\n"


def test_timeout_ends_a_deaf_script(script):
    ended = script("deaf.py", limits={"timeout_s": 1}).run()
    assert (ended.exit_code, ended.signal, ended.stopped) == (None, "SIGKILL", "timeout")
    assert ended.reason.startswith("it took longer than 1 s and was ended; allow it more with --timeout")
    assert 1 <= ended.wall_s < 10


def test_halted_script_hears_the_timeout(script):
    ended = script("sh", "-c", "kill -STOP $$; sleep 100", limits={"timeout_s": 0.5, "terminate_grace_s": 30}).run()
    assert (ended.signal, ended.stopped) == ("SIGTERM", "timeout")


def test_memory_of_the_whole_tree_is_capped(script):
    ended = script("takes_memory.py", "1000", limits={"memory_mb": 300}).run()
    assert ended.stopped == "out_of_memory"
    assert not ended.ok
    assert "may take" in ended.reason
    assert 300 < ended.peak_memory_mb < 900


def test_cpu_time_of_children_counts(script):
    ended = script("sh", "-c", f"{sys.executable} -c 'import time\nwhile time.process_time() < 0.5: pass'").run()
    assert 0.5 <= ended.cpu_s < 10


def test_flood_is_bounded_in_memory_and_in_the_log(script):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count, supervisors, held = [0], [], []

    def slowly(_name: str, chunk: bytes) -> None:
        count[0] += len(chunk)
        with contextlib.suppress(psutil.Error):  # all is said, and the rest is on its way
            held.append(supervisors[0].memory_info().rss)
        time.sleep(0.02)

    started = lambda pid: supervisors.append(psutil.Process(pid).parent())  # noqa: E731
    ended = script("floods.py", "200", on_output=slowly, on_start=started).run()
    assert ended.ok
    assert ended.stdout_bytes > 200e6
    assert ended.unread_bytes > 0
    assert count[0] + ended.unread_bytes == ended.stdout_bytes
    assert count[0] >= 4 << 20
    assert max(held) < 100e6
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 100e6
    log = script.log()
    assert 7_800_000 < len(log) < 8_000_100
    assert log.count("bytes left out …".encode()) == 1
    assert log.endswith(b"the last line of the flood\n")
    head, _, tail = log.partition("… ".encode())
    left_out = int(tail.split(b" ")[0].replace(b",", b""))
    assert len(head) + len(tail.partition(b"\n")[2]) + left_out == ended.stdout_bytes


def test_reader_that_is_behind_gets_the_end(script):
    chunks: list[bytes] = []

    def slowly(_name: str, chunk: bytes) -> None:
        time.sleep(0.005)
        chunks.append(chunk)

    script("floods.py", "30", on_output=slowly).run()
    assert b"".join(chunks).endswith(b"the last line of the flood\n")
    assert all(chunk.endswith(b"\n") for chunk in chunks)


def test_broken_text_is_kept_as_it_is(script):
    ended = script("breaks_text.py").run()
    assert ended.ok
    assert script.printed() == script.log() == b"\xff\xfe broken \x80\x81\n\x00\x00\nloss: 0.5\n" + b"x" * 1_000_000
    assert script.log("stderr") == "오류 \n".encode("cp949")


def test_script_may_delete_its_folder(script):
    ended = script("deletes_its_folder.py").run()
    assert ended.ok
    assert not script.cwd.exists()
    assert script.log() == b"the folder is gone\n"


def test_script_may_delete_its_logs(script):
    script.folder = script.cwd / "run"
    ended = script("deletes_its_folder.py").run()
    assert ended.ok
    assert script.log() == b"the folder is gone\n"


def test_log_of_a_slow_script_keeps_its_first_and_its_last_half(script):
    code = "import time\nfor i in range(400):\n    print(f'line {i:04d}', flush=True)\n    i % 20 or time.sleep(0.02)"
    ended = script(sys.executable, "-c", code, limits={"log_bytes": 1000}).run()
    log = script.log().decode()
    assert ended.stdout_bytes == 4000
    assert log == "".join(
        [f"line {i:04d}\n" for i in range(50)],
    ) + "… 3,000 bytes left out …\n" + "".join([f"line {i:04d}\n" for i in range(350, 400)])
    assert sorted(path.name for path in script.folder.iterdir()) == ["stderr.log", "stdout.log"]


def test_secrets_are_not_in_the_logs(script):
    ended = script("prints_a_key.py", secrets=[SECRET]).run()
    assert ended.ok
    assert b"sk-very-secret" not in script.log()
    assert b"API_KEY" in script.log()
    assert script.log("stderr").startswith(b"token is ")
    assert SECRET[9:].encode() not in script.log("stderr")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["no-such-program-there-is"], "not there"),
        (["{cwd}/plain"], "not executable"),
        (["{cwd}/nonsense"], "no program"),
        (["{cwd}/lost"], "interpreter"),
        (["a\0b"], "null byte"),
    ],
)
def test_what_cannot_be_started_is_refused_in_a_sentence(script, argv, words):
    for name, text in {"nonsense": b"\x01\x02", "lost": b"#!/no/such/interpreter\n"}.items():
        (script.cwd / name).write_bytes(text)
        (script.cwd / name).chmod(0o755)
    (script.cwd / "plain").write_bytes(b"text")
    process = script(*[word.format(cwd=script.cwd) for word in argv])
    with pytest.raises(RunFailedError, match=words):
        process.run()
    assert process.ended is None


def test_folder_that_is_not_there_is_refused(script):
    script.cwd.rmdir()
    with pytest.raises(RunFailedError, match="folder to run in"):
        script("true").run()


def test_limits_must_make_sense(script):
    with pytest.raises(InputError, match="limit"):
        script("true", limits={"timeout_s": -1})
    with pytest.raises(InputError, match="argv"):
        SupervisedProcess([], cwd=script.cwd, environment={}, folder=script.folder)


def signal_us(number: int, when: Callable[[], object]) -> threading.Thread:
    """Send this process a signal once something is so."""

    def send() -> None:
        wait_for(when)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


def test_ctrl_c_is_passed_on_and_what_it_prints_then_is_read(script):
    process = script("saves_when_interrupted.py", limits={"interrupt_grace_s": 10})
    signal_us(signal.SIGINT, lambda: b"training" in script.printed())
    with pytest.raises(KeyboardInterrupt):
        process.run()
    assert process.ended is not None
    assert (process.ended.exit_code, process.ended.stopped) == (130, "interrupted")
    assert script.printed() == b"training\nfinal loss: 0.25\n"
    assert "Ctrl-C" in process.ended.reason


def test_ctrl_c_is_escalated_where_nobody_listens(script):
    process = script("deaf.py")
    signal_us(signal.SIGINT, lambda: script.printed().count(b"deaf") == 2)
    with pytest.raises(KeyboardInterrupt):
        process.run()
    assert process.ended is not None
    assert (process.ended.signal, process.ended.stopped) == ("SIGKILL", "interrupted")
    assert "killed" in process.ended.reason


def test_sigterm_is_passed_on_as_sigterm(script):
    process = script("sh", "-c", "trap 'echo told to end; exit 5' TERM; echo up; while :; do sleep 0.1; done")
    signal_us(signal.SIGTERM, lambda: b"up" in script.printed())
    with pytest.raises(RunInterruptedError), signals_raise():
        process.run()
    assert process.ended is not None
    assert (process.ended.exit_code, process.ended.stopped) == (5, "terminated")
    assert b"told to end" in script.log()


def run_until_joined(process: SupervisedProcess, thread: threading.Thread) -> None:
    """Run it; the thread's last signal may come when it is over already."""
    try:
        process.run()
    finally:
        with signals_wait(and_then_raise=False):
            thread.join()


def test_second_signal_speeds_it_up(script):
    process = script("deaf.py", limits={"interrupt_grace_s": 60, "terminate_grace_s": 60})
    began = time.monotonic()

    def thrice() -> None:
        wait_for(lambda: script.printed().count(b"deaf") == 2)
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)

    impatient = threading.Thread(target=thrice, daemon=True)
    impatient.start()
    with pytest.raises(KeyboardInterrupt):
        run_until_joined(process, impatient)
    assert process.ended is not None
    assert process.ended.stopped == "interrupted"
    assert time.monotonic() - began < 30


def test_error_of_a_callback_ends_the_script(script):
    def fail(_name: str, _chunk: bytes) -> None:
        raise ValueError("a parser's defect")

    process = script("sh", "-c", "echo x; sleep 100", on_output=fail)
    with pytest.raises(ValueError, match="defect"):
        process.run()
    assert process.ended is not None
    assert process.ended.stopped == "terminated"


def test_run_works_in_a_thread(script):
    found: list[Ended] = []
    ticks: list[float] = []
    process = script("sh", "-c", "sleep 1.2; echo x", on_tick=lambda: ticks.append(time.monotonic()))
    thread = threading.Thread(target=lambda: found.append(process.run()))
    thread.start()
    thread.join(30)
    assert found[0].ok
    assert 1 <= len(ticks) <= 4


class Direct(SupervisedProcess):
    """What there is without a supervisor."""

    def _make_link(self) -> DirectLink:
        return DirectLink(self._job)


class Foreign(SupervisedProcess):
    """A supervisor on a system that lets orphans go, without Linux's files on processes."""

    def _make_link(self) -> SupervisorLink:
        code = (
            "import guardianflow.processes.tree as tree; tree.LINUX = tree.CHILDREN_KNOWN = False;"
            "from guardianflow.processes.supervision.supervisor import main; main()"
        )
        return SupervisorLink(self._job, program=[sys.executable, "-P", "-c", code])


@pytest.mark.parametrize("kind", [Direct, Foreign])
class TestElsewhere:
    """The fallbacks for macOS and Windows, as far as they can be seen on Linux."""

    @pytest.fixture(autouse=True)
    def use(self, script, kind):
        script.kind = kind

    def test_script_ends_well(self, script):
        ended = script("sh", "-c", "echo a; echo b >&2; exit 3").run()
        assert (ended.exit_code, ended.stopped, ended.reason) == (3, "", "it ended with exit code 3: b")
        assert (script.printed(), script.log()) == (b"a\n", b"a\n")

    def test_timeout_ends_a_deaf_script(self, script):
        ended = script("deaf.py", limits={"timeout_s": 1}).run()
        assert (ended.signal, ended.stopped) == ("SIGKILL", "timeout")

    def test_children_are_ended(self, script):
        ended = script("sh", "-c", "sleep 100 & sleep 101 & sleep 1.3; echo done").run()
        assert ended.exit_code == 0

    def test_ctrl_c_is_passed_on(self, script):
        process = script("saves_when_interrupted.py", limits={"interrupt_grace_s": 10})
        signal_us(signal.SIGINT, lambda: b"training" in script.printed())
        with pytest.raises(KeyboardInterrupt):
            process.run()
        assert process.ended is not None
        assert (process.ended.exit_code, process.ended.stopped) == (130, "interrupted")

    def test_flood_is_bounded(self, script):
        ended = script("floods.py", "30").run()
        assert ended.ok
        assert script.log().endswith(b"the last line of the flood\n")
        assert len(script.log()) < 8_000_100
        assert ended.stdout_bytes == len(script.printed()) + ended.unread_bytes

    def test_missing_program_is_refused(self, script):
        with pytest.raises(RunFailedError, match="can't be started"):
            script("no-such-program-there-is").run()


def test_killed_supervisor_takes_everything_along(script):
    process = script("forks_twice.py")

    def kill_supervisor() -> None:
        wait_for(lambda: b"daemon at work" in script.printed())
        psutil.Process(script.pids[0]).parent().kill()

    threading.Thread(target=kill_supervisor, daemon=True).start()
    ended = process.run()
    assert not ended.ok
    assert ended.exit_code is None
    assert "supervisor was killed" in ended.reason
    assert ended.remarks


def daemon_lives(pid_file: Path) -> bool:
    """Whether the daemon that ``turns_on_its_supervisor.py`` let go of is there; it bears no mark."""
    with contextlib.suppress(psutil.Error):
        daemon = psutil.Process(int(pid_file.read_text()))
        return daemon.name() == "sleep" and daemon.status() != psutil.STATUS_ZOMBIE
    return False


def needs_a_control_group(needed: bool) -> None:
    group = ControlGroup()
    group.remove()
    if needed and not group.environment:
        pytest.skip("control groups (version 2) are had as root, or where one was delegated")


@pytest.mark.parametrize("way", ["halt", "halt-again-and-again", "hold", "freeze"])
def test_timeout_holds_though_the_script_stops_its_supervisor(script, tmp_path, way):
    needs_a_control_group(way == "freeze")
    ended = script("turns_on_its_supervisor.py", way, str(tmp_path / "pid"), limits={"timeout_s": 1}).run()
    assert (ended.exit_code, ended.signal, ended.stopped) == (None, "SIGKILL", "timeout")
    assert ended.reason.startswith("it took longer than 1 s and was ended; allow it more with --timeout")
    assert ended.wall_s < 5
    assert script.printed() == script.log() == b"before\nafter\n"
    assert not daemon_lives(tmp_path / "pid")


def test_memory_limit_holds_though_the_script_holds_its_supervisor(script, tmp_path):
    limits = {"timeout_s": 15, "memory_mb": 200}
    ended = script("turns_on_its_supervisor.py", "hold-and-take-memory", str(tmp_path / "pid"), limits=limits).run()
    assert ended.stopped == "out_of_memory"
    assert "more than the 200 MB that they may take" in ended.reason
    assert not daemon_lives(tmp_path / "pid")


@pytest.mark.parametrize("way", ["kill", "kill-the-keeper", "kill-both", "kill-from-another-group"])
def test_daemon_without_an_environment_ends_though_the_script_kills_its_supervisor(script, tmp_path, way):
    needs_a_control_group(way in {"kill-both", "kill-from-another-group"})
    ended = script("turns_on_its_supervisor.py", way, str(tmp_path / "pid"), limits={"timeout_s": 15}).run()
    assert (ended.exit_code, ended.stopped) == (None, "terminated")
    assert ended.wall_s < 10
    assert not daemon_lives(tmp_path / "pid")


def test_without_control_groups_the_keeper_ends_the_daemon(script, tmp_path, monkeypatch):
    monkeypatch.setattr("guardianflow.processes.control_group._made", lambda: None)
    script("turns_on_its_supervisor.py", "kill", str(tmp_path / "pid"), limits={"timeout_s": 15}).run()
    assert not daemon_lives(tmp_path / "pid")


def test_killed_parent_takes_everything_along_though_the_supervisor_is_halted(script, tmp_path):
    words = [str(PROGRAMS / "turns_on_its_supervisor.py"), "nothing", str(tmp_path / "pid")]
    parent, supervisor = start_parent(script, tmp_path, words)
    wait_for(lambda: (tmp_path / "pid").exists() and daemon_lives(tmp_path / "pid"))
    parent.send_signal(signal.SIGSTOP)  # or it would wake the supervisor
    supervisor.suspend()
    parent.kill()
    parent.wait()
    wait_for(lambda: not left_of(script.mark))
    wait_for(lambda: not daemon_lives(tmp_path / "pid"))
    wait_for(lambda: not supervisor.is_running())


def start_parent(script: Script, folder: Path, words: list[str]) -> tuple[subprocess.Popen[bytes], psutil.Process]:
    """A process of its own that runs a script, and the script's supervisor."""
    program = folder / "parent.py"
    program.write_text(
        textwrap.dedent(f"""
        import os
        from pathlib import Path
        from guardianflow.processes.supervision.process import SupervisedProcess
        SupervisedProcess(
            {[sys.executable, *words]!r}, cwd=Path({str(script.cwd)!r}),
            environment=dict(os.environ, {MARK}={script.mark!r}), folder=Path({str(script.folder)!r}),
            on_start=lambda pid: print(pid, flush=True),
        ).run()
        """),
        encoding="utf-8",
    )
    parent = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    supervisor = psutil.Process(int(parent.stdout.readline())).parent()
    assert supervisor is not None
    parent.stdout.close()
    return parent, supervisor


def test_killed_parent_takes_everything_along(script, tmp_path):
    parent, supervisor = start_parent(script, tmp_path, [str(PROGRAMS / "deaf.py")])
    wait_for(lambda: len(left_of(script.mark)) == 2)
    parent.kill()
    parent.wait()
    wait_for(lambda: not left_of(script.mark))
    wait_for(lambda: not supervisor.is_running())
    assert script.log().count(b"deaf") == 2
