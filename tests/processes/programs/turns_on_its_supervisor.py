"""Halts, holds or kills who watches it, having let go of a daemon that no parent, session or environment leads to."""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG, PTRACE_ATTACH = 1, 16


def parent_of(pid):
    text = Path(f"/proc/{pid}/stat").read_bytes()
    return int(text[text.rfind(b")") + 2 :].split()[1])


def let_go_of_a_daemon(pid_file):
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            Path(pid_file).write_text(str(os.getpid()))
            os.close(writer)
            os.execve("/bin/sleep", ["sleep", "120"], {})
        os._exit(0)
    os.wait()
    os.close(writer)
    os.read(reader, 1)  # until it is there


way, pid_file = sys.argv[1:]
supervisor = os.getppid()
keeper = parent_of(supervisor)
LIBC.prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
let_go_of_a_daemon(pid_file)
print("before", flush=True)
mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
place = next((words[1] for words in mounts if words[2] == "cgroup2"), "")
if way == "kill-from-another-group":
    for pid in (os.getpid(), int(Path(pid_file).read_text())):
        Path(place, "cgroup.procs").write_text(str(pid))
    os.kill(supervisor, signal.SIGKILL)
elif way == "freeze":
    own = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))[4:]
    Path(place, own, "cgroup.freeze").write_text("1")
elif way == "halt":
    os.kill(supervisor, signal.SIGSTOP)
elif way == "halt-again-and-again":
    if os.fork() == 0:
        while True:
            os.kill(supervisor, signal.SIGSTOP)
            os.kill(keeper, signal.SIGSTOP)
            time.sleep(0.001)
elif way.startswith("hold"):
    assert LIBC.ptrace(PTRACE_ATTACH, supervisor, 0, 0) == 0
    memory = bytearray(b"x") * 300_000_000 * way.endswith("memory")
elif way == "kill":
    os.kill(supervisor, signal.SIGKILL)
elif way == "kill-the-keeper":
    os.kill(keeper, signal.SIGKILL)
elif way == "kill-both":
    os.kill(keeper, signal.SIGKILL)
    os.kill(supervisor, signal.SIGKILL)
print("after", flush=True)
time.sleep(20)
