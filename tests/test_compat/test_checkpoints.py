"""mmengine checkpoints load; anything that runs code does not, whichever PyTorch reads it."""

import os
import pickle
import tarfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub

from balkd_seg.compat import checkpoints, load_weights
from balkd_seg.distillers.checkpoint import (
    checkpoint_classes,
    load_strictly,
    read_checkpoint,
)

# what numpy pickles arrays and scalars with: private, under the name that this version has
_reconstruct = np.zeros(1).__reduce__()[0]
_scalar = np.float64(1).__reduce__()[0]


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


def stock_load(path):
    return torch.load(path, map_location='cpu', weights_only=True)


def restricted_load(path):
    return checkpoints._load_restricted(path, map_location='cpu')


@pytest.fixture(params=['torch.load', 'restricted', 'load_weights'])
def load(request):
    """Return each way to load: PyTorch's own from 2.6 on, ours before (here on every PyTorch)."""
    if request.param == 'torch.load' and not checkpoints.LISTS_NAMES:
        pytest.skip('the list of this PyTorch takes no names (2.6 does)')
    loads = {'torch.load': stock_load, 'restricted': restricted_load, 'load_weights': load_weights}
    return loads[request.param]


def test_a_message_hub_comes_back_with_working_statistics(save, load):
    hub = MessageHub.get_instance('test_checkpoints')
    for value in (1.0, 2.0, 6.0):
        hub.update_scalar('train/loss', value)
    hub.update_info('iter', 3)
    path = save(dict(message_hub=hub.state_dict(), state_dict=OrderedDict(w=torch.ones(2))))
    loaded = load(path)['message_hub']
    buffer = loaded['log_scalars']['train/loss']
    assert isinstance(buffer, HistoryBuffer)
    assert buffer.statistics('mean', window_size=3) == 3.0
    assert buffer.statistics('max', 3) == 6.0
    assert loaded['runtime_info']['iter'] == 3


@pytest.mark.parametrize('dtype', ['f8', 'f4', 'i8', 'u1', '?'])
def test_numpy_arrays_and_scalars_load(save, load, dtype):
    array = np.array([0, 1, 1], dtype=dtype)
    loaded = load(save(dict(array=array, scalar=array[1])))
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
def test_a_malicious_teacher_is_refused_and_nothing_runs(save, load, tmp_path, payload):
    flag = tmp_path / 'it_ran'
    path = save(dict(state_dict=dict(weight=payload(flag))))
    with pytest.raises((ValueError, pickle.UnpicklingError)):
        load(path)
    with pytest.raises(ValueError, match=r'checkpoint\.pth.*Nothing of it was run'):
        read_checkpoint(path, 'teacher')
    assert not flag.exists()


def test_an_array_over_memory_of_its_choice_is_refused(save, load):
    address = np.array([8], dtype=np.uint64).tobytes()
    path = save(dict(state_dict=Call(np.ndarray, (1,), np.dtype('O'), address)))
    with pytest.raises((ValueError, pickle.UnpicklingError)):
        load(path)
    with pytest.raises(ValueError, match=r'checkpoint\.pth.*Nothing of it was run'):
        read_checkpoint(path, 'teacher')
    for dtype in ('O', 'V8', 'M8'):
        path = save(dict(state_dict=Call(_scalar, np.dtype(dtype), address)))
        with pytest.raises((ValueError, pickle.UnpicklingError)):
            load(path)
        with pytest.raises(ValueError, match='Nothing of it was run'):
            read_checkpoint(path, 'teacher')
    path = save(Call(_reconstruct, np.ndarray, (9,), b'O'))
    with pytest.raises((ValueError, pickle.UnpicklingError)):
        load(path)


def test_a_loaded_array_is_saved_again_as_numpys_own(save, load):
    loaded = load(save(dict(array=np.arange(3.0))))['array']
    again = save(dict(array=loaded), name='again.pth')
    assert b'balkd_seg' not in Path(again).read_bytes()
    copy = pickle.loads(pickle.dumps(loaded))
    assert type(copy) is np.ndarray


