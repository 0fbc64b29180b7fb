"""Packages that users bring: where they are looked for, and what is said where they are not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from refusals import refused

from genkt.data.packages.package import Package, digest_of

PACKAGE = Package(
    name="some-pictures",
    registry="deb",
    version="1.2",
    megabytes=7,
    licence="GPL-2",
    inside="usr/share/some/pictures",
    contents=("cats", "list.txt"),
    sha256="",
    suffixes=(".png",),
    without="drawn",
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that packages are unpacked in, with the files of this one."""
    monkeypatch.setenv("GENKT_PACKAGES", str(tmp_path / "packages"))
    write(tmp_path / "packages" / PACKAGE.inside)
    return tmp_path / "packages"


def write(root: Path, content: bytes = b"a cat") -> Package:
    for name in ("cats/a.png", "cats/b/c.png", "cats/b/drawn/d.png", "cats/e.ogg", "list.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content + name.encode())
    return replace(PACKAGE, sha256=digest_of(root, PACKAGE.files_in(root)))


def test_only_the_files_that_are_read_count(home: Path) -> None:
    root = home / PACKAGE.inside
    assert PACKAGE.files_in(root) == ["cats/a.png", "cats/b/c.png", "list.txt"]
    before = write(root).sha256
    (root / "cats" / "e.ogg").write_bytes(b"another sound")
    assert digest_of(root, PACKAGE.files_in(root)) == before
    (root / "cats" / "a.png").write_bytes(b"another cat")
    assert digest_of(root, PACKAGE.files_in(root)) != before


def test_a_digest_is_what_sha256sum_prints(home: Path) -> None:
    root = home / PACKAGE.inside
    each = {name: hashlib.sha256((root / name).read_bytes()).hexdigest() for name in ("list.txt",)}
    assert digest_of(root, ["list.txt"]) == each["list.txt"]
    names = ["list.txt", "cats/a.png"]
    lines = [
        f"{hashlib.sha256((root / name).read_bytes()).hexdigest()}  {name}\n"
        for name in sorted(names)
    ]
    assert digest_of(root, names) == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_it_is_found_where_it_was_unpacked_or_given(home: Path, tmp_path: Path) -> None:
    package = write(home / PACKAGE.inside)
    assert package.find() == home / PACKAGE.inside
    for given in (home, home / PACKAGE.inside):
        assert package.find(given) == home / PACKAGE.inside
    write(tmp_path / "mine")
    assert package.find(tmp_path / "mine") == tmp_path / "mine"


def test_the_cache_and_the_folder_of_python_are_looked_at_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GENKT_PACKAGES", raising=False)
    monkeypatch.setenv("GENKT_CACHE", str(tmp_path / "cache"))
    package = write(tmp_path / "cache" / "packages" / PACKAGE.inside)
    assert package.find() == tmp_path / "cache" / "packages" / PACKAGE.inside
    wheel = replace(PACKAGE, registry="wheel", inside="a_wheel_of_tests/models")
    root = tmp_path / "site"
    wheel = replace(wheel, sha256=write(root / wheel.inside).sha256)
    (root / "a_wheel_of_tests" / "__init__.py").write_text("raise SystemExit('it was run')")
    with refused("some-pictures"):
        wheel.find()
    monkeypatch.syspath_prepend(root)
    assert wheel.find() == root / wheel.inside


def test_a_missing_package_is_told_with_its_command_size_and_licence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENKT_PACKAGES", str(tmp_path / "not here"))
    with refused("some-pictures", "7 MB", "GPL-2", key="data.root") as caught:
        PACKAGE.find()
    text = str(caught.value)
    assert "\n" not in text and f"dpkg-deb -x some-pictures_*.deb '{tmp_path}/not here'" in text
    wheel = replace(PACKAGE, registry="wheel", inside="no_such_wheel/models")
    with refused("pip install --no-deps some-pictures==1.2"):
        wheel.find()


def test_a_folder_that_is_no_such_package_is_told(home: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with refused(tmp_path / "other", "cats", "list.txt", key="data.root"):
        PACKAGE.find(tmp_path / "other")
    with refused("no such folder", tmp_path / "nowhere"):
        PACKAGE.find(tmp_path / "nowhere")


def test_other_files_than_the_pinned_ones_are_refused(home: Path) -> None:
    package = write(home / PACKAGE.inside)
    found = write(home / PACKAGE.inside, b"a newer cat").sha256
    with refused("1.2", package.sha256[:12], found[:12], home / PACKAGE.inside) as caught:
        package.find()
    assert "\n" not in str(caught.value)
