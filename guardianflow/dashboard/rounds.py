"""Alert rules evaluated again and again beside a server, so that alerts and advice are there without a watcher."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

from guardianflow.core.config import Settings
from guardianflow.dashboard.automation import AutoOptimizer
from guardianflow.exceptions import GuardianFlowError

__all__ = ["EVALUATE_EVERY_S", "evaluating"]

log = logging.getLogger(__name__)

EVALUATE_EVERY_S = 60.0
_END_S = 5


@contextlib.contextmanager
def evaluating(settings: Settings, every_s: float) -> Iterator[None]:
    """Evaluate the rules while the block lasts; a round that fails is logged, and the next tries.

    Args:
        settings: Where figures and alerts are.
        every_s: How often, in seconds; 0: never.
    """
    end = threading.Event()

    def rounds() -> None:
        while not end.wait(every_s):
            try:
                AutoOptimizer(settings=settings).evaluate()
            except GuardianFlowError as error:
                log.warning("the alert rules could not be evaluated: %s", error)
            except Exception:  # whatever it was, the next round must come
                log.exception("the alert rules could not be evaluated")

    thread = threading.Thread(target=rounds, name="guardianflow alert rules", daemon=True)
    if every_s > 0:
        thread.start()
    try:
        yield
    finally:
        end.set()
        if every_s > 0:
            thread.join(_END_S)
