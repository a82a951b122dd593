"""`${variables}` in parsed texts."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.build.template import Template, names_in

VARIABLES = {"NAME": "data", "EMPTY": "", "NESTED": "${NAME}", "ODD": 'a"b\n$(c) $$ ${NAME'}


def expand(text: str) -> str:
    """Return the expansion of a text that has no problem."""
    template = Template("Function f", VARIABLES)
    result = template.text(text, "spec.args[0]")
    assert template.problems == []
    return result


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("${NAME}", "data"),
        ("--a=${NAME}/${NAME}", "--a=data/data"),
        ("${MISSING:=x y}", "x y"),
        ("${MISSING:-x}", "x"),
        ("${MISSING=x}", "x"),
        ("${MISSING:=}", ""),
        ("${MISSING:=a:=b=c}", "a:=b=c"),
        ("${MISSING:=two\nlines}", "two\nlines"),
        ("${NAME:=x}", "data"),
        ("[${EMPTY:=default}]", "[]"),
        ("$NAME $(NAME) $$ $", "$NAME $(NAME) $$ $"),
        ("$${NAME}", "$${NAME}"),
        ("$$${NAME}", "$$data"),
        ("${NESTED}", "${NAME}"),
    ],
)
def test_forms(text: str, wanted: str) -> None:
    """Each form gives what stash.md 3.4 says; what belongs to kubelet or shell is left alone."""
    assert expand(text) == wanted


@pytest.mark.parametrize(
    "text", ["${MISSING}", "${NAME", "${}", "${NAME:?gone}", "${#NAME}", "${A:=${B}}", "${a-b}"]
)
def test_problems_name_object_path_and_fix(text: str) -> None:
    """What cannot be expanded is a problem with the object, the path and a fix."""
    template = Template("Function f", VARIABLES)
    template.text(text, "spec.args[3]")
    (problem,) = template.problems
    assert problem.path == "Function f spec.args[3]"
    assert ":=default}" in problem.message


def test_all_problems_of_a_tree_are_found_with_their_paths() -> None:
    """One pass over an object finds everything that is wrong with it."""
    template = Template("Task t", {})
    template.tree([{"a": {"b": ["${X}", 1, None, True]}}, "${Y}"], "spec.volumes")
    assert [problem.path for problem in template.problems] == [
        "Task t spec.volumes[0].a.b[0]",
        "Task t spec.volumes[1]",
    ]


def test_a_value_stays_one_literal_text() -> None:
    """Quotes, newlines and dollars of a value cannot change the structure around it (D25)."""
    tree = {"args": ["--x=${ODD}", "next"], "n": 3}
    assert Template("t", VARIABLES).tree(tree, "spec") == {
        "args": ["--x=" + VARIABLES["ODD"], "next"],
        "n": 3,
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_without_a_variable_expansion_is_identity(tree: object) -> None:
    """Whatever holds no `${` comes out as it went in."""
    if "${" in json.dumps(tree):
        return
    template = Template("t", VARIABLES)
    assert template.tree(tree, "spec") == tree
    assert template.problems == []


@given(st.text(), st.text(alphabet="ab ,=\"'\n"), st.text(alphabet="ab ,=\"'\n"))
def test_any_value_arrives_unchanged(value: str, before: str, after: str) -> None:
    """A value is put in as it is, whatever it holds and whatever stands around it."""
    template = Template("t", {"X": value})
    assert template.text(f"{before}${{X}}{after}", "p") == before + value + after


@given(st.text(alphabet="${}A:=-?"))
def test_no_text_breaks_the_parser(text: str) -> None:
    """Every text gives a result or a problem, never an exception."""
    template = Template("t", {"A": "1"})
    result = template.text(text, "p")
    assert template.problems or result == text or "${" in text


def test_names_are_found_at_any_depth() -> None:
    """Who asks for a variable is found by its text, with or without a default."""
    tree = {"a": ["${X}", {"b": "${Y:=d} $${Z}"}], "c": 1}
    assert names_in(tree) == {"X", "Y"}
