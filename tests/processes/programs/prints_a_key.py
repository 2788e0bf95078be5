"""Prints secrets: by name, by value, and in pieces that arrive one by one."""

import os
import sys
import time

print("API_KEY=sk-very-secret-1234567890", flush=True)
for piece in ("token is ", os.environ["MY_VALUE"][:9], os.environ["MY_VALUE"][9:], "\n"):
    sys.stderr.write(piece)
    sys.stderr.flush()
    time.sleep(0.05)
