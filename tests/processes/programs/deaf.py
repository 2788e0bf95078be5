"""Listens to neither SIGINT nor SIGTERM, and has a child in another session that doesn't either."""

import os
import signal
import time

for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
print("deaf", flush=True)
time.sleep(120)
