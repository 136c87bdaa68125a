"""Procedural street scenes with the 19 train classes of Cityscapes, drawn with OpenCV."""

from .scene import draw_scene

__all__ = ['draw_scene']
