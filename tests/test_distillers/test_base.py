"""What every distiller takes and refuses, in words that say where to go on."""

from pathlib import Path

import pytest
from mmengine.logging import MessageHub
from mmseg.registry import MODELS

CLASSES = ('road', 'traffic light', 'sky', 'car', 'tree')
MUTUAL = dict(type='MutualDistiller', distill=[dict(type='PixelwiseKLLoss')])


@pytest.fixture(autouse=True)
def hub():
    """Put the class names of a training set where a Runner does."""
    hub = MessageHub.get_current_instance()
    hub.update_info('dataset_meta', dict(classes=CLASSES))
    yield
    hub.runtime_info.pop('dataset_meta')


def test_names_of_another_spelling_are_the_same_classes(make_distiller, make_batch):
    spelt = ('Road', 'traffic_light', 'SKY', 'car', 'tree')
    make_distiller(classes=spelt).loss(*make_batch())


def test_other_words_for_the_same_classes_can_be_said(make_distiller, make_segmentor, make_batch):
    words = ('street', 'traffic light', 'sky', 'car', 'tree')
    with pytest.raises(
        ValueError, match=r'0: street / road.*other words.*say so: model\.teacher\.classes='
    ):
        make_distiller(classes=words).loss(*make_batch())
    teacher = dict(make_segmentor(depth=34), classes=CLASSES)
    plain = {key: value for key, value in teacher.items() if key != 'classes'}
    distiller = make_distiller(teacher=plain, classes=words)
    distiller.teacher_config['classes'] = CLASSES
    distiller.loss(*make_batch())


def test_the_words_of_a_peer_too(make_segmentor, make_batch, save_teacher):
    path = save_teacher(make_segmentor(), classes=('street', *CLASSES[1:]))
    peer = dict(make_segmentor(), checkpoint=path)

    def train(**given):
        model = MODELS.build(
            dict(MUTUAL, student=make_segmentor(), peers=dict(tutor=dict(peer, **given)))
        )
        model.init_weights()
        return model.loss(*make_batch())

    with pytest.raises(ValueError, match=r'say so: model\.peers\.tutor\.classes='):
        train()
    assert 'tutor.decode.loss_ce' in train(classes=CLASSES)


def test_another_number_of_names_is_no_spelling(make_distiller, make_batch):
    with pytest.raises(ValueError, match=r'but they differ .*: 4 names / 5'):
        make_distiller(classes=CLASSES[:4]).loss(*make_batch())


@pytest.mark.parametrize('kind', ['OfflineDistiller', 'MutualDistiller'])
def test_settings_of_a_network_are_shown_their_place(make_segmentor, kind):
    other = dict(peers=dict(tutor=make_segmentor())) if kind == MUTUAL['type'] else dict(teacher={})
    model = dict(MUTUAL, type=kind, student=make_segmentor(), **other)
    model['test_cfg'] = dict(mode='slide')
    with pytest.raises(
        ValueError,
        match=rf"no `test_cfg` in a {kind}, but got test_cfg={{'mode': 'slide'}}.*"
        r'model\.student\.test_cfg',
    ):
        MODELS.build(model)


@pytest.mark.parametrize('spelt', ['path', 'home'])
def test_checkpoints_by_path_and_from_home(make_distiller, save_teacher, make_segmentor, spelt,
                                           monkeypatch, tmp_path):  # fmt: skip
    monkeypatch.setenv('HOME', str(tmp_path))
    file = Path(save_teacher(make_segmentor(depth=34), name='trained.pth'))
    distiller = make_distiller(checkpoint=file if spelt == 'path' else '~/trained.pth')
    distiller.build_teacher()
    model = dict(MUTUAL, student=make_segmentor())
    peer = make_segmentor(depth=34)
    peer['checkpoint'] = distiller.teacher.checkpoint
    MODELS.build(dict(model, peers=dict(tutor=peer))).init_weights()


def test_configs_by_path_and_from_home(make_distiller, make_segmentor, monkeypatch, tmp_path):
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path / 'mine.py').write_text(f'model = {make_segmentor()!r}\n')
    for config in (tmp_path / 'mine.py', '~/mine.py'):
        assert make_distiller(student=dict(config=config)).backbone.depth == 18
