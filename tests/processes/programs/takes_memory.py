"""Two processes that each hold half of what is asked for, MB, and more and more of it."""

import os
import sys
import time

half = int(sys.argv[1]) // 2
os.fork()
held = []
for _ in range(half // 10):
    held.append(bytearray(os.urandom(1)) * 10_000_000)
    time.sleep(0.02)
time.sleep(120)
