"""Datasets of images and boxes: read, checked, fingerprinted and written for Ultralytics.

The public face of this folder::

    dataset = read_dataset("site/data.yaml")        # safe, absolute paths, nothing opened
    report = check_dataset(dataset)                 # every image decoded, every label row read
    require_usable(report, allow_bad=1.0)           # one sentence, or go on
    fingerprint = fingerprint_dataset(dataset)      # which data it was
    write_resolved_yaml(dataset, Path("run/data.yaml"), exclude=report.bad_images)
"""

from __future__ import annotations

from guardianflow.data.checks import check_dataset
from guardianflow.data.data_yaml import read_dataset, write_resolved_yaml
from guardianflow.data.fingerprint import DatasetFingerprint, fingerprint_dataset
from guardianflow.data.image_listing import IMAGE_SUFFIXES
from guardianflow.data.layout import SPLITS, Dataset
from guardianflow.data.report import DatasetReport, Problem, SplitCounts, require_usable

__all__ = [
    "IMAGE_SUFFIXES",
    "SPLITS",
    "Dataset",
    "DatasetFingerprint",
    "DatasetReport",
    "Problem",
    "SplitCounts",
    "check_dataset",
    "fingerprint_dataset",
    "read_dataset",
    "require_usable",
    "write_resolved_yaml",
]
