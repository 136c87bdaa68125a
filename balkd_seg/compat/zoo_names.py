"""`mmseg::` in configs where mmseg came under another name, as from the fork of onedl."""

from importlib import metadata


def find_the_zoo() -> None:
    """Let mmengine look for mmseg by its module, if there is no distribution `mmsegmentation`."""
    from mmengine.config.utils import MODULE2PACKAGE

    try:
        metadata.distribution(MODULE2PACKAGE['mmseg'])
    except metadata.PackageNotFoundError:
        MODULE2PACKAGE['mmseg'] = 'mmseg'
