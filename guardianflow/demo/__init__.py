"""The demo: a model's life from end to end on generated scenes."""

from guardianflow.demo.story import DEMO_EXPERIMENT, DEMO_MODEL, DemoRecipe, run_demo

__all__ = ["DEMO_EXPERIMENT", "DEMO_MODEL", "DemoRecipe", "run_demo"]
