"""The cache of binaries: named after everything that decides what is in it."""

from dataclasses import replace

from hack.cluster import tools

MODULES = {"etcd/go.mod": b"module etcd\n", "etcd/go.sum": b"h1\n"}


def test_every_pin_and_every_flag_changes_the_key() -> None:
    """A changed pin or package is another cache folder; the order of files is not."""
    key = tools.cache_key(MODULES)
    assert key == tools.cache_key(dict(reversed(MODULES.items())))
    other_tool = replace(tools.TOOLS[0], package="example.com/other")
    others = {
        tools.cache_key({**MODULES, "etcd/go.sum": b"h2\n"}),
        tools.cache_key({**MODULES, "new/go.mod": b""}),
        tools.cache_key(MODULES, tools.TOOLS[1:]),
        tools.cache_key(MODULES, [other_tool, *tools.TOOLS[1:]]),
    }
    assert key not in others
    assert len(others) == 4


def test_every_tool_is_pinned_by_a_module_of_ours() -> None:
    """Each group has go.mod and go.sum, and go.mod names the package as a tool."""
    assert len({tool.name for tool in tools.TOOLS}) == len(tools.TOOLS)
    for tool in tools.TOOLS:
        folder = tools.SOURCES / tool.group
        assert tool.package in (folder / "go.mod").read_text(), tool.name
        assert (folder / "go.sum").stat().st_size > 0


def test_the_expected_time_is_that_of_what_is_missing() -> None:
    """One small binary does not announce the time of all; every group has a time."""
    assert {tool.group for tool in tools.TOOLS} == set(tools.COLD_S)
    restic = [tool for tool in tools.TOOLS if tool.name == "restic"]
    assert tools.expected_time(restic).startswith("with empty Go caches 1 to 2 min")
    kubectl_too = [*restic, *(tool for tool in tools.TOOLS if tool.group == "kubernetes")]
    assert tools.expected_time(kubectl_too).startswith("with empty Go caches 8 to 15 min")
    assert tools.expected_time(tools.TOOLS).startswith("with empty Go caches 13 to 26 min")
