"""Generated site scenes, for the demo and the simulations."""
