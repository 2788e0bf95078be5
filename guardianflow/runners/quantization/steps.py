"""Where a quantization stands, told to whoever watches it."""

from __future__ import annotations

from typing import Any

from guardianflow.runs.tracking import TrackedRun

__all__ = ["STEPS", "Steps"]

STEPS = (
    "score the original",
    "quantize",
    "score the quantized model",
    "score fp32 on its runtime",
    "compare",
    "measure speeds",
    "keep",
)


class Steps:
    """Where a quantization stands, told to the run and to the bar.

    Args:
        run: The run.
        bar: A bar of tqdm.
    """

    def __init__(self, run: TrackedRun, bar: Any) -> None:
        self._run = run
        self._bar = bar
        self._done = -1

    def __call__(self) -> None:
        """The next step begins."""
        self._done += 1
        if self._done:
            self._bar.update()
        self.note("")

    def note(self, text: str) -> None:
        """What is done within the step."""
        name = STEPS[self._done] if self._done < len(STEPS) else ""
        said = f"{name}: {text}" if text else name
        self._bar.set_postfix_str(said)
        self._run.set_progress(self._done, len(STEPS), unit="step", note=f"now: {said}" if said else "")
