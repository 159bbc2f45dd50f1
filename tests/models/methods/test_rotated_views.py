"""Which views of an image are drawn by UDML-SS and by the methods that share its views."""

from types import SimpleNamespace

import pytest

from data.sampler import Draw, Pick
from models.methods.rotation import RotationAlone
from models.methods.udml_ss import UDMLSS


def views(rot_bt, method=UDMLSS):
    picks = [Pick(4, 7, 1, True), Pick(5, 8, 2, False)]
    return method.views(SimpleNamespace(metric=method.metric, settings=SimpleNamespace(rot_bt=rot_bt)), picks)


def test_rot_bt_0_rotates_one_crop_and_shares_the_metric_view():
    assert views(rot_bt=False) == [
        Draw(4, 7, 1, metric=True, turn=0, crop=0),
        Draw(5, 8, 2, metric=True, turn=-1, crop=0),
        *[Draw(4, 7, 1, metric=False, turn=turn, crop=0) for turn in (1, 2, 3)],
    ]


def test_rot_bt_1_crops_each_rotation_by_itself():
    assert views(rot_bt=True) == [
        Draw(4, 7, 1, metric=True, turn=-1, crop=0),
        Draw(5, 8, 2, metric=True, turn=-1, crop=0),
        *[Draw(4, 7, 1, metric=False, turn=turn, crop=1 + turn) for turn in (0, 1, 2, 3)],
    ]


@pytest.mark.parametrize("rot_bt", [False, True])
def test_rotation_alone_makes_no_metric_view_and_loads_only_what_is_rotated(rot_bt):
    assert views(rot_bt, RotationAlone) == [
        Draw(4, 7, 1, metric=False, turn=turn, crop=turn if rot_bt else 0) for turn in (0, 1, 2, 3)
    ]
