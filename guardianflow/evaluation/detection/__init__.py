"""Detections against their truth, as COCO counts."""
