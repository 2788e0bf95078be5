"""The verb about recommendations: optimize."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guardianflow.exceptions import InputError, TrackingUnavailableError
from guardianflow.verbs.frame import Json, verb

if TYPE_CHECKING:
    from guardianflow.core.config import Settings
    from guardianflow.dashboard.automation import Evaluation
    from guardianflow.dashboard.recommendations import Recommendation

__all__ = ["optimize"]

_PERIOD = re.compile(r"(\d{1,6})(s|m|h)", re.ASCII)
_EXIT_CODES = {"refused": 3, "withdrawn": 3, "failed": 1}


@verb
def optimize(
    apply: Annotated[int | None, typer.Option("--apply", metavar="ID", help="Carry this recommendation out.")] = None,
    dismiss: Annotated[int | None, typer.Option("--dismiss", metavar="ID", help="Say no to it, with --reason.")] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why it is dismissed; it is kept.")] = "",
    watch: Annotated[
        str | None,
        typer.Option("--watch", metavar="TIME", help="Look again every 15m, until Ctrl-C."),
    ] = None,
    json: Json = False,
) -> None:
    """Hold the figures against the rules and show what is advised; nothing is applied without --apply."""
    from guardianflow.core.config import Settings

    if sum(given is not None for given in (apply, dismiss, watch)) > 1 or (reason and dismiss is None):
        raise InputError("give one of --apply ID, --dismiss ID --reason TEXT and --watch TIME")
    if watch is not None and json:
        raise InputError("a watch never ends, so it makes no JSON document; call `optimize --json` again and again")
    settings = Settings()
    if apply is not None:
        _apply(apply, settings, as_json=json)
    elif dismiss is not None:
        _dismiss(dismiss, reason, settings, as_json=json)
    elif watch is not None:
        _watch(_seconds(watch), settings)
    else:
        _show(_evaluate(settings), as_json=json)


def _evaluate(settings: Settings) -> Evaluation:
    from guardianflow.dashboard.automation import AutoOptimizer

    return AutoOptimizer(settings=settings).evaluate()


def _show(found: Evaluation, *, as_json: bool) -> None:
    from guardianflow import listing
    from guardianflow.console import print_json, print_table, put
    from guardianflow.verbs.execution import say_notes

    say_notes(found.remarks, most=20, rest="--json lists all")
    if as_json:
        print_json(found.to_dict())
        return
    table = listing.alerts_table(found.alerts, empty="no alert")
    print_table(table.columns, table.rows, empty=table.empty)
    for item in found.recommendations:
        _say(item)
    if not found.recommendations:
        put("nothing is advised")


def _say(item: Recommendation) -> None:
    """One recommendation: what, why, on which evidence, at which cost, the scenario, the next step."""
    import yaml

    from guardianflow.console import put
    from guardianflow.dashboard.optimization import cost_in_words
    from guardianflow.text.command_lines import command, typed

    facts = item.facts
    named = ", ".join(f"{what} {name}" for what, name in (("site", item.site), ("camera", item.camera)) if name)
    value = "unknown" if facts["value"] is None else f"{facts['value']:.4g}"
    scenario = yaml.safe_dump(dict(item.scenario), allow_unicode=True, sort_keys=False).splitlines()
    lines: list[tuple[str, str]] = [
        ("what", f"{item.action} {item.model} (champion: version {facts['champion']})"),
        ("because", f"{facts['when']}: {value}, {f'{named}, ' if named else ''}since {facts['since'][:16]}"),
        ("why", str(facts["why"])),
        *(("but", str(text)) for text in facts["caveats"]),
        ("cost", cost_in_words(item.cost)),
        *((("scenario" if place == 0 else ""), line) for place, line in enumerate(scenario)),
        *([("outcome", str(item.outcome["said"]))] if item.outcome.get("said") else []),
        ("apply it", typed(command("optimize", "--apply", str(item.id)))),
    ]
    put(f"\nrecommendation {item.id}: {item.state}")
    for name, text in lines:
        put(f"{name:<10}{text}")


def _apply(number: int, settings: Settings, *, as_json: bool) -> None:
    from guardianflow.console import ProgressWatch, print_json, say
    from guardianflow.dashboard.optimization import apply_in_notebook

    pages: list[Any] = []
    with ProgressWatch(settings, label="steps").watching() as watch:

        def begin(record: Any) -> None:
            watch.start(record)
            pages.append(record)

        def waiting() -> None:
            say(f"another process carries recommendation {number} out; waiting for it")

        done = apply_in_notebook(number, settings=settings, on_run=begin, on_wait=waiting)
    if as_json:
        print_json({**done.to_dict(), "notebook": str(pages[0].notebook) if pages else None})
    else:
        say(f"recommendation {number}: {done.state}: {done.outcome.get('said', '')}")
        for name, run_id in done.outcome.get("runs", {}).items():
            say(f"{name:<18}{run_id}")
        if pages:
            say(f"page              {pages[0].notebook.with_suffix('.html')}")
    if done.state in _EXIT_CODES:
        raise typer.Exit(_EXIT_CODES[done.state])


def _dismiss(number: int, reason: str, settings: Settings, *, as_json: bool) -> None:
    from guardianflow.console import print_json, say
    from guardianflow.dashboard.automation import AutoOptimizer

    done = AutoOptimizer(settings=settings).dismiss(number, actor=settings.actor, reason=reason)
    if as_json:
        print_json(done.to_dict())
    else:
        say(f"recommendation {number} is dismissed: {done.reason}")


def _watch(seconds: float, settings: Settings) -> None:
    """Look again and again; shown is what is new since the last look. A look that fails is said, and the next tries."""
    import time

    from guardianflow.console import say

    shown: object = None
    while True:
        try:
            found = _evaluate(settings)
        except TrackingUnavailableError as error:
            say(f"error: {error}")
        else:
            news = (
                [(alert.id, alert.state) for alert in found.alerts],
                [(item.id, item.state) for item in found.recommendations],
            )
            if news != shown:
                shown = news
                _show(found, as_json=False)
        time.sleep(seconds)


def _seconds(text: str) -> float:
    found = _PERIOD.fullmatch(text.strip())
    seconds = int(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]] if found else 0
    if not seconds:
        raise InputError(f"--watch takes a time such as 15m, 30s or 1h, not {text!r}")
    return float(seconds)
