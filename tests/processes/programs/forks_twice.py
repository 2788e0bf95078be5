"""Leaves a daemon behind: forked twice, in a session of its own, deaf to SIGTERM, with our stdout still open."""

import os
import signal
import sys
import time

if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        print("daemon at work", flush=True)
        time.sleep(120)
    os._exit(0)
os.wait()
time.sleep(0.3)
print("script done", flush=True)
sys.exit(0)
