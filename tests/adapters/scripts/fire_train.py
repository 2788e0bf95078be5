"""A function behind fire."""

import fire


def train(data, lr=0.1, epochs: int = 3, name="a"):
    print(data, lr, epochs, name)


if __name__ == "__main__":
    fire.Fire(train)
