"""Checks of a call's arguments: sizes, parameters, pages."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hack.cluster.csi import arguments
from hack.cluster.csi.arguments import MIB
from hack.cluster.csi.refusal import Code, Refusal

SIZES = st.sampled_from([0, 1, MIB, MIB + 1, 1 << 30, 3 << 30, 1 << 40]) | st.integers(0, 1 << 41)


@dataclass(frozen=True)
class Item:
    """Anything with an id."""

    id: str


@given(SIZES, SIZES, SIZES, st.integers(1 << 30, 1 << 40))
def test_a_chosen_size_keeps_every_bound(required: int, limit: int, source: int, pool: int) -> None:
    """A size is at least required, source and minimum, at most limit and pool; else a refusal."""
    least = max(required, source, arguments.MINIMUM_BYTES)
    shrinks = 0 < required < source
    if shrinks or (limit and least > limit) or least > pool:
        with pytest.raises(Refusal):
            arguments.capacity_bytes(
                required_bytes=required, limit_bytes=limit, source_bytes=source, pool_bytes=pool
            )
        return
    chosen = arguments.capacity_bytes(
        required_bytes=required, limit_bytes=limit, source_bytes=source, pool_bytes=pool
    )
    assert least <= chosen <= pool
    assert arguments.in_range(chosen, required_bytes=required, limit_bytes=limit)


@pytest.mark.parametrize(
    ("required", "limit", "source", "code", "message"),
    [
        (-1, 0, 0, Code.OUT_OF_RANGE, "negative"),
        (2 * MIB, MIB, 0, Code.OUT_OF_RANGE, "exceed the limit"),
        (0, MIB - 1, 0, Code.OUT_OF_RANGE, "is below the 1048576"),
        (MIB, 0, 2 * MIB, Code.OUT_OF_RANGE, "the source has 2097152: request at least that"),
        (0, MIB, 2 * MIB, Code.OUT_OF_RANGE, "limit of 1048576 bytes is below"),
        (2 << 30, 0, 0, Code.RESOURCE_EXHAUSTED, "the whole pool has 1073741824"),
    ],
)
def test_an_impossible_size_says_why(
    required: int, limit: int, source: int, code: Code, message: str
) -> None:
    """Each reason has CSI's code and both numbers."""
    with pytest.raises(Refusal, match=message) as caught:
        arguments.capacity_bytes(
            required_bytes=required, limit_bytes=limit, source_bytes=source, pool_bytes=1 << 30
        )
    assert caught.value.code is code


def test_a_restore_without_a_size_gets_the_sources() -> None:
    """A volume from a snapshot is as large as the snapshot says when nothing is requested."""
    size = arguments.capacity_bytes(
        required_bytes=0, limit_bytes=0, source_bytes=5 * MIB, pool_bytes=1 << 30
    )
    assert size == 5 * MIB


def test_parameters_of_the_sidecars_are_known_and_others_are_not() -> None:
    """A parameter that would be ignored is refused by name."""
    arguments.known_parameters({"csi.storage.k8s.io/pvc/name": "data"})
    with pytest.raises(Refusal, match="parameters: flavour: not known"):
        arguments.known_parameters({"flavour": "mint"})


@given(st.sets(st.text("abc", min_size=1)), st.integers(1, 4), st.data())
def test_pages_show_each_record_once_even_when_some_are_deleted(
    ids: set[str], size: int, data: st.DataObject
) -> None:
    """Following the tokens shows all that stays, once each, whatever is deleted in between."""
    left, seen, token = sorted(ids), [], ""
    deleted: set[str] = set()
    while True:
        items = [Item(each) for each in left if each not in deleted]
        shown, token = arguments.page(items, max_entries=size, starting_token=token)
        seen += [item.id for item in shown]
        if not token:
            break
        deleted |= data.draw(st.sets(st.sampled_from(left)))
    assert len(seen) == len(set(seen))
    assert set(left) - deleted <= set(seen) <= set(left)


@pytest.mark.parametrize(
    ("size", "token", "code"), [(0, "7", Code.ABORTED), (-1, "", Code.INVALID_ARGUMENT)]
)
def test_a_page_that_cannot_be_is_refused(size: int, token: str, code: Code) -> None:
    """A foreign token is ABORTED, which tells a client to begin again; a negative size is wrong."""
    with pytest.raises(Refusal) as caught:
        arguments.page([Item("a")], max_entries=size, starting_token=token)
    assert caught.value.code is code
