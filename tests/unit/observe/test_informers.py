"""How the informers are put together: what the caches say of a kind that need not be there."""

from typing import Any

from controller.api.resources import VOLUME_SNAPSHOT, Resource
from controller.engine.informer import Informer
from controller.observe.informers import build_informers
from tests.support.kube import FakeKube


def make(resource: Resource, **options: Any) -> Informer:
    """Return an informer that is never started."""
    client: Any = FakeKube()
    return Informer(resource, client, **options)


def test_a_kind_that_is_defined_is_not_served_before_its_first_list() -> None:
    """Between the two an API server that has just started answers 404 (D10)."""
    informers = build_informers(make)
    snapshots, caches = informers.by_resource[VOLUME_SNAPSHOT], informers.caches

    def says() -> tuple[bool, bool]:
        return caches.snapshots_defined(), caches.snapshots_served()

    assert says() == (False, False)
    snapshots.admit()
    assert says() == (True, False)
    for reflector in snapshots.reflectors:
        reflector.listed.set()
    assert says() == (True, True)
    snapshots.shut()
    assert says() == (False, False)
