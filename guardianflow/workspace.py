"""A workspace: the folder that ``guardianflow init`` makes for a user's own work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from guardianflow.core.config import CHECKOUT, CONFIG_FILE, DEFAULT_WORK_DIR, ENV_FILE, find_workspace
from guardianflow.exceptions import InputError
from guardianflow.execution.engine.notebook import list_templates, notebook_folder, template_path

__all__ = ["START", "Workspace", "create_workspace", "open_workspace"]

START = "00_start_here.ipynb"
"""The notebook to begin with."""

_CONFIG = f"""\
# Settings of this workspace. Every folder below it uses them.
# What is set in the environment or in {ENV_FILE} wins over this file; `guardianflow doctor` shows each
# value and where it came from. Relative paths count from the folder of this file.
# Keys and passwords don't belong here: put AWS_ACCESS_KEY_ID and the like into {ENV_FILE}, which git ignores.

# Notebooks, weights and the embedded databases.                  (GUARDIANFLOW_WORK_DIR)
work_dir = "{DEFAULT_WORK_DIR}"

# The folder of your own training and evaluation code.            (GUARDIANFLOW_EXPERIMENTS_BASE)
# experiments_base = "."

# Templates of your own: train.ipynb in this folder is executed   (GUARDIANFLOW_TEMPLATES)
# instead of the one of this version, and so on. What lies in notebooks/ is executed only if you name it here.
# templates = "templates"

# Your own logins (MLFLOW_TRACKING_TOKEN, keys, passwords) go to a server that is named here or in {ENV_FILE} once
# you have agreed to it: `guardianflow doctor --trust`.

# MLflow: left out, an SQLite file in work_dir; else a server.    (MLFLOW_TRACKING_URI)
# mlflow_tracking_uri = "http://mlflow.example:5000"

# Its user; the password or token belongs into {ENV_FILE}:     (MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN)
# mlflow_tracking_username = "site-a"

# Where the server keeps its artifacts, if that is S3.            (MLFLOW_S3_ENDPOINT_URL)
# mlflow_s3_endpoint_url = "http://seaweedfs.example:8333"
# aws_default_region = "us-east-1"

# Registry ledger and metrics: left out, an SQLite file.          (GUARDIANFLOW_DATABASE_URL)
# A URL with a password belongs into {ENV_FILE}.
# database_url = "postgresql://guardianflow@db.example/guardianflow"

# Who is written into the ledger; left out, the login name.       (GUARDIANFLOW_ACTOR)
# actor = "site-a"

# A promotion must show evidence; "off" asks for none.            (GUARDIANFLOW_GATE, and so on)
# gate = "evidence"
# gate_margin = 0.02           # mAP50-95 that a smaller or faster candidate may lose at most
# gate_latency_ratio = 1.5     # median latency that it may have, as a multiple of the champion's
# gate_size_ratio = 3.0        # the same for the size of the file
# gate_latency_ms_p95 = 0      # no champion may be slower, in ms; 0: no limit
# gate_size_mb = 0             # no champion may be larger, in MB; 0: no limit
# gate_override_actors = []    # who may promote against the gate; nobody named: everybody
# language = ""                # of the pages, en or ko; left out, as the browser asks
"""

_GITIGNORE = f"""\
{DEFAULT_WORK_DIR}/
guardianflow-stack/
{ENV_FILE}
.ipynb_checkpoints/
__pycache__/
*.pt
*.onnx
*.engine
.experiments.yaml.lock
.experiments.yaml.seen.json
"""

_SCENARIOS = """\
# Scenarios

One YAML file describes one piece of work. Keep yours here, under version control; results go to the
work folder and to MLflow.

    guardianflow scenario new train > scenarios/train.yaml    # every field with a sentence: change what you need
    guardianflow scenario check scenarios/train.yaml
    guardianflow run scenarios/train.yaml --set run.epochs=30

`guardianflow --help` lists the rest.
"""


@dataclass(frozen=True)
class Workspace:
    """What ``guardianflow init`` or ``guardianflow lab`` did.

    Attributes:
        folder: The workspace.
        created: Files that were written.
        kept: Files that were there already and stay as they are.
    """

    folder: Path
    created: tuple[Path, ...]
    kept: tuple[Path, ...]

    def __iter__(self) -> Iterator[Path]:
        """The files that were written."""
        return iter(self.created)

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return {
            "folder": str(self.folder),
            "created": [str(path) for path in self.created],
            "kept": [str(path) for path in self.kept],
        }


def create_workspace(folder: str | Path) -> Workspace:
    """Make a workspace: settings, scenarios/, the start notebook, notebooks/ with the templates, .gitignore.

    A file that exists is never overwritten, so the call may be repeated, and used to fetch the
    notebooks that a newer version brings.

    Args:
        folder: Made with its parents where it is missing.

    Raises:
        InputError: The folder is a file, or can't be written.
        NotFoundError: The template notebooks are missing from the installation.
    """
    contents = {
        CONFIG_FILE: _CONFIG.encode(),
        ".gitignore": _GITIGNORE.encode(),
        "scenarios/README.md": _SCENARIOS.encode(),
    }
    return _filled(Path(folder), contents | _notebooks())


def open_workspace(folder: str | Path) -> Workspace:
    """The workspace that a folder belongs to, with the notebooks that it lacks; made where there is none.

    A source checkout is not edited by those who use it: there it is the work folder in it, which git ignores.

    Raises:
        InputError, NotFoundError: As :func:`create_workspace`.
    """
    path = Path(folder).expanduser()
    root = find_workspace(path) if path.exists() else None
    if root is None:
        return create_workspace(path)
    return _filled(root / DEFAULT_WORK_DIR if root == CHECKOUT else root, _notebooks())


def _notebooks() -> dict[str, bytes]:
    sources = [template_path(name) for name in list_templates()]
    copies = {f"notebooks/{source.name}": source.read_bytes() for source in sources}
    return {START: (notebook_folder() / START).read_bytes(), **copies}


def _filled(folder: Path, contents: dict[str, bytes]) -> Workspace:
    root = folder.expanduser().absolute()
    created: list[Path] = []
    kept: list[Path] = []
    for name, content in contents.items():
        path = root / name
        (created if _write_new(path, content) else kept).append(path)
    return Workspace(root, tuple(created), tuple(kept))


def _write_new(path: Path, content: bytes) -> bool:
    """Write a file that isn't there yet; ``False`` if there is one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError as error:
        if path.parent.is_dir():
            return False
        raise InputError(f"a workspace needs a folder, but {path.parent} is a file. Choose another name.") from error
    except NotADirectoryError as error:
        raise InputError(f"{path.parent} can't be made: a part of it is a file. Choose another folder.") from error
    except OSError as error:
        raise InputError(
            f"{path} can't be written ({error.strerror}). Choose a folder that you may write, or make room."
        ) from error
    return True
