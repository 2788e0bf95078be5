"""The pictures of a comparison: their data, and that they can be drawn."""

from __future__ import annotations

from typing import Any

from guardianflow.plots.class_changes import plot_class_changes
from guardianflow.plots.comparison import change_rows, overlaid_curves, plot_overlaid_curves


def compared(name: str, *rows: tuple[str, float | None]) -> dict[str, Any]:
    def row(label: str, change: float | None) -> dict[str, Any]:
        if change is None:
            return {"name": label, **dict.fromkeys(("candidate", "champion", "difference", "low", "high"))}
        return {"name": label, "candidate": 0.5 + change, "champion": 0.5, "difference": change,
                "low": change - 0.05, "high": change + 0.05}  # fmt: skip

    return {**row(name, 0.02), "per_class": [row(*each) for each in rows]}


def test_all_classes_come_first_then_those_that_changed_most() -> None:
    rows = change_rows([compared("B", ("a", 0.01), ("<i>b", -0.2), ("nothing labelled", None))])
    assert [row.name for row in rows] == ["<b>all classes</b>", "&lt;i&gt;b", "a"]
    assert [row.kind for row in rows] == ["same", "worse", "same"]
    figure = plot_class_changes(rows, what="AP50")
    assert "AP50)" in figure.layout.title.text
    assert figure.layout.yaxis.ticktext[-1] == "<b>all classes</b>", "on top"


def test_several_models_are_told_apart_and_many_classes_are_cut() -> None:
    many = [(f"class {place}", place / 1000) for place in range(50)]
    rows = change_rows([compared("B", *many), compared("C", *many)])
    assert len(rows) == 2 * 21
    assert rows[0].name == "<b>all classes · B</b>"
    assert rows[1].name == "class 49 · B"
    assert len({row.name for row in rows}) == len(rows)


def curves(*classes: float | None) -> dict[str, Any]:
    lines = [[value, value, value] for value in classes]
    return {
        "names": [f"c{place}" for place in range(len(classes))],
        "recall": [0.0, 0.5, 1.0],
        "precision_at_iou": {"0.5": {"mean": [0.5, 0.5, 0.5], "classes": lines}},
    }


def test_the_curves_of_all_models_lie_in_one_panel_and_the_class_that_differs_most_comes_first() -> None:
    recall, panels = overlaid_curves([("A", curves(0.5, None, 0.2)), ("B", curves(0.6, None, 0.9))])
    assert recall == (0.0, 0.5, 1.0)
    assert [panel.title for panel in panels] == ["all classes", "c2", "c0"]
    assert [line.label for line in panels[1].lines] == ["A", "B"]
    figure = plot_overlaid_curves(recall, panels)
    assert len(figure.data) == 6
    assert [trace.name for trace in figure.data if trace.showlegend] == ["A", "B"]
    assert figure.data[0].line.dash != figure.data[1].line.dash, "told apart without colours"


def test_one_class_and_many_are_drawn_too() -> None:
    assert len(plot_overlaid_curves(*overlaid_curves([("A", curves(0.5)), ("B", curves(0.4))])).data) == 4
    many = overlaid_curves([("A", curves(*[0.5] * 30)), ("B", curves(*[0.4] * 30))])
    assert len(many[1]) == 6
    assert len(plot_overlaid_curves(*many).data) == 12