def test_the_payload_of_that_test_does_run_where_pickle_is_trusted(save, tmp_path):
    flag = tmp_path / 'it_ran'
    path = save(Call(exec, f'open({str(flag)!r}, "w").close()'))
    torch.load(path, weights_only=False)
    assert flag.exists()


def test_the_format_before_1_6_loads_and_is_refused_alike(tmp_path, load):
    path = str(tmp_path / 'old.pth')
    weights = dict(state_dict=dict(w=torch.arange(3.0)), meta=dict(iter=3))
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    assert torch.equal(load(path)['state_dict']['w'], weights['state_dict']['w'])
    flag = tmp_path / 'it_ran'
    torch.save(Call(os.system, f'touch {flag}'), path, _use_new_zipfile_serialization=False)
    with pytest.raises((ValueError, pickle.UnpicklingError)):
        load(path)
    assert not flag.exists()


def test_parameters_views_and_other_values_of_pytorch_load(save, load):
    base = torch.arange(12.0).reshape(3, 4)
    content = OrderedDict(
        parameter=torch.nn.Parameter(base.clone()),
        view=base[1:, ::2],
        dtype=torch.bfloat16,
        size=base.shape,
        half=base.half(),
        nested=[(1, 2.5, None, True, 'text', 2**40)],
    )
    content._metadata = {'': {'version': 2}}
    loaded = load(save(content))
    assert loaded._metadata == content._metadata
    assert isinstance(loaded['parameter'], torch.nn.Parameter)
    assert all(torch.equal(loaded[k], content[k]) for k in ('parameter', 'view', 'half'))
    assert all(loaded[k] == content[k] for k in ('dtype', 'size', 'nested'))


HISTORY = b'cmmengine.logging.history_buffer\nHistoryBuffer\n'
MEAN = b'cbuiltins\ngetattr\n' + HISTORY + b'U\x04mean\x86R'
RAW = {
    'the name of Python 2': b'c__builtin__\neval\nU\x031+1\x85R',
    'a name from the stack': b'\x8c\x05posix\x8c\x06system\x93U\x04true\x85R',
    'INST': b"(S'true'\nios\nsystem\n",
    'OBJ': b'(cos\nsystem\nU\x04true' + b'o',
    'EXT1': b'\x82\x01',
    'PERSID': b'Pmodule\n',
    'another persistent id': b'U\x06module\x85Q',
    'a call of what it loaded': b'cbuiltins\nlist\n)R',
    'a call of a method': MEAN + b')R',
    'a number called': b'K\x01)R',
    'attributes of a class': HISTORY + b'N}U\x04mean' + b'K\x01s\x86b',
    'attributes of a function': b'ctorch._utils\n_rebuild_tensor_v2\n}U\x01xK\x01sb',
    'slots of an object': b'ccollections\nOrderedDict\n)RN}U\x03popK\x01s\x86b',
    'items of an object': HISTORY + b')\x81K\x01K\x02s',
    'appended to an object': HISTORY + b')\x81K\x01a',
    'an array made anew': b'cnumpy\nndarray\n)\x81',
    'a module of codecs': b'c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R',
}


def write_raw(path, raw):
    """Write instructions by hand, which `torch.save` never writes."""
    data = b'\x80\x02' + raw + b'.'
    writer = torch._C.PyTorchFileWriter(str(path))
    for name, content in (('data.pkl', data), ('byteorder', b'little')):
        writer.write_record(name, content, len(content))
    writer.write_end_of_file()
    return str(path)


@pytest.mark.parametrize('raw', RAW.values(), ids=RAW)
def test_instructions_that_no_checkpoint_has_are_refused(tmp_path, raw):
    path = write_raw(tmp_path / 'raw.pth', raw)
    mean = vars(HistoryBuffer)['mean']
    with pytest.raises((ValueError, pickle.UnpicklingError)):
        restricted_load(path)
    assert vars(HistoryBuffer)['mean'] is mean


