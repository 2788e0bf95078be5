"""Images per second of the generated scenes.

    python benchmarks/scenes.py --images 500 --imgsz 320

The goal is 500 images of 320 pixels in under 10 s on two cores.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from guardianflow.scenes.scenes import CONDITION_NAMES, SITE_NAMES, SceneConfig, generate_clip, generate_images


def main() -> None:
    """Measure one configuration, or every site and condition."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--every", action="store_true", help="every site and condition, not only gate by day")
    options = parser.parse_args()
    places = [(site, condition) for site in SITE_NAMES for condition in CONDITION_NAMES]
    print(f"{'site':10} {'condition':10} {'images/s':>9} {'wall s':>8} {'CPU s':>8} {'clip frames/s':>14}")
    for site, condition in places if options.every else [("gate", "day")]:
        config = SceneConfig(imgsz=options.imgsz, site=site, condition=condition)
        with tempfile.TemporaryDirectory() as folder:
            wall, cpu = time.perf_counter(), time.process_time()
            generate_images(Path(folder) / "images", images=options.images, config=config, workers=options.workers)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            start = time.perf_counter()
            generate_clip(folder, frames=60, config=config, workers=options.workers)
            frames = 60 / (time.perf_counter() - start)
        print(f"{site:10} {condition:10} {options.images / wall:9.1f} {wall:8.2f} {cpu:8.2f} {frames:14.1f}")


if __name__ == "__main__":
    main()
