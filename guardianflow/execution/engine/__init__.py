"""papermill under our engine: kernels, cells, pages."""

import sys

# nbformat's jsonschema spends 2 s on grammars of international addresses, where JupyterLab is installed; its own way
# without them is a package that can't be imported.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
