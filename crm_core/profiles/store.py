"""The profiles in the folder CRM_PROFILE_DIR: one file of TOML each, named by the profile."""

from __future__ import annotations

import re
from pathlib import Path

from crm_core.errors import ProfileRefused, UnknownProfile
from crm_core.profiles.profile import Profile
from crm_core.profiles.toml import read_profile

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
NAMES = "a name has letters, digits, - and _ alone, and at most 63 of them"


def names(folder: Path) -> list[str]:
    """Return the names of the profiles in a folder, sorted; none if it does not exist."""
    if not folder.is_dir():
        return []
    return sorted(path.stem for path in folder.glob("*.toml") if NAME.fullmatch(path.stem) and path.is_file())


def load(folder: Path, name: str) -> Profile:
    """Read a profile; raise UnknownProfile, or ProfileRefused if it says something that cannot be read."""
    path = folder / f"{name}.toml"
    if not NAME.fullmatch(name) or not path.is_file():
        raise UnknownProfile(name, folder, names(folder))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ProfileRefused(str(path), "is not UTF-8; save it as UTF-8") from None
    except OSError as error:
        raise ProfileRefused(str(path), f"cannot be read: {error.strerror}") from error
    return read_profile(name, text, str(path))


def save(folder: Path, name: str, text: str) -> Path:
    """Write a new profile and return its path; raise ProfileRefused if it is not one, or the name is taken."""
    path = folder / f"{name}.toml"
    if not NAME.fullmatch(name):
        raise ProfileRefused(str(path), NAMES)
    read_profile(name, text, str(path))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ProfileRefused(str(path), "exists; choose another name, or edit it") from None
    return path
