"""The runners, under the name that users import; each lives in a folder of its own below runners/."""

from __future__ import annotations

from guardianflow.adapters.generic_wrapper import GenericWrapper
from guardianflow.runners._base import Runner
from guardianflow.runners.inference.runner import InferenceRunner
from guardianflow.runners.promotion.runner import RegistryRunner
from guardianflow.runners.quantization.runner import QuantizationRunner
from guardianflow.runners.training.runner import TrainingRunner

__all__ = [
    "GenericWrapper", "InferenceRunner", "QuantizationRunner", "RegistryRunner", "Runner", "TrainingRunner",
]  # fmt: skip
