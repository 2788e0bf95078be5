"""The first thing that a Python of a wrapped script's tree runs: ours steps aside for the user's own of this name.

Any Python may be below a script, so this file is written in what all of them read, Python 2 included.
"""

import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))
_WATCH = None
try:
    if sys.version_info >= (3, 7):
        _WATCH = __import__("_guardianflow_watch")
except Exception:  # the script's start is not ours to break
    _WATCH = None
for _name in ("_guardianflow_watch", "_guardianflow_taps"):
    sys.modules.pop(_name, None)
sys.path[:] = [place for place in sys.path if place != _HERE]
sys.path_importer_cache.pop(_HERE, None)
if _WATCH:
    _WATCH.hide(_HERE)
sys.modules.pop("sitecustomize", None)
try:
    import sitecustomize  # the user's own; where there is none, site takes the ImportError as ever
finally:
    if _WATCH:
        _WATCH.install()
