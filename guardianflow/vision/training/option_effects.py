"""Which training options change nothing, because of what else was asked: Ultralytics passes over them in silence."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from guardianflow.exceptions import InputError
from guardianflow.vision._ultralytics import default_options
from guardianflow.vision.model_files import ModelSource, load_weights

__all__ = ["AskedTraining", "check_freeze", "effect_remarks", "without_effect"]

_MUSGD_ITERATIONS = 10_000  # from which on optimizer=auto is MuSGD (ultralytics.engine.trainer.build_optimizer)
_WITH_MOMENTUM = {"SGD", "MuSGD", "RMSprop"}
_MIXED = ("mosaic", "mixup", "cutmix")


@dataclass(frozen=True)
class AskedTraining:
    """What the effect of an option depends on.

    Attributes:
        options: As :func:`~guardianflow.vision.training.options.read_options` gives them.
        epochs: Passes over the training split.
        batch: Images per step.
        images: Training images.
        on_cpu: Whether it runs on a CPU.
        polygons: Whether some labels are polygons.
    """

    options: Mapping[str, Any]
    epochs: int
    batch: int
    images: int
    on_cpu: bool
    polygons: bool = False

    def value(self, name: str) -> Any:
        """The option as it was asked, else Ultralytics' default."""
        return self.options.get(name, default_options()[name])

    @property
    def chooses(self) -> bool:
        """Whether Ultralytics chooses the optimizer."""
        return str(self.value("optimizer")) == "auto"

    @property
    def optimizer(self) -> str:
        """The optimizer that it comes to."""
        if not self.chooses:
            return str(self.value("optimizer"))
        share = self.value("fraction")
        images = self.images * share if isinstance(share, float) else self.images
        steps = math.ceil(images / max(self.batch, self.value("nbs"))) * self.epochs
        return "MuSGD" if steps > _MUSGD_ITERATIONS else "AdamW"

    @property
    def warmup(self) -> float:
        """Epochs of warm-up: the last epoch has none."""
        return float(min(self.value("warmup_epochs"), max(self.epochs - 1, 0)))


def without_effect(asked: AskedTraining) -> dict[str, str]:
    """Option → why it changes nothing in this training; those that do something are left out."""
    found = {}
    for names, reason in _RULES:
        for name in names:
            if name in asked.options and name not in found and (why := reason(asked)):
                found[name] = why
    return found


def effect_remarks(asked: AskedTraining) -> tuple[str, ...]:
    """What a person should know of options that do nothing, or something else than they say."""
    found = [
        f"option {name}={asked.options[name]!r} has no effect: {why}" for name, why in without_effect(asked).items()
    ]
    if asked.warmup and asked.warmup < asked.options.get("warmup_epochs", 0):
        found.append(
            f"option warmup_epochs={asked.value('warmup_epochs')!r} is cut to {asked.warmup:g}: the last epoch has none"
        )
    if asked.value("time"):
        found.append(
            f"option time={asked.value('time')!r} says when it ends, in hours: epochs={asked.epochs} doesn't count"
        )
    return tuple(found)


def _chosen(asked: AskedTraining) -> str:
    return "optimizer=auto chooses the learning rate itself; add optimizer=SGD or another" if asked.chooses else ""


def _momentum(asked: AskedTraining) -> str:
    chosen = asked.chooses and asked.optimizer == "AdamW"
    return "optimizer=auto chooses AdamW here, with a momentum of its own" if chosen else ""


def _warmup_momentum(asked: AskedTraining) -> str:
    has = asked.optimizer in _WITH_MOMENTUM
    return "" if has else f"{asked.optimizer} has no momentum that is warmed up"


def _no_warmup(asked: AskedTraining) -> str:
    if asked.warmup > 0:
        return ""
    return "a training of one epoch has no warm-up" if asked.epochs == 1 else "warmup_epochs=0 turns the warm-up off"


def _warmup_epochs(asked: AskedTraining) -> str:
    return "a training of one epoch has no warm-up" if asked.epochs == 1 and asked.value("warmup_epochs") else ""


def _one_epoch(asked: AskedTraining) -> str:
    return "the learning rate changes from epoch to epoch, and there is one" if asked.epochs == 1 else ""


def _closed(asked: AskedTraining) -> str:
    last = asked.value("close_mosaic")
    if asked.value("rect"):
        return "rect=True turns it off"
    if last >= asked.epochs and not asked.value("time"):
        return f"close_mosaic={last} turns it off for the last {last} epochs, and there are {asked.epochs}"
    return ""


def _nothing_to_close(asked: AskedTraining) -> str:
    off = not any(asked.value(name) for name in (*_MIXED, "copy_paste"))
    if asked.value("rect") or off:
        return "mosaic, mixup and cutmix are off already"
    return ""


_RULES: tuple[tuple[tuple[str, ...], Callable[[AskedTraining], str]], ...] = (
    (("lr0", "warmup_bias_lr"), _chosen),
    (("momentum",), _momentum),
    (("warmup_bias_lr", "warmup_momentum"), _no_warmup),
    (("warmup_momentum",), _warmup_momentum),
    (("warmup_epochs",), _warmup_epochs),
    (("lrf", "cos_lr"), _one_epoch),
    (_MIXED, _closed),
    (("close_mosaic",), _nothing_to_close),
    (("erasing",), lambda _: "it belongs to the training of classifiers"),
    (("copy_paste",), lambda asked: "" if asked.polygons else "it copies what has polygons for labels; here are boxes"),
    (("amp",), lambda asked: "a CPU trains in fp32" if asked.on_cpu and asked.value("amp") in {True, "fp16"} else ""),
    (("freeze",), lambda asked: "" if asked.value("freeze") else "no layer is named"),
)  # fmt: skip


def check_freeze(freeze: int | Sequence[int | str] | None, model: ModelSource, classes: int) -> tuple[str, ...]:
    """Find layers that the model hasn't got, which Ultralytics would pass over in silence.

    Args:
        freeze: The option: so many layers from the first, or a list of layers and modules.
        model: What is trained.
        classes: How many classes the data has.

    Returns:
        Remarks on layers without weights.

    Raises:
        InputError: A layer that isn't there, or no layer is left to train.
    """
    if not freeze:
        return ()
    network = _network(model, classes)
    count = len(network.model)
    weights = [name for name, _ in network.named_parameters()]
    wanted = list(range(freeze)) if isinstance(freeze, int) else list(freeze)
    frozen = [name for name in weights if any(f"model.{layer}." in name for layer in wanted)]
    bare = [layer for layer in wanted if not any(f"model.{layer}." in name for name in weights)]
    away = [layer for layer in bare if isinstance(layer, str) or not 0 <= layer < count]
    if away or len(frozen) == len(weights):
        why = f"it has no layer {away[0]!r}" if away else "none would be left to train"
        raise InputError(
            f"training option freeze={freeze!r} can't be used: the model has the layers 0 to {count - 1}, {why}; "
            "freeze=10 freezes the first ten"
        )
    if isinstance(freeze, int):
        return ()
    shown = ", ".join(str(layer) for layer in bare)
    return (f"freeze: layer {shown} of the model has no weights that could be frozen",) if bare else ()


def _network(model: ModelSource, classes: int) -> Any:
    if model.kind != "architecture":
        from pathlib import Path

        return load_weights(Path(model.spec))
    from ultralytics.nn.tasks import DetectionModel

    return DetectionModel(model.spec, nc=classes, verbose=False)
