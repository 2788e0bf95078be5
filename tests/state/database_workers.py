"""What other processes do in the tests of the state database."""

from __future__ import annotations

import os
import signal
from multiprocessing.synchronize import Barrier, Event

from guardianflow.state.database import Database


def open_at_once(url: str, barrier: Barrier) -> None:
    """Open a database at the same moment as the others, and make it where it isn't there yet."""
    barrier.wait(60)
    Database.open(url).make()


def hold_lock_and_die(url: str, name: str, held: Event) -> None:
    """Take a lock, say so, wait to be killed."""
    with Database.open(url).lock(name):
        held.set()
        signal.pause()
    os._exit(1)
