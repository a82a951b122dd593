"""How the informers are put together: of a kind that need not be there, and of health."""

from typing import Any

from controller.api.resources import JOB, VOLUME_SNAPSHOT
from controller.engine.informer import Informer
from controller.observe.informers import build_informers
from tests.support.clock import FakeClock

NO_CLIENT: Any = None


def test_a_kind_that_is_defined_is_not_served_before_its_first_list() -> None:
    """Between the two an API server that has just started answers 404 (D10)."""
    informers = build_informers(
        lambda resource, **options: Informer(resource, NO_CLIENT, **options)
    )
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


def test_health_does_not_depend_on_a_kind_that_a_cluster_need_not_have() -> None:
    """VolumeSnapshots may be refused for good (403, a broken webhook): backups go on."""
    clock = FakeClock()
    informers = build_informers(
        lambda resource, **options: Informer(resource, NO_CLIENT, clock=clock, **options)
    )
    informers.by_resource[VOLUME_SNAPSHOT].admit()
    clock.advance(3600.0)
    for informer in informers.needed:
        for reflector in informer.reflectors:
            reflector._heard()
    assert informers.by_resource[VOLUME_SNAPSHOT].quiet_s() == 3600.0
    assert informers.quiet_s() == 0.0
    clock.advance(60.0)
    for informer in informers.needed:
        for reflector in informer.reflectors if informer.resource != JOB else ():
            reflector._heard()
    assert informers.quiet_s() == 60.0
