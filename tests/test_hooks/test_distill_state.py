"""Projections and the random state travel beside the student."""

from types import SimpleNamespace

import pytest
import torch

from balkd_seg.hooks import DistillStateHook

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
    assert sorted(checkpoint['distill_state']) == ['0.projection.bias', '0.projection.weight']
    before = target.distill_terms[0].projection.weight.clone()
    DistillStateHook().after_load_checkpoint(runner_of(target), checkpoint)
    after = target.distill_terms[0].projection.weight
    assert not torch.equal(after, before)
    assert torch.equal(after, source.distill_terms[0].projection.weight)


def test_a_checkpoint_without_projections_starts_them_anew(make_distiller, capsys):
    distiller = make_distiller(distill=[PROJECTED])
    before = distiller.distill_terms[0].projection.weight.clone()
    DistillStateHook().after_load_checkpoint(runner_of(distiller), {})
    assert torch.equal(distiller.distill_terms[0].projection.weight, before)


def test_projections_of_other_shape_are_refused(make_distiller):
    distiller = make_distiller(distill=[PROJECTED])
    state = {'0.projection.weight': torch.zeros(1), '0.projection.bias': torch.zeros(64)}
    with pytest.raises(RuntimeError, match='size mismatch'):
        DistillStateHook().after_load_checkpoint(runner_of(distiller), dict(distill_state=state))


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
