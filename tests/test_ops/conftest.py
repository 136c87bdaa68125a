"""Cases that every formula over pixels is compared with its own plain form in."""

import pytest
import torch
import torch.nn.functional as F

from balkd_seg.ops._versions import why_no_triton

# scripts of their own processes, which find each other by the folder that they start in
collect_ignore = ['compile_kernels.py', 'count_compilations.py']


@pytest.fixture
def triton():
    """Skip where Triton is missing or old."""
    reason = why_no_triton()
    if reason:
        pytest.skip(reason)


@pytest.fixture(autouse=True)
def _triton_for_fused(request):
    """Skip a case of `impl='fused'` where Triton is missing or old; the others run."""
    case = getattr(request.node, 'callspec', None)
    if case is not None and case.params.get('impl') == 'fused':
        request.getfixturevalue('triton')


# resize, (student size, teacher size, label size)
CASES = {
    'equal': ('label', (9, 8), (9, 8), (9, 8)),
    'strides-4-and-8': ('label', (6, 10), (3, 5), (24, 40)),
    'odd-ratios': ('label', (5, 7), (3, 4), (17, 23)),
    'downsampled': ('label', (21, 17), (12, 30), (10, 9)),
    'to-the-student': ('student', (5, 7), (3, 4), (11, 14)),
    'as-they-are': ('none', (5, 7), (5, 7), (10, 14)),
}


@pytest.fixture
def compare(request):
    """Return a function that holds an operation to a truth over rows of logits, in float64."""

    def run(operation, truth, case, align_corners=False, scale=2.0, **settings):
        resize, *sizes, label_size = CASES[case]
        generator = torch.Generator().manual_seed(3)
        student, teacher = (
            scale * torch.randn(2, 5, *size, generator=generator, dtype=torch.float64)
            for size in sizes
        )
        target = torch.randint(0, 5, (2, *label_size), generator=generator)
        target[torch.rand(target.shape, generator=generator) < 0.3] = 255
        student.requires_grad_()
        size = label_size if resize == 'label' else sizes[0]
        labels = F.interpolate(target[:, None].double(), size)[:, 0].long()
        keep = labels != 255
        rows = [
            F.interpolate(z, size, None, 'bilinear', align_corners).permute(0, 2, 3, 1)[keep]
            for z in (student, teacher)
        ]
        expected = truth(*rows, labels[keep])
        settings.update(resize=resize, align_corners=align_corners)
        result = operation(student, teacher, target, **settings)
        torch.testing.assert_close(result.loss, expected, rtol=1e-10, atol=1e-12)
        gradients = [torch.autograd.grad(x, student)[0] for x in (result.loss, expected)]
        torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)
        return result

    return run


@pytest.fixture(params=CASES)
def case(request):
    """Return the name of a way to bring two outputs and a label together."""
    return request.param
