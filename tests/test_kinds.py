"""One class, however a config spells it."""

import pytest
from mmengine.hooks import EMAHook
from mmseg.evaluation import IoUMetric
from mmseg.registry import HOOKS, METRICS, MODELS

from balkd_seg.distillers import OfflineDistiller
from balkd_seg.distillers.base import Distiller
from balkd_seg.kinds import is_kind, kind_of, name_of

SPELLINGS = [
    'OfflineDistiller',
    'mmseg.OfflineDistiller',
    'balkd_seg.distillers.offline.OfflineDistiller',
    OfflineDistiller,
]


@pytest.mark.parametrize('kind', SPELLINGS)
def test_every_spelling_names_the_same_class(kind):
    assert kind_of(dict(type=kind), MODELS) is OfflineDistiller
    assert is_kind(dict(type=kind), MODELS, Distiller)
    assert not is_kind(dict(type=kind), MODELS, IoUMetric)
    assert name_of(dict(type=kind), MODELS) == 'OfflineDistiller'


def test_parents_and_scopes_are_searched():
    assert kind_of(dict(type='EMAHook'), HOOKS) is EMAHook
    assert kind_of(dict(type='IoUMetric', _scope_='mmseg'), METRICS) is IoUMetric


def test_what_is_built_already_is_of_its_own_class():
    assert kind_of(IoUMetric(), METRICS) is IoUMetric


def test_what_nobody_knows_is_left_for_mmengine_to_refuse():
    assert kind_of(dict(type='NoSuchHook'), HOOKS) is None
    assert not is_kind(dict(type='NoSuchHook'), HOOKS, EMAHook)
    assert name_of(dict(type='NoSuchHook'), HOOKS) == 'NoSuchHook'
    assert kind_of({}, HOOKS) is None
