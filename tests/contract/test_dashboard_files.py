"""What the dashboard is made of: files that need no build, and the chart library as its authors released it."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from services.gateway.pages import CHART_FILES, FOLDER, chart_folder

PAGE = (FOLDER / "index.html").read_text()
SOURCES = sorted(path for path in FOLDER.rglob("*") if path.suffix in {".js", ".css", ".html"})


@pytest.mark.parametrize("address", CHART_FILES)
def test_the_chart_library_is_upstream_s_own_file(address: str):
    """The installed file has the digest that the page insists on, which is that of the release (ADR 008)."""
    content = (chart_folder() / CHART_FILES[address]).read_bytes()
    digest = base64.b64encode(hashlib.sha384(content).digest()).decode()

    assert re.search(rf'"{re.escape(address)}"\s+integrity="sha384-{re.escape(digest)}"', PAGE)


def test_everything_comes_from_here():
    """No file takes anything from another server, and the page has neither scripts nor styles within it."""
    for path in SOURCES:
        assert not re.search(r"""(src|href|url|from|import)\s*[=(]?\s*["']?(https?:)?//""", path.read_text()), path
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+=", PAGE)


def test_every_module_that_is_imported_exists():
    """An import names a file of the folder and something that it exports: nothing is built that would tell earlier."""
    for path in FOLDER.glob("js/*.js"):
        for imported, name in re.findall(r'^import (.+) from "\./([^"]+)";$', path.read_text(), re.MULTILINE):
            exported = set(
                re.findall(
                    r"^export (?:async )?(?:const|function|class) (\w+)", (path.parent / name).read_text(), re.MULTILINE
                )
            )
            wanted = set(re.findall(r"\w+", imported.partition("{")[2]))
            assert wanted <= exported, f"{path.name} wants {wanted - exported} of {name}"


def test_every_element_that_is_asked_for_is_in_the_page():
    """A script asks by id only for elements that the page has."""
    ids = set(re.findall(r'\sid="([\w-]+)"', PAGE))
    asked = {name for path in FOLDER.glob("js/*.js") for name in re.findall(r'byId\("([\w-]+)"\)', path.read_text())}

    assert asked
    assert asked <= ids
