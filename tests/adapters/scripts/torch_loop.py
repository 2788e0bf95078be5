"""A training loop as many have one: argparse in a function, defaults from constants."""

import argparse
import os
from pathlib import Path

LR = 1e-3
EPOCHS = 2 * 3
api_url = "https://example.org"


class Config:
    momentum = 0.9
    weight_decay: float = 5e-4


def add_model_options(parser):
    group = parser.add_argument_group("model")
    group.add_argument("--width", type=float, default=0.25, help="width multiple")
    group.add_argument("--depth", type=int, choices=[1, 2, 3], default=2)


def get_parser():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--lr", "-l", type=float, default=LR, help="learning rate")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--momentum", type=float, default=Config.momentum)
    parser.add_argument("--no-augment", dest="augment", action="store_false")
    parser.add_argument("--amp", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--out", type=Path, default=Path("runs") / "exp")
    parser.add_argument("--device", default=os.environ.get("DEVICE", "cpu"))
    parser.add_argument("--sizes", nargs="+", type=int, default=[32, 64])
    parser.add_argument("-v", "--verbose", action="count", default=0)
    parser.add_argument("--config")
    parser.add_argument("--train-batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    add_model_options(parser)
    parser.set_defaults(seed=7)
    return parser


def main():
    parser = get_parser()
    args = parser.parse_args()
    print({name: str(value) for name, value in vars(args).items()})


if __name__ == "__main__":
    main()
