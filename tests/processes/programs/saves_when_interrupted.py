"""Saves its work on Ctrl-C, as a training would, and says so."""

import sys
import time

print("training", flush=True)
try:
    time.sleep(120)
except KeyboardInterrupt:
    print("final loss: 0.25", flush=True)
    sys.exit(130)
