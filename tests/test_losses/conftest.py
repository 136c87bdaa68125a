"""What is asked of every loss module that only hands its settings to an operation."""

import pytest
import torch
from mmseg.registry import MODELS


@pytest.fixture
def check_module():
    """Return a function that compares a module with its operation, and names what it refuses."""
    import balkd_seg  # noqa: F401

    def check(kind, operation, settings, defaults, refused, channels=(5, 5)):
        """Compare.

        Args:
            kind: The registered name.
            operation: What the module calls.
            settings: Arguments of both, other than the defaults.
            defaults: Attributes of a module built without any.
            refused: Pairs of settings and the message they get.
            channels: Of the student and the teacher.
        """
        student = torch.randn(2, channels[0], 4, 6, requires_grad=True)
        teacher = torch.randn(2, channels[1], 8, 6)
        target = torch.randint(0, 5, (2, 16, 24))
        target[:, :8] = 7
        shared = dict(ignore_index=7, resize='student', align_corners=True)
        loss = MODELS.build(dict(type=kind, loss_weight=0.25, **settings, **shared))
        assert not loss.state_dict()
        actual = loss(student, teacher, target)
        expected = operation(student, teacher, target, **settings, **shared)
        torch.testing.assert_close(actual.loss, 0.25 * expected.loss)
        assert all(map(torch.equal, actual[1:], expected[1:]))
        actual.loss.backward()
        assert student.grad.any()
        loss.loss_weight = 0.5  # as a schedule does
        torch.testing.assert_close(
            loss(student, teacher, target).loss, 0.5 * expected.loss.detach(), check_stride=False
        )
        plain = MODELS.build(dict(type=kind))
        assert {name: getattr(plain, name) for name in defaults} == defaults
        common = [
            (dict(loss_weight=0), '`loss_weight` to be finite and larger than 0, but got 0'),
            (dict(loss_name='x'), "`loss_name` to start with 'loss_', but got 'x'"),
            (dict(resize='teacher'), "`resize` to be one of .* but got 'teacher'"),
        ]
        for wrong, message in common + refused:
            with pytest.raises(ValueError, match=message):
                MODELS.build(dict(type=kind, **wrong))

    return check