def test_an_array_is_filled_once(tmp_path, load):
    """Numpy frees what it held before, over which a tensor may lie."""
    array = pickle.dumps(np.ones(2, 'f4'), protocol=2)[2:-1]
    over = b'ctorch\nTensor\nh\x09\x85R\x86'  # a tensor over what numpy has at 9 in its memo
    assert load(write_raw(tmp_path / 'once.pth', array + over))[1].tolist() == [1.0, 1.0]
    path = write_raw(tmp_path / 'twice.pth', array + b'h\x14b')  # and the state at 20
    with pytest.raises((ValueError, pickle.UnpicklingError), match='filled in twice'):
        load(path)


def test_a_file_puts_no_function_in_the_place_of_a_method(tmp_path):
    """Items go in by what the type does with them, also where it only counts."""
    update = b'}U\x06update' + HISTORY + b'sb'
    raw = b'ccollections\nOrderedDict\n)R' + update + b'(U\x01aK\x01u'
    assert restricted_load(write_raw(tmp_path / 'shadow.pth', raw)) == {'a': 1}
    raw = b'ccollections\nCounter\n)R(U\x01aK\x02u'
    assert restricted_load(write_raw(tmp_path / 'counter.pth', raw)) == {'a': 2}


def test_sparse_tensors_load_and_their_old_constructors_are_refused(save, tmp_path):
    """Those take an index beyond the size, which whoever makes it dense then writes to."""
    sparse = torch.eye(2).to_sparse()
    assert torch.equal(restricted_load(save(sparse)).to_dense(), torch.eye(2))
    path = write_raw(tmp_path / 'sparse.pth', b'ctorch.sparse\nFloatTensor\n)R')
    with pytest.raises(pickle.UnpicklingError, match=r'torch\.sparse\.FloatTensor'):
        restricted_load(path)


def test_a_tensor_longer_than_its_bytes_is_refused(tmp_path):
    """PyTorch 2.1 reads past the end of the record, also with `weights_only=True`."""
    path = str(tmp_path / 'long.pth')
    torch.save(torch.ones(4), path)
    reader = torch._C.PyTorchFileReader(path)
    short = reader.get_record('data.pkl')
    data = short.replace(b'K\x04tq', b'M\x00\x10tq').replace(b'K\x04\x85q', b'M\x00\x10\x85q')
    assert len(data) == len(short) + 2
    values = reader.get_record('data/0')
    writer = torch._C.PyTorchFileWriter(path)
    for name, content in (('data.pkl', data), ('data/0', values), ('byteorder', b'little')):
        writer.write_record(name, content, len(content))
    writer.write_end_of_file()
    with pytest.raises(pickle.UnpicklingError, match="gives the storage '0' a wrong size"):
        restricted_load(path)


def test_files_for_other_loaders_are_refused(tmp_path):
    path = str(tmp_path / 'other.pth')
    torch.jit.save(torch.jit.trace(torch.nn.Linear(1, 1), torch.ones(1)), path)
    with pytest.raises(ValueError, match='TorchScript'):
        restricted_load(path)
    with tarfile.open(path, 'w') as archive:
        archive.add(__file__, 'pickle')
    with pytest.raises(ValueError, match='tar archive'):
        restricted_load(path)


def test_the_way_of_this_pytorch_is_taken(save, monkeypatch):
    """`load_weights`, which all of ours load by, asks for no trust on any PyTorch."""
    asked = {}
    monkeypatch.setattr(torch, 'load', lambda file, **settings: asked.update(settings))
    path = save({})
    monkeypatch.setattr(checkpoints, 'LISTS_NAMES', True)
    monkeypatch.setattr(torch.serialization, 'add_safe_globals', lambda names: None, raising=False)
    load_weights(path, map_location='cpu')
    assert asked['weights_only'] is True
    monkeypatch.setattr(checkpoints, 'LISTS_NAMES', False)
    load_weights(path, map_location='cpu')
    assert asked['weights_only'] is False
    assert asked['pickle_module'].__name__ == 'restricted_pickle'


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
