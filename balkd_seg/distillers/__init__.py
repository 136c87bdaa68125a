"""Distillers: models that train a student with the help of other networks."""

from balkd_seg.distillers.mutual import MutualDistiller
from balkd_seg.distillers.offline import OfflineDistiller

__all__ = ['MutualDistiller', 'OfflineDistiller']
