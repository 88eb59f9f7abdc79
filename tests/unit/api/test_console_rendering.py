"""What our pages add to Flower's, and how values are written on them."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from api.console import look
from api.console.login import cookie_key
from api.console.rendering import STATIC_FOLDER, Templates, static
from tasks.run import Ending
from tasks.state import Status


def test_navigation_bar_of_flower_has_our_menu_behind_its_own() -> None:
    bar = Templates().load("navbar.html").code

    assert bar.index("reverse_url('broker')") < bar.index("archive/menu.html") < bar.index("theme-toggle")
    assert bar.index("theme-toggle") < bar.index("archive/who.html")


@pytest.mark.parametrize("name", ["base.html", "tasks.html", "worker.html", "task.html"])
def test_pages_of_flower_are_its_own(name: str) -> None:
    assert Templates().load(name).name == name


def test_file_of_ours_has_the_digest_of_its_content() -> None:
    for file in STATIC_FOLDER.iterdir():
        path, _, digest = static(file.name).partition("?v=")
        assert path == f"/archive/static/{file.name}"
        assert len(digest) == 12


def test_key_of_cookies_is_made_once_and_kept_from_others(tmp_path: Path) -> None:
    key = cookie_key(tmp_path / "home")

    assert len(key) >= 64
    assert cookie_key(tmp_path / "home") == key
    [file] = (tmp_path / "home").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("status", list(Status))
def test_each_status_has_a_name_and_a_badge(status: Status) -> None:
    assert look.STATUSES[status]
    assert look.badge(status)


def test_each_ending_has_a_tone() -> None:
    tones = {ending: look.tone(ending) for ending in Ending}

    assert tones[Ending.COMPLETED] == "archive-good"
    assert tones[Ending.STOPPED] == "archive-doubtful"
    assert {tones[Ending.LOST], tones[Ending.FAILED]} == {"archive-bad"}
    assert look.tone(None) == "archive-open"


def test_numbers_are_read_at_a_glance() -> None:
    assert look.of(1, "task") == "1 task"
    assert look.of(1234567, "task") == "1,234,567 tasks"
