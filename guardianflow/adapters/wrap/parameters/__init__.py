"""Parameters of scripts, read from their text and never by running it; see `parameters/script_parameters.py`."""
