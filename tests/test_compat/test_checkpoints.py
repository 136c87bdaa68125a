"""mmengine checkpoints load with `weights_only=True`; anything that runs code does not."""

import os
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from numpy._core import multiarray as _multiarray

from balkd_seg.distillers.checkpoint import (
    checkpoint_classes,
    load_strictly,
    read_checkpoint,
)


class Call:
    """Pickle as a call of `function(*args)`."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.fixture
def save(tmp_path):
    def _save(content, name='checkpoint.pth'):
        path = tmp_path / name
        torch.save(content, path)
        return str(path)

    return _save


def test_a_message_hub_comes_back_with_working_statistics(save):
    hub = MessageHub.get_instance('test_checkpoints')
    for value in (1.0, 2.0, 6.0):
        hub.update_scalar('train/loss', value)
    hub.update_info('iter', 3)
    path = save(dict(message_hub=hub.state_dict(), state_dict=OrderedDict(w=torch.ones(2))))
    loaded = torch.load(path, weights_only=True)['message_hub']
    buffer = loaded['log_scalars']['train/loss']
    assert isinstance(buffer, HistoryBuffer)
    assert buffer.statistics('mean', window_size=3) == 3.0
    assert buffer.statistics('max', 3) == 6.0
    assert loaded['runtime_info']['iter'] == 3


@pytest.mark.parametrize('dtype', ['f8', 'f4', 'i8', 'u1', '?'])
def test_numpy_arrays_and_scalars_load(save, dtype):
    array = np.array([0, 1, 1], dtype=dtype)
    loaded = torch.load(save(dict(array=array, scalar=array[1])), weights_only=True)
    np.testing.assert_array_equal(loaded['array'], array)
    assert loaded['scalar'] == array[1]


@pytest.mark.parametrize(
    'payload',
    [
        lambda flag: Call(os.system, f'touch {flag}'),
        lambda flag: Call(exec, f'open({str(flag)!r}, "w").close()'),
        lambda flag: Call(getattr, dict, 'fromkeys'),
        lambda flag: Call(getattr, HistoryBuffer, '__init__'),
        lambda flag: Call(getattr, HistoryBuffer, '__globals__'),
        lambda flag: Call(getattr, Call(getattr, HistoryBuffer, 'mean'), '__globals__'),
    ],
    ids=['os.system', 'exec', 'getattr class', 'getattr init', 'getattr globals', 'nested'],
)
def test_a_malicious_teacher_is_refused_and_nothing_runs(save, tmp_path, payload):
    flag = tmp_path / 'it_ran'
    path = save(dict(state_dict=dict(weight=payload(flag))))
    with pytest.raises((ValueError, pickle.UnpicklingError)):
        torch.load(path, weights_only=True)
    with pytest.raises(ValueError, match=r'checkpoint\.pth.*Nothing of it was run'):
        read_checkpoint(path, 'teacher')
    assert not flag.exists()


def test_an_array_over_memory_of_its_choice_is_refused(save):
    address = np.array([8], dtype=np.uint64).tobytes()
    path = save(dict(state_dict=Call(np.ndarray, (1,), np.dtype('O'), address)))
    with pytest.raises((ValueError, pickle.UnpicklingError)):
        torch.load(path, weights_only=True)
    with pytest.raises(ValueError, match=r'checkpoint\.pth.*Nothing of it was run'):
        read_checkpoint(path, 'teacher')
    for dtype in ('O', 'V8', 'M8'):
        scalar = Call(_multiarray.scalar, np.dtype(dtype), address)
        with pytest.raises(ValueError, match='Nothing of it was run'):
            read_checkpoint(save(dict(state_dict=scalar)), 'teacher')


def test_a_loaded_array_is_saved_again_as_numpys_own(save):
    loaded = torch.load(save(dict(array=np.arange(3.0))), weights_only=True)['array']
    again = save(dict(array=loaded), name='again.pth')
    assert b'balkd_seg' not in Path(again).read_bytes()
    copy = pickle.loads(pickle.dumps(loaded))
    assert type(copy) is np.ndarray


def test_the_payload_of_that_test_does_run_where_pickle_is_trusted(save, tmp_path):
    flag = tmp_path / 'it_ran'
    path = save(Call(exec, f'open({str(flag)!r}, "w").close()'))
    torch.load(path, weights_only=False)
    assert flag.exists()


class Odd:
    """Pickle with a state that the unpickler chokes on."""

    def __reduce__(self):
        return OrderedDict, (5,)


@pytest.mark.parametrize(
    'content',
    [
        dict(state_dict=Odd()),
        dict(state_dict=[1, 2]),
        {1: torch.ones(1)},
        dict(state_dict=dict(weight=3)),
    ],
    ids=['odd pickle', 'list', 'integer keys', 'no tensors'],
)
def test_a_malformed_state_dict_is_refused_by_name(save, content):
    path = save(content)
    with pytest.raises(ValueError, match=r'checkpoint\.pth'):
        load_strictly(torch.nn.Linear(1, 1), read_checkpoint(path, 'teacher'), path, 'teacher')


@pytest.mark.parametrize(
    ('meta', 'classes'),
    [
        (dict(dataset_meta=dict(classes=('a', 'b'))), ('a', 'b')),
        (dict(CLASSES=['a', 'b'], PALETTE=None), ('a', 'b')),
        (dict(dataset_meta=None), None),
        ([1], None),
        (None, None),
    ],
)
def test_class_names_of_new_and_old_checkpoints(meta, classes):
    assert checkpoint_classes(dict(meta=meta)) == classes


@pytest.mark.parametrize('content', [b'', b'not a checkpoint', b'PK\x03\x04 half a zip'])
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, content):
    path = tmp_path / 'odd.pth'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r'odd\.pth'):
        read_checkpoint(str(path), 'teacher')


def test_a_checkpoint_that_is_no_dict_is_refused(save):
    with pytest.raises(ValueError, match='to be a dict, but got list'):
        read_checkpoint(save([1, 2]), 'teacher')


def test_a_url_is_read_with_weights_only_from_the_hub_cache(save, tmp_path, monkeypatch):
    source = save(dict(state_dict=dict(w=torch.ones(1))))
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    fetched = []

    def download(url, file):
        fetched.append(url)
        os.link(source, file)

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    url = 'https://example.com/models/teacher-12345678.pth?x=1'
    for _ in range(2):
        assert read_checkpoint(url, 'teacher')['state_dict']['w'] == 1
    assert fetched == [url]
    read_checkpoint('https://example.com/other/teacher-12345678.pth', 'teacher')
    assert len(fetched) == 2


def test_an_unreachable_url_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))

    def download(url, file):
        raise OSError('no route to host')

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    with pytest.raises(FileNotFoundError, match=r'no route to host.*Download it by hand'):
        read_checkpoint('https://example.com/teacher.pth', 'teacher')
