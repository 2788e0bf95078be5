"""What generated scenes look like: the parameters and their ranges."""

from __future__ import annotations

from dataclasses import dataclass

from guardianflow.exceptions import InputError

__all__ = ["CONDITION_NAMES", "SITE_NAMES", "SceneConfig", "require_one_of", "require_within"]

SITE_NAMES = ("car_park", "gate")
CONDITION_NAMES = ("day", "fog", "night")


@dataclass(frozen=True)
class SceneConfig:
    """What the scenes look like.

    Attributes:
        imgsz: Width and height of the images, 64–4096 pixels.
        site: One of :data:`SITE_NAMES`.
        condition: One of :data:`CONDITION_NAMES`.
        people: Least and most people in view at a time.
        vehicles: Least and most vehicles in view at a time.
        clutter: Least and most small things lying about (cones, crates, bins, bushes, barrels).
        noise: Standard deviation of the sensor's noise by daylight, in grey levels; night has more.
        jpeg_quality: 1–100.
        min_visibility: Movers of which less is visible (0–1; what lies beyond the image counts as
            hidden) are not labelled in images, and carry ``conf`` 0 in a clip's ground truth.
        seed: All chance follows from it.

    Raises:
        InputError: A value is outside its range.
    """

    imgsz: int = 320
    site: str = "gate"
    condition: str = "day"
    people: tuple[int, int] = (2, 4)
    vehicles: tuple[int, int] = (1, 4)
    clutter: tuple[int, int] = (1, 4)
    noise: float = 3.0
    jpeg_quality: int = 88
    min_visibility: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        require_one_of("site", self.site, SITE_NAMES)
        require_one_of("condition", self.condition, CONDITION_NAMES)
        require_within("imgsz", self.imgsz, 64, 4096, whole=True)
        require_within("jpeg_quality", self.jpeg_quality, 1, 100, whole=True)
        require_within("min_visibility", self.min_visibility, 0, 1)
        require_within("noise", self.noise, 0, 50)
        require_within("seed", self.seed, 0, 2**63 - 1, whole=True)
        for name in ("people", "vehicles", "clutter"):
            pair = tuple(getattr(self, name))
            if len(pair) != 2 or pair[0] > pair[1]:
                raise InputError(f"{name} must be (least, most), not {pair!r}. Try (1, 4).")
            for value in pair:
                require_within(name, value, 0, 20, whole=True)
            object.__setattr__(self, name, pair)


def require_one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    """Refuse a name that is not known, listing the known ones.

    Raises:
        InputError: It isn't one of them.
    """
    if value not in known:
        raise InputError(f"{what} must be one of {', '.join(known)}, not {value!r}. Use one of these.")


def require_within(what: str, value: float, low: float, high: float, *, whole: bool = False) -> None:
    """Refuse a number outside its range.

    Raises:
        InputError: It isn't a number, or not in the range.
    """
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise InputError(f"{what} must be {kind} from {low} to {high}, not {value!r}. Correct the value.")
