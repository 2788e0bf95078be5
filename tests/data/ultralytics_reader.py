"""What the real Ultralytics makes of datasets and label files; run as a process, JSON in and out.

A process of its own, because importing Ultralytics writes a settings file and replaces functions of
Pillow and OpenCV.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def read_datasets(requests: Sequence[tuple[Path, Path]], *, config: Path) -> list[dict[str, Any]]:
    """For each (data.yaml, current folder): names, and per split the image and label files found."""
    return _ask({"datasets": [[str(file), str(cwd)] for file, cwd in requests]}, config)["datasets"]


def rejects_labels(image: Path, texts: Sequence[str], *, classes: int, config: Path) -> list[str | None]:
    """For each label text: why Ultralytics drops its image, or None where it takes it."""
    answer = _ask({"image": str(image), "texts": list(texts), "classes": classes}, config)
    return [message or None for message in answer["rejected"]]


def rejects_images(images: Sequence[Path], *, config: Path) -> list[str | None]:
    """For each image: why Ultralytics drops it, or None where it takes it."""
    return _ask({"images": [str(image) for image in images]}, config)["images"]


def _ask(request: dict[str, Any], config: Path) -> Any:
    fonts = config / "Ultralytics"
    fonts.mkdir(parents=True, exist_ok=True)
    (fonts / "Arial.ttf").touch()  # it would be fetched from the network
    environment = {
        **os.environ,
        "YOLO_CONFIG_DIR": str(config),
        "YOLO_AUTOINSTALL": "false",
        "YOLO_OFFLINE": "true",
        "YOLO_VERBOSE": "false",
    }
    done = subprocess.run(
        [sys.executable, __file__], input=json.dumps(request), capture_output=True, text=True, timeout=120,
        env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def _dataset(file: str, cwd: str) -> dict[str, Any]:
    from ultralytics.data.base import BaseDataset
    from ultralytics.data.utils import check_det_dataset, img2label_paths

    os.chdir(cwd)
    data = check_det_dataset(file, autodownload=False)
    reader = BaseDataset.__new__(BaseDataset)
    reader.prefix, reader.fraction = "", 1.0
    answer: dict[str, Any] = {"names": list(data["names"].values()), "channels": data["channels"], "splits": {}}
    for split in ("train", "val", "test"):
        if data.get(split):
            images = reader.get_img_files(data[split])
            answer["splits"][split] = [images, img2label_paths(images)]
    return answer


def _verify(image: str, label: str, classes: int) -> str | None:
    from ultralytics.data.utils import verify_image_label

    *_, message = result = verify_image_label((image, label, "", False, classes, 0, 0, False))
    return str(message) if result[0] is None else None


def main() -> None:
    request = json.load(sys.stdin)
    answer: dict[str, Any] = {"datasets": [_dataset(*each) for each in request.get("datasets", [])]}
    if "texts" in request:
        label = Path(request["image"]).with_suffix(".txt")
        answer["rejected"] = []
        for text in request["texts"]:
            label.write_text(text, encoding="utf-8")
            answer["rejected"].append(_verify(request["image"], str(label), request["classes"]))
    answer["images"] = [_verify(image, "no label", 1) for image in request.get("images", [])]
    print("\n" + json.dumps(answer))


if __name__ == "__main__":
    main()
