"""The first thing that a Python of a wrapped script's tree runs: ours steps aside for the user's own of this name.

Any Python may be below a script, so this file is written in what all of them read, Python 2 included.
"""

import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))
_OURS = ("_guardianflow_watch", "_guardianflow_taps", "_guardianflow_notes")
_PARTS = None
try:
    if sys.version_info >= (3, 7):
        _PARTS = [__import__(name) for name in _OURS]
except Exception:  # the script's start is not ours to break
    _PARTS = None
for _name in _OURS:
    sys.modules.pop(_name, None)
sys.path[:] = [place for place in sys.path if place != _HERE]
sys.path_importer_cache.pop(_HERE, None)
if _PARTS:
    _PARTS[0].hide(_HERE)
sys.modules.pop("sitecustomize", None)
try:
    import sitecustomize  # the user's own; where there is none, site takes the ImportError as ever
finally:
    if _PARTS:
        _PARTS[0].install(_PARTS[1].TAPS)
