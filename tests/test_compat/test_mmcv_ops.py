"""mmcv-lite stands in for full mmcv until an op is really used."""

import importlib
import importlib.util
import sys

import pytest

from balkd_seg.compat.mmcv_ops import MMCVOpsPlaceholder, install_mmcv_ops_placeholder

lite = pytest.mark.skipif(
    importlib.util.find_spec('mmcv._ext') is not None, reason='full mmcv has the ops themselves'
)


def test_mmseg_models_import_and_pspnet_builds():
    from mmseg.models import PSPHead

    assert PSPHead.__name__ == 'PSPHead'


@lite
@pytest.mark.parametrize('name', ['point_sample', 'CrissCrossAttention'])
def test_a_used_op_raises_an_error_that_names_it_and_the_remedy(name):
    ops = importlib.import_module('mmcv.ops')
    op = getattr(ops, name)
    assert op is getattr(ops, name)
    with pytest.raises(RuntimeError, match=rf'mmcv\.ops\.{name}.*mmcv-lite.*pip install'):
        op(1, key=2)
    with pytest.raises(RuntimeError, match=name):
        type('Sub', (op,), {})()


@lite
def test_dunder_attributes_are_not_invented():
    ops = importlib.import_module('mmcv.ops')
    with pytest.raises(AttributeError):
        _ = ops.__wrapped__


def test_the_extension_module_itself_is_not_faked():
    finder = MMCVOpsPlaceholder()
    assert finder.find_spec('mmcv._ext', None) is None
    assert finder.find_spec('torch.ops', None) is None


def test_full_mmcv_keeps_its_own_ops(tmp_path):
    (tmp_path / '_ext.py').write_text('')
    finder = MMCVOpsPlaceholder()
    # PathFinder looks for `mmcv._ext` on the package path that it is given
    assert finder.find_spec('mmcv.ops', [str(tmp_path)]) is None
    (tmp_path / '_ext.py').unlink()
    importlib.invalidate_caches()
    assert finder.find_spec('mmcv.ops', [str(tmp_path)]) is not None


def test_installing_twice_leaves_one():
    install_mmcv_ops_placeholder()
    install_mmcv_ops_placeholder()
    assert sum(isinstance(f, MMCVOpsPlaceholder) for f in sys.meta_path) == 1
