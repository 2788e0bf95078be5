"""Who is in a generated scene, and where each of them is in every frame."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from guardianflow.scenes.scene_camera import Camera
from guardianflow.scenes.scene_figures import Placement
from guardianflow.scenes.scene_people import PersonLook, random_person
from guardianflow.scenes.scene_props import CLUTTER, Prop
from guardianflow.scenes.scene_sites import Site, Way
from guardianflow.scenes.scene_vehicles import VehicleLook, random_vehicle

__all__ = ["Mover", "place_clutter", "populate"]

Track = NDArray[np.float64]

_TRIES = 40
_PERSON_RADIUS = 0.30
_STEP_METRES = 1.45  # two steps of a walking adult
_MARGIN = 0.03  # of the image: movers are placed so that their ground point lies this far inside
_FARTHEST = {"person": 17.5, "vehicle": 25.5}  # metres; beyond it they would be too small to see


@dataclass(frozen=True)
class Mover:
    """One person or vehicle and its way through the frames.

    Attributes:
        identity: From 1, stable over all frames.
        label: ``"person"`` or ``"vehicle"``.
        look: What it looks like.
        path: ``(frames, 3)``: x and y in metres, heading in radians.
        gait: ``(frames,)``, phase of the step in radians.
        stride: Swing of a person's legs in radians; of a vehicle 1 while it drives, 0 when parked.
        present: ``(frames,)``, whether it is on its route at that time.
    """

    identity: int
    label: str
    look: PersonLook | VehicleLook
    path: Track
    gait: Track
    stride: float
    present: NDArray[np.bool_]

    @property
    def parked(self) -> bool:
        """Whether it is a vehicle that stands still, its lights off."""
        return self.label == "vehicle" and self.stride == 0

    def place(self, frame: int) -> Placement:
        """Where it is."""
        x, y, heading = (float(value) for value in self.path[frame])
        return Placement(x, y, heading)

    def footprint(self, frame: int) -> list[tuple[float, float]]:
        """Corners of the ground it stands on, in order."""
        return self.place(frame).rectangle(*self.half_size)

    @property
    def half_size(self) -> tuple[float, float]:
        """Half its length and half its width, in metres."""
        if isinstance(self.look, VehicleLook):
            return self.look.shape.length / 2, self.look.shape.width / 2
        return 0.22, 0.22

    def discs(self) -> tuple[NDArray[np.float64], float]:
        """Circles that cover its footprint in every frame: centres ``(frames, n, 2)``, and a radius."""
        if isinstance(self.look, PersonLook):
            return self.path[:, None, :2], _PERSON_RADIUS
        half_length, half_width = self.half_size
        along = np.linspace(-half_length + half_width, half_length - half_width, 4)
        ahead = np.stack([np.cos(self.path[:, 2]), np.sin(self.path[:, 2])], axis=1)
        return self.path[:, None, :2] + along[None, :, None] * ahead[:, None, :], half_width * 1.08


@dataclass(frozen=True)
class _Route:
    """A way with rounded corners, by distance along it."""

    at: Track
    points: Track
    heading: Track

    @classmethod
    def along(cls, way: Way, offset: float, *, backwards: bool) -> _Route:
        points = np.array(way.points[::-1] if backwards else way.points, dtype=float)
        for _ in range(5):  # Chaikin's corner cutting converges to a smooth curve
            first, last = points[:1], points[-1:]
            near, far = points[:-1] * 0.75 + points[1:] * 0.25, points[:-1] * 0.25 + points[1:] * 0.75
            points = np.concatenate([first, np.stack([near, far], axis=1).reshape(-1, 2), last])
        steps = np.diff(points, axis=0)
        heading = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
        heading = np.concatenate([heading[:1], (heading[1:] + heading[:-1]) / 2, heading[-1:]])
        points = points + offset * np.stack([-np.sin(heading), np.cos(heading)], axis=1)
        lengths = np.hypot(*np.diff(points, axis=0).T)
        return cls(np.concatenate([[0.0], np.cumsum(lengths)]), points, heading)

    def where(self, distance: Track) -> Track:
        """``(N, 3)``: x, y and heading at each distance; ends are prolonged by clamping."""
        x, y = (np.interp(distance, self.at, self.points[:, axis]) for axis in (0, 1))
        return np.stack([x, y, np.interp(distance, self.at, self.heading)], axis=1)

    def in_view(self, camera: Camera, farthest: float) -> tuple[float, float] | None:
        """First and last distance whose ground point is in the image."""
        distance = np.linspace(0, self.at[-1], 120)
        path = self.where(distance)
        inside = _in_view(camera, np.column_stack([path[:, :2], np.zeros(len(path))])) & (path[:, 1] < farthest)
        if not inside.any():
            return None
        return float(distance[inside][0]), float(distance[inside][-1])


class _Crowd:
    """Movers placed so far; a newcomer that would run into one of them is refused."""

    def __init__(self, rng: np.random.Generator, site: Site, camera: Camera, frames: int, fps: float) -> None:
        self.rng, self.site, self.camera = rng, site, camera
        self.time = np.arange(frames) / fps
        self.movers: list[Mover] = []
        spots = np.array([(bay.x, bay.y, 0.0) for bay in site.bays]).reshape(-1, 3)
        self.bays = [bay for bay, seen in zip(site.bays, _in_view(camera, spots), strict=True) if seen]

    def admit(self, propose: Callable[[], Mover | None]) -> Mover | None:
        """Draw newcomers until one fits; ``None`` when the place is too full."""
        for _ in range(_TRIES):
            mover = propose()
            if mover is not None and not any(_collide(mover, other) for other in self.movers):
                self.movers.append(mover)
                return mover
        return None

    def parked(self) -> Mover | None:
        bay = self.bays[int(self.rng.integers(len(self.bays)))]
        turn = math.pi if self.rng.random() < 0.3 else 0.0
        shift = self.rng.uniform(-0.2, 0.2, 2)
        heading = bay.heading + turn + float(self.rng.uniform(-0.03, 0.03))
        state = np.array([bay.x + shift[0], bay.y + shift[1], heading])
        look = random_vehicle(self.rng)
        return self._mover("vehicle", look, np.repeat(state[None], len(self.time), axis=0), 0.0, None)

    def driving(self) -> Mover | None:
        way = self.site.lanes[int(self.rng.integers(len(self.site.lanes)))]
        route = _Route.along(way, float(self.rng.normal(0, 0.12)), backwards=False)
        return self._on_route("vehicle", random_vehicle(self.rng), route, float(self.rng.uniform(3.6, 5.6)))

    def walking(self) -> Mover | None:
        weights = np.array([way.weight for way in self.site.walks])
        way = self.site.walks[int(self.rng.choice(len(weights), p=weights / weights.sum()))]
        offset = float(self.rng.uniform(-way.spread, way.spread))
        route = _Route.along(way, offset, backwards=bool(self.rng.random() < 0.5))
        stands = self.rng.random() < 0.15
        speed = 0.0 if stands else float(self.rng.uniform(1.1, 1.8))
        return self._on_route("person", random_person(self.rng), route, speed)

    def beside(self, friend: Mover) -> Mover | None:
        """Somebody who walks with another person."""
        aside = float(self.rng.choice([-1.0, 1.0])) * float(self.rng.uniform(0.62, 0.85))
        normal = np.stack([-np.sin(friend.path[:, 2]), np.cos(friend.path[:, 2])], axis=1)
        path = friend.path.copy()
        path[:, :2] += aside * normal
        gait = friend.gait + float(self.rng.uniform(0, 2 * math.pi))
        number = len(self.movers) + 1
        return Mover(number, "person", random_person(self.rng), path, gait, friend.stride, friend.present)

    def _on_route(self, label: str, look: PersonLook | VehicleLook, route: _Route, speed: float) -> Mover | None:
        view = route.in_view(self.camera, _FARTHEST[label])
        if view is None:
            return None
        # In view at one moment of the clip at least; before and after it may be outside.
        moment = float(self.rng.uniform(0, self.time[-1])) if len(self.time) > 1 else 0.0
        distance = float(self.rng.uniform(*view)) + speed * (self.time - moment)
        path = route.where(distance)
        if speed == 0:
            path[:, 2] += float(self.rng.uniform(-math.pi, math.pi))
        present = (distance >= 0) & (distance <= route.at[-1])
        return self._mover(label, look, path, speed, distance, present)

    def _mover(
        self,
        label: str,
        look: PersonLook | VehicleLook,
        path: Track,
        speed: float,
        distance: Track | None,
        present: NDArray[np.bool_] | None = None,
    ) -> Mover:
        gait = float(self.rng.uniform(0, 2 * math.pi)) + (
            np.zeros(len(path)) if distance is None else distance * (2 * math.pi / _STEP_METRES)
        )
        stride = (0.24 + 0.14 * speed if speed > 0 else 0.06) if label == "person" else float(speed > 0)
        shown = np.ones(len(path), bool) if present is None else present
        return Mover(len(self.movers) + 1, label, look, path, gait, stride, shown)


def populate(
    rng: np.random.Generator,
    site: Site,
    camera: Camera,
    *,
    people: tuple[int, int],
    vehicles: tuple[int, int],
    frames: int = 1,
    fps: float = 1.0,
) -> list[Mover]:
    """Draw the movers of one image or clip; none of them run into each other.

    Args:
        rng: All chance comes from here.
        site: Where they move.
        camera: Who looks: each mover is in its view at one moment at least.
        people: Least and most people in view at a time.
        vehicles: Least and most vehicles in view at a time.
        frames: Number of frames; 1 is an image.
        fps: Frames a second.

    Returns:
        The movers, numbered from 1.
    """
    crowd = _Crowd(rng, site, camera, frames, fps)
    seconds = (frames - 1) / fps
    # A clip shows one crowd for long: it is never drawn from the thin end of the range.
    fewest = [low if frames == 1 else (low + high + 1) // 2 for low, high in (people, vehicles)]
    wanted = int(rng.integers(fewest[1], vehicles[1] + 1))
    parked = int(rng.binomial(wanted, 0.6)) if crowd.bays else 0
    for _ in range(parked):
        crowd.admit(crowd.parked)
    # In a clip some leave and others come: as many more as cross the view in its time.
    for _ in range(round((wanted - parked) * (1 + seconds / 3.5))):
        crowd.admit(crowd.driving)
    friend: Mover | None = None
    for _ in range(round(int(rng.integers(fewest[0], people[1] + 1)) * (1 + seconds / 14.0))):
        company = friend
        if company is not None and rng.random() < 0.25:
            crowd.admit(lambda company=company: crowd.beside(company))  # type: ignore[misc]
            friend = None
        else:
            friend = crowd.admit(crowd.walking)
    return crowd.movers


def place_clutter(rng: np.random.Generator, site: Site, movers: list[Mover], *, pieces: tuple[int, int]) -> list[Prop]:
    """Draw the small things that lie about, out of every mover's way."""
    taken = [(mover.discs(), mover.present) for mover in movers]
    props: list[Prop] = []
    for _ in range(int(rng.integers(pieces[0], pieces[1] + 1))):
        for _ in range(_TRIES):
            x0, y0, x1, y1 = site.clutter[int(rng.integers(len(site.clutter)))]
            spot = np.array([rng.uniform(x0, x1), rng.uniform(y0, y1)])
            free = all(
                not present.any() or float(np.hypot(*(centres[present] - spot).T).min()) > radius + 0.75
                for (centres, radius), present in taken
            )
            if free and all(math.hypot(spot[0] - p.place.x, spot[1] - p.place.y) > 1.0 for p in props):
                place = Placement(float(spot[0]), float(spot[1]), float(rng.uniform(-0.5, 0.5)))
                props.append(Prop(str(rng.choice(CLUTTER)), place, float(rng.uniform(0.85, 1.15))))
                break
    return props


def _in_view(camera: Camera, ground: Track) -> NDArray[np.bool_]:
    """Which ground points, ``(N, 3)``, lie well inside the image."""
    seen = camera.project(ground)[:, :2]
    low, high = _MARGIN * camera.imgsz, (1 - _MARGIN) * camera.imgsz
    return np.asarray(((seen > low) & (seen < high)).all(axis=1), dtype=np.bool_)


def _collide(one: Mover, other: Mover) -> bool:
    both = one.present & other.present
    if not both.any():
        return False
    (a, radius_a), (b, radius_b) = one.discs(), other.discs()
    gaps = a[both][:, :, None, :] - b[both][:, None, :, :]
    return bool((np.hypot(gaps[..., 0], gaps[..., 1]) < radius_a + radius_b).any())
