"""A command as click makes it."""

import click


@click.command()
@click.option("--rounds", default=2, type=int, help="How many.")
@click.option("--rate", default=0.5, show_default=True)
@click.argument("source")
def main(rounds, rate, source):
    left = 1.0
    for number in range(1, rounds + 1):
        left *= rate
        click.echo(f"step {number} of {rounds}: accuracy: {1 - left}")


if __name__ == "__main__":
    main()
