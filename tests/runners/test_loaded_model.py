"""A registered model gives boxes for an image, as the registry says that it is served."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import mlflow
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from guardianflow import load, load_champion
from guardianflow.core.config import Settings
from guardianflow.core.registry import ModelRegistry
from guardianflow.exceptions import GuardianFlowError, HashMismatchError, InputError, NotFoundError
from guardianflow.runners.loaded_model import Box, LoadedModel
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
    for spec, uri in ((f"models:/{MODEL}/1", model.uri), (run, ""), (weights, str(weights))):
        with load(spec, settings=place, imgsz=64) as loaded:
            # Of a run that was registered under several names it may be any of these.
            assert loaded.uri == uri or ModelRegistry(place).find(loaded.uri).run_id == spec
            assert loaded.names == NAMES


def test_what_cannot_be_loaded_or_read_is_one_sentence(
    place: Settings, model: LoadedModel, tmp_path: Path, image: Path
) -> None:
    broken = tmp_path / "깨진.jpg"
    broken.write_bytes(image.read_bytes()[:200])
    with pytest.raises(NotFoundError, match="gate"):
        load_champion("gate of nobody", settings=place)
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


@pytest.fixture
def mlflow_alone(place: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A process that knows MLflow and nothing else; its work folder."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place.mlflow_tracking_uri)
    monkeypatch.setenv("GUARDIANFLOW_WORK_DIR", str(tmp_path / "server"))
    return tmp_path / "server"


def test_mlflow_opens_the_champion_by_its_uri(mlflow_alone: Path, model: LoadedModel, image: Path) -> None:
    opened = mlflow.pyfunc.load_model(f"models:/{MODEL}@champion", model_config={"confidence": 0.001})
    expected = list(model.predict(image, confidence=0.001))
    assert expected
    assert len(mlflow.pyfunc.load_model(model.uri).predict(image)) == len(model.predict(image))
    pixels = cv2.imdecode(np.fromfile(image, np.uint8), cv2.IMREAD_COLOR)
    found = opened.predict([str(image), pixels])
    assert list(found.columns) == ["image", "source", "name", "confidence", "x1", "y1", "x2", "y2", "label"]
    assert [Box(*row) for row in found.iloc[:, 2:].itertuples(index=False)] == 2 * expected
    assert [*zip(found["image"], found["source"], strict=True)][:: len(expected)] == [(0, str(image)), (1, "")]
    by_frame = opened.predict(pd.DataFrame({"photograph": [str(image)] * 2}))
    assert list(by_frame["x1"]) == list(found["x1"])
    assert opened.predict([]).empty


def test_the_weights_are_stored_once_and_checked_when_mlflow_opens_them(
    mlflow_alone: Path, place: Settings, model: LoadedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client = mlflow.MlflowClient()
    version = client.get_model_version(MODEL, "1")
    files = client.list_artifacts(version.run_id, version.source.removeprefix(f"runs:/{version.run_id}/"))
    assert {Path(file.path).name for file in files} <= {"MLmodel", "registered_model_meta"}
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{MODEL}/1", dst_path=str(tmp_path / "copy")))
    for wrong, said in ((("sha256", "../../x"), "names no file of GuardianFlow's"), (("artifact", "../x"), "relative")):
        text = json.loads((folder / "MLmodel").read_text())
        text["flavors"]["python_function"]["config"][wrong[0]] = wrong[1]
        (tmp_path / "bad").mkdir(exist_ok=True)
        (tmp_path / "bad" / "MLmodel").write_text(json.dumps(text))
        with pytest.raises(InputError, match=said):
            mlflow.pyfunc.load_model(str(tmp_path / "bad"))
    text = json.loads((folder / "MLmodel").read_text())
    text["flavors"]["python_function"]["config"]["sha256"] = "0" * 64
    (tmp_path / "bad" / "MLmodel").write_text(json.dumps(text))
    with pytest.raises(HashMismatchError, match="was changed after it was registered"):
        mlflow.pyfunc.load_model(str(tmp_path / "bad"))
