"""A click group with two commands."""

import click


@click.group()
@click.option("--verbose/--quiet", default=True)
def cli(verbose):
    pass


@cli.command()
@click.argument("data", type=click.Path())
@click.option("--lr", "-l", default=0.1, show_default=True, help="learning rate")
@click.option("--optimizer", type=click.Choice(["sgd", "adam"]), default="sgd")
@click.option("--tag", "-t", multiple=True)
@click.option("-n", "--num-epochs", "epochs", type=int, required=True)
@click.option("--fast", is_flag=True)
def train(**options):
    click.echo(sorted(options.items()))


@cli.command("evaluate")
@click.option("--split", default="val")
def evaluate_split(split):
    click.echo(split)


if __name__ == "__main__":
    cli()
