"""A typer app of two commands and a callback."""

import typer

app = typer.Typer()


@app.callback()
def everything(seed: int = 1):
    pass


@app.command()
def train(epochs: int = 3, batch_size: int = typer.Option(8, "--batch")):
    print(epochs, batch_size)


@app.command("check-data")
def check(path: str = typer.Argument("data")):
    print(path)


if __name__ == "__main__":
    app()
