"""One operation at a time for each volume."""

import pytest

from hack.cluster.csi.busy import Busy
from hack.cluster.csi.refusal import Code, Refusal


def test_a_second_call_on_the_same_volume_is_aborted_and_others_go_on() -> None:
    """ABORTED while the first holds it, free afterwards, also after an error."""
    busy = Busy()
    with busy.hold("volume a"):
        with busy.hold("volume b"):
            pass
        with pytest.raises(Refusal) as caught, busy.hold("volume a"):
            pass
        assert caught.value.code is Code.ABORTED
    with pytest.raises(ValueError, match="boom"), busy.hold("volume a"):
        raise ValueError("boom")
    with busy.hold("volume a"):
        pass
