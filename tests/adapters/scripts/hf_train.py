"""Dataclasses behind HfArgumentParser."""
# Written as people wrote it for years.
# ruff: noqa: UP006, UP035, UP045

from dataclasses import dataclass, field
from typing import List, Optional

from transformers import HfArgumentParser, TrainingArguments


@dataclass
class ModelArguments:
    model_name: str = field(metadata={"help": "which model"})
    hidden: int = 128
    tie: bool = True
    layers: List[int] = field(default_factory=lambda: [1, 2])
    cache: Optional[str] = None


if __name__ == "__main__":
    parser = HfArgumentParser((ModelArguments, TrainingArguments))
    model, training = parser.parse_args_into_dataclasses()
