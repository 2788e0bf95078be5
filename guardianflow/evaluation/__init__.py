"""How good a model is: detection and tracking figures, and whether a difference is more than chance."""
