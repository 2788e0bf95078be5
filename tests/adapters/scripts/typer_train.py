"""A typer function in its three spellings."""
# Written as people wrote it for years.
# ruff: noqa: UP042, UP045, B008

from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer


class Optimizer(str, Enum):
    sgd = "sgd"
    adam = "adam"


def main(
    data: Path,
    lr: float = 0.1,
    optimizer: Optimizer = Optimizer.sgd,
    amp: bool = True,
    tags: list[str] = typer.Option([], "--tag", "-t"),
    epochs: Annotated[int, typer.Option("--epochs", "-n", help="passes")] = 3,
    name: Optional[str] = None,
):
    print(data, lr, optimizer.value, amp, tags, epochs, name)


if __name__ == "__main__":
    typer.run(main)
