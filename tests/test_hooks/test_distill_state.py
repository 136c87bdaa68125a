"""Projections and the random state travel beside the student."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.optim import OptimWrapper
from mmengine.runner import IterBasedTrainLoop

from balkd_seg.distillers import base
from balkd_seg.hooks import DistillStateHook, distill_state

PROJECTED = dict(
    type='ChannelwiseKLLoss',
    student_tap='backbone.layer4',
    teacher_tap='backbone.layer4',
    projection=dict(in_channels=64, out_channels=64),
    resize='student',
)


def runner_of(model, resume=True):
    return SimpleNamespace(model=model, _resume=resume)


def test_projections_are_saved_and_restored(make_distiller):
    source, target = (make_distiller(distill=[PROJECTED], seed=seed) for seed in (0, 1))
    checkpoint = {}
    DistillStateHook().before_save_checkpoint(runner_of(source), checkpoint)
    assert sorted(checkpoint['distill_state']) == [
        'loss_cwd.projection.bias',
        'loss_cwd.projection.weight',
    ]
    before = target.distill_terms[0].projection.weight.clone()
    DistillStateHook().after_load_checkpoint(runner_of(target), checkpoint)
    after = target.distill_terms[0].projection.weight
    assert not torch.equal(after, before)
    assert torch.equal(after, source.distill_terms[0].projection.weight)


def test_a_checkpoint_without_projections_starts_them_anew_and_says_so(make_distiller, monkeypatch):
    said = []
    monkeypatch.setattr(distill_state, 'print_log', lambda text, **_: said.append(text))
    distiller = make_distiller(distill=[PROJECTED])
    before = distiller.distill_terms[0].projection.weight.clone()
    DistillStateHook().after_load_checkpoint(runner_of(distiller), {})
    assert torch.equal(distiller.distill_terms[0].projection.weight, before)
    assert 'no distillation projections' in said[0]


def test_projections_of_other_shape_are_refused(make_distiller):
    distiller = make_distiller(distill=[PROJECTED])
    state = {'loss_cwd.projection.weight': torch.zeros(1)}
    checkpoint = dict(distill_state=state)
    with pytest.raises(
        ValueError, match=r'loss_cwd\.projection\.weight.*Resume with the `distill`'
    ):
        DistillStateHook().after_load_checkpoint(runner_of(distiller), checkpoint)
    # testing or starting from the student does not depend on them
    DistillStateHook().after_load_checkpoint(runner_of(distiller, resume=False), checkpoint)


def test_order_of_the_entries_does_not_matter(make_distiller):
    kd = dict(type='PixelwiseKLLoss')
    source, target = (
        make_distiller(distill=entries, seed=seed)
        for seed, entries in enumerate(([kd, PROJECTED], [PROJECTED, kd]))
    )
    checkpoint = {}
    DistillStateHook().before_save_checkpoint(runner_of(source), checkpoint)
    DistillStateHook().after_load_checkpoint(runner_of(target), checkpoint)
    weights = (source.distill_terms[1].projection.weight, target.distill_terms[0].projection.weight)
    assert torch.equal(*weights)


def test_training_projections_without_the_hook_warns(make_distiller, make_batch, monkeypatch):
    said = []
    monkeypatch.setattr(base, 'print_log', lambda text, **_: said.append(text))
    distiller = make_distiller(distill=[PROJECTED])
    distiller.loss(*make_batch())
    assert any("Add dict(type='DistillStateHook')" in text for text in said)
    said.clear()
    distiller = make_distiller(distill=[PROJECTED])
    DistillStateHook().before_train(runner_of(distiller))
    distiller.loss(*make_batch())
    assert not any('DistillStateHook' in text for text in said)


def test_validation_leaves_no_trace_in_the_random_state():
    hook, runner = DistillStateHook(), runner_of(torch.nn.Linear(1, 1))
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    hook.before_val(runner)
    torch.rand(7)
    hook.after_val(runner)
    assert torch.equal(torch.rand(3), expected)


def test_no_projection_and_no_distiller_add_nothing_but_the_random_state(make_distiller):
    for model in (make_distiller(), torch.nn.Linear(1, 1)):
        checkpoint = {}
        DistillStateHook().before_save_checkpoint(runner_of(model), checkpoint)
        assert set(checkpoint) == {'random_state'}


def test_random_state_goes_on_where_it_was_saved():
    model, checkpoint = torch.nn.Linear(1, 1), {}
    torch.manual_seed(5)
    DistillStateHook().before_save_checkpoint(runner_of(model), checkpoint)
    expected = torch.rand(3)
    hook = DistillStateHook()
    hook.after_load_checkpoint(runner_of(model), checkpoint)
    torch.manual_seed(6)
    hook.before_train_iter(runner_of(model), 0)
    assert torch.equal(torch.rand(3), expected)
    hook.before_train_iter(runner_of(model), 1)
    assert not torch.equal(torch.rand(3), expected)


def test_loading_without_resuming_leaves_the_random_state_alone():
    model, checkpoint = torch.nn.Linear(1, 1), {}
    DistillStateHook().before_save_checkpoint(runner_of(model), checkpoint)
    hook = DistillStateHook()
    hook.after_load_checkpoint(runner_of(model, resume=False), checkpoint)
    torch.manual_seed(6)
    expected = torch.rand(3)
    torch.manual_seed(6)
    hook.before_train_iter(runner_of(model), 0)
    assert torch.equal(torch.rand(3), expected)


@pytest.fixture
def make_mutual(make_segmentor):
    def make(seed=0, peers=('teacher',)):
        from mmseg.registry import MODELS

        torch.manual_seed(seed)
        distill = [dict(type='PixelwiseKLLoss', source=peers[0])]
        networks = {name: make_segmentor() for name in peers}
        return MODELS.build(
            dict(type='MutualDistiller', student=make_segmentor(), peers=networks, distill=distill)
        )

    return make


def loop_of(model, resume, training):
    loop = object.__new__(IterBasedTrainLoop) if training else None
    return SimpleNamespace(
        model=model, _resume=resume, _train_loop=loop, _load_from='stored.pth', hooks=[]
    )


@pytest.mark.parametrize(('resume', 'training'), [(True, True), (False, False)])
def test_peers_are_saved_and_restored_to_resume_and_to_test(make_mutual, resume, training):
    source, target = make_mutual(0), make_mutual(1)
    checkpoint = {}
    DistillStateHook().before_save_checkpoint(runner_of(source), checkpoint)
    assert list(checkpoint['peers']) == ['teacher']
    assert not target.peers.is_trained
    DistillStateHook().after_load_checkpoint(loop_of(target, resume, training), checkpoint)
    assert target.peers.is_trained
    expected = source.peers['teacher'].state_dict()
    got = target.peers['teacher'].state_dict()
    assert all(torch.equal(got[key], value) for key, value in expected.items())


def test_starting_from_a_student_leaves_peers_alone(make_mutual):
    source, target = make_mutual(0), make_mutual(1)
    before = target.peers['teacher'].backbone.stem[0].weight.clone()
    checkpoint = dict(peers=source.peers.beside_state_dict())
    DistillStateHook().after_load_checkpoint(loop_of(target, False, True), checkpoint)
    assert torch.equal(target.peers['teacher'].backbone.stem[0].weight, before)


def test_a_students_checkpoint_cannot_be_resumed_but_tested(make_mutual, monkeypatch):
    said = []
    monkeypatch.setattr(distill_state, 'print_log', lambda text, **_: said.append(text))
    model = make_mutual()
    DistillStateHook().after_load_checkpoint(loop_of(model, False, False), {})
    assert 'holds the student alone, not teacher' in said[0]
    assert not model.peers.is_trained
    with pytest.raises(ValueError, match='to hold the peers of a MutualDistiller'):
        DistillStateHook().after_load_checkpoint(loop_of(model, True, True), {})


def test_peers_of_another_config_are_refused_and_nothing_changes(make_mutual):
    model = make_mutual()
    before = model.peers['teacher'].backbone.stem[0].weight.clone()
    other = dict(peers=make_mutual(1, peers=('teacher', 'third')).peers.beside_state_dict())
    with pytest.raises(ValueError, match=r"peers \['teacher'\] .* got \['teacher', 'third'\]"):
        DistillStateHook().after_load_checkpoint(loop_of(model, True, True), other)
    del other['peers']['third']
    del other['peers']['teacher']['backbone.stem.0.weight']
    with pytest.raises(ValueError, match=r'`stored\.pth` to fit the teacher exactly'):
        DistillStateHook().after_load_checkpoint(loop_of(model, True, True), other)
    assert torch.equal(model.peers['teacher'].backbone.stem[0].weight, before)


def test_nothing_is_loaded_if_one_of_several_peers_does_not_fit(make_mutual):
    names = ('teacher', 'third')
    state = make_mutual(1, peers=names).peers.beside_state_dict()
    del state['third']['backbone.stem.0.weight']
    peers = make_mutual(peers=names).peers
    before = peers['teacher'].backbone.stem[0].weight.clone()
    with pytest.raises(ValueError, match='to fit the third exactly'):
        peers.load_beside_state_dict(state, 'stored.pth')
    assert torch.equal(peers['teacher'].backbone.stem[0].weight, before)


def averaging(model, **settings):
    """Return a runner with an EMAHook that has copied the model, as before training."""
    runner = loop_of(model, True, True)
    hook = EMAHook(**settings)
    hook.before_run(runner)
    runner.hooks = [hook]
    return runner


def same(peers, other):
    pairs = zip(peers.parameters(), other.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_peers_are_averaged_stored_and_restored_with_an_ema_hook(make_mutual):
    runner = averaging(make_mutual(0), momentum=0.5)
    ema, now = runner.hooks[0].ema_model, runner.model.peers
    runner.model.init_weights()
    DistillStateHook().before_val(runner)
    assert same(ema.module.peers, now)  # no average yet
    runner.hooks[0].ema_model.update_parameters(runner.model)
    for parameter in now.parameters():
        parameter.data.add_(1.0)
    ema.update_parameters(runner.model)
    assert not same(ema.module.peers, now)
    checkpoint = {}
    DistillStateHook().before_save_checkpoint(runner, checkpoint)
    # to go on with: what was trained, and the averages
    resumed = averaging(make_mutual(1))
    DistillStateHook().after_load_checkpoint(resumed, checkpoint)
    assert same(resumed.model.peers, now)
    assert same(resumed.hooks[0].ema_model.module.peers, ema.module.peers)
    # to test, as mmengine does with the student: the averages
    tested = loop_of(make_mutual(2), False, False)
    DistillStateHook().after_load_checkpoint(tested, checkpoint)
    assert same(tested.model.peers, ema.module.peers)


def test_averages_that_would_leave_out_the_peers_are_refused(make_mutual):
    runner = averaging(make_mutual(), update_buffers=True)
    with pytest.raises(ValueError, match='Expected `update_buffers` of the EMAHook to be False'):
        DistillStateHook().before_train(runner)


@pytest.mark.parametrize(('done', 'rest'), [(3, 1), (4, 0)])
def test_saving_between_accumulated_iterations_warns(done, rest, monkeypatch):
    said = []
    monkeypatch.setattr(distill_state, 'print_log', lambda text, **_: said.append(text))
    model = torch.nn.Linear(1, 1)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), 0.1), accumulative_counts=2)
    for _ in range(done):
        wrapper.update_params(model(torch.ones(1)).sum())
    runner = runner_of(model)
    runner.optim_wrapper, runner.iter, runner.max_iters = wrapper, done - 1, 6
    DistillStateHook().before_save_checkpoint(runner, {})
    assert said == [] if not rest else 'lacks the gradients of 1 of 2' in said[0]
