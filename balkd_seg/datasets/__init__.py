"""Data sets, their loading steps, and the procedural street scenes."""

from .camvid import CamVidDataset
from .loading import LoadCheckedAnnotations, LoadCheckedImage

__all__ = ['CamVidDataset', 'LoadCheckedAnnotations', 'LoadCheckedImage']
