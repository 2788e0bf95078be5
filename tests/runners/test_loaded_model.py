"""A registered model gives boxes for an image, as the registry says that it is served."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from guardianflow import load, load_champion
from guardianflow.core.config import Settings
from guardianflow.core.registry import ModelRegistry
from guardianflow.exceptions import GuardianFlowError, InputError, NotFoundError
from guardianflow.runners.loaded_model import LoadedModel
from guardianflow.vision.serving import Serving
from tests.trainings import NAMES, Trained

MODEL = "문 gate"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, trained: Trained) -> Settings:
    """A workspace of its own with the session's training as champion."""
    work = tmp_path_factory.mktemp("loaded") / "작업 work"
    shutil.copytree(trained.settings.work_dir, work)
    settings = Settings(work_dir=work, gate="off", mlflow_tracking_uri=trained.settings.mlflow_tracking_uri)
    registry = ModelRegistry(settings)
    registry.register(MODEL, trained.result.run_id, serving=Serving(imgsz=64))
    registry.promote(MODEL, reason="the first")
    return settings


@pytest.fixture(scope="module")
def model(place: Settings) -> LoadedModel:
    return load_champion(MODEL, settings=place)


@pytest.fixture(scope="module")
def image(trained: Trained) -> Path:
    return min((trained.data_yaml.parent / "images" / "val").iterdir())


def test_the_champion_gives_boxes_as_it_is_served(model: LoadedModel, image: Path) -> None:
    found = model.predict(image, confidence=0.0)
    assert (model.backend, model.precision, model.imgsz, model.names) == ("torch", "fp32", 64, NAMES)
    assert found
    scores = [box.confidence for box in found]
    assert scores == sorted(scores, reverse=True)
    height, width = cv2.imdecode(np.fromfile(image, np.uint8), cv2.IMREAD_COLOR).shape[:2]
    assert all(0 <= box.x1 <= box.x2 <= width and 0 <= box.y1 <= box.y2 <= height for box in found)
    assert {box.name for box in found} <= {*NAMES}
    assert found.model == f"{MODEL} version 1 · torch fp32"
    assert len(found.to_frame()) == len(found.to_dict()["boxes"]) == len(found)


def test_a_file_its_pixels_and_a_pil_image_give_the_same(model: LoadedModel, image: Path) -> None:
    pixels = cv2.imdecode(np.fromfile(image, np.uint8), cv2.IMREAD_COLOR)
    asked = (image, str(image), pixels, Image.fromarray(pixels[:, :, ::-1]))
    first, *others = (list(model.predict(picture, confidence=0.001)) for picture in asked)
    assert all(other == first for other in others)


def test_a_cell_shows_the_picture_with_what_was_found(model: LoadedModel, image: Path) -> None:
    found = model.predict(image, confidence=0.0)
    picture = cv2.imdecode(np.frombuffer(found._repr_jpeg_(), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[0] > found.image.shape[0]  # what was found is written below
    assert np.abs(picture[: found.image.shape[0]].astype(int) - found.image).mean() > 1
    assert found.caption in repr(found)
    assert found[0].name in repr(found)
    none = model.predict(np.zeros((40, 60, 3), np.uint8), confidence=0.999)
    assert "0 objects" in repr(none)
    assert none._repr_jpeg_()


def test_a_champion_that_is_here_is_served_while_mlflow_is_away(place: Settings, model: LoadedModel) -> None:
    away = place.model_copy(update={"mlflow_tracking_uri": "http://127.0.0.1:9"})
    with load_champion(MODEL, settings=away) as loaded:
        assert loaded.uri == model.uri


def test_a_version_a_run_and_a_file_can_be_loaded(place: Settings, model: LoadedModel, trained: Trained) -> None:
    run = trained.result.run_id
    weights = ModelRegistry(place).download(MODEL)
    for spec, uri in ((f"models:/{MODEL}/1", model.uri), (run, model.uri), (weights, str(weights))):
        with load(spec, settings=place, imgsz=64) as loaded:
            assert loaded.uri == uri
            assert loaded.names == NAMES


def test_what_cannot_be_loaded_or_read_is_one_sentence(
    place: Settings, model: LoadedModel, tmp_path: Path, image: Path
) -> None:
    broken = tmp_path / "깨진.jpg"
    broken.write_bytes(image.read_bytes()[:200])
    with pytest.raises(NotFoundError, match="gate"):
        load_champion("gate", settings=place)
    for spec in (tmp_path / "nothing.pt", "models:/none@champion"):
        with pytest.raises(NotFoundError):
            load(spec, settings=place)
    for picture in (broken, tmp_path / "no.jpg", np.zeros((4, 4, 3))):
        with pytest.raises(InputError):
            model.predict(picture)
    other = load(ModelRegistry(place).download(MODEL), settings=place, imgsz=64)
    other.close()
    with pytest.raises(GuardianFlowError, match="closed"):
        other.predict(image)
