"""The frame that all pages share: one policy, values escaped, nothing half written."""

import json

import jinja2
import pytest

from popcat.errors import PopcatError
from popcat.pages import template
from popcat.pages.template import as_json, content_policy, write_page


def minimal(**changed):
    values = {"kind": "cross-check", "title": "A <b>title</b>", "sections": [], "provenance": [("a", "<i>")],
              "details": []}  # fmt: skip
    return values | changed


def test_values_are_escaped_and_the_policy_lets_nothing_in(tmp_path):
    page = write_page("base.html.j2", tmp_path / "new" / "page.html", **minimal()).read_text(encoding="utf-8")
    assert "A &lt;b&gt;title&lt;/b&gt;" in page and "<code>&lt;i&gt;</code>" in page
    assert f'content="{content_policy()}"' in page and "script-src" not in page and "<script" not in page
    assert page.index("Content-Security-Policy") < page.index("<style>")


def test_only_scripts_whose_hashes_are_in_the_policy_can_run(tmp_path):
    page = write_page("base.html.j2", tmp_path / "page.html", scripts=["svg.js"], **minimal()).read_text("utf-8")
    script = page[page.index("<script>") + len("<script>"):page.index("</script>")]
    assert f'content="{content_policy([script])}"' in page
    assert "unsafe" not in content_policy([script]).split("script-src")[1]


def test_a_value_that_is_missing_leaves_no_page(tmp_path):
    values = minimal()
    del values["title"]
    with pytest.raises(jinja2.UndefinedError):
        write_page("base.html.j2", tmp_path / "page.html", **values)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PopcatError, match="cannot make the folder"):
        write_page("base.html.j2", tmp_path / "file" / "page.html", **minimal())


def test_embedded_json_cannot_end_its_script():
    assert "</script>" not in as_json({"id": "</script><b>"})
    assert json.loads(as_json({"id": "</script>"})) == {"id": "</script>"}


def test_every_template_is_of_the_shared_frame():
    names = [name for name in template._environment().list_templates() if name.endswith(".j2")]
    assert {"report.html.j2", "population.html.j2", "crosscheck.html.j2"} <= set(names)
    for name in set(names) - {"base.html.j2", "macros.html.j2"}:
        source = template._resource(name)
        assert source.startswith('{% extends "base.html.j2" %}') and "<style" not in source and "safe" not in source
