"""The small problem of a form asks for the kernels that the form's problems ask for."""

import pytest
import torch

from balkd_seg.ops._form import Form, Layout
from balkd_seg.ops._types import Problem, Terms, Weighting
from balkd_seg.ops._versions import why_no_triton

DEVICE = torch.device('cpu')
LAYOUTS = {
    'contiguous': lambda z: z.contiguous(),
    'channels last': lambda z: z.contiguous(memory_format=torch.channels_last),
    'order NCWH': lambda z: z.mT.contiguous().mT,
    'contiguous with gaps': lambda z: torch.cat((z, z), 3)[..., : z.shape[3]],
    'order NHWC with gaps': lambda z: z.repeat_interleave(2, 1).contiguous(
        memory_format=torch.channels_last
    )[:, ::2],
}


def problem_of(student, size, labels=torch.int64, align=False, ignore_index=255):
    valid = torch.ones(len(student), *size, dtype=torch.bool)
    target = None if labels is None else torch.zeros(valid.shape, dtype=labels)
    coefficients = torch.ones(len(student), 3)
    terms = Terms(1.0, 0.0, 2.0, 3.0)
    return Problem(
        valid, target, None, coefficients, terms, False, align, ignore_index, Weighting()
    )


@pytest.mark.parametrize('name', LAYOUTS)
def test_layouts_are_named_and_made_again(name):
    logits = LAYOUTS[name](torch.randn(2, 3, 4, 5))
    layout = Layout.of(logits)
    assert str(layout) == f'float32 {name}'.replace('order NHWC', 'channels last')
    again = layout.fill(logits, DEVICE)
    assert torch.equal(again, logits)
    assert Layout.of(again) == layout


def test_samples_of_a_row_have_a_layout():
    logits = torch.randn(7, 3).mT[None, :, :, None]
    assert Layout.of(logits).order == (0, 2, 3, 1)


@pytest.mark.parametrize('align', [False, True])
@pytest.mark.parametrize('teacher_gradient', [False, True])
def test_cells_of_the_small_problem_are_as_wide(align, teacher_gradient, triton):
    if why_no_triton():
        pytest.skip(why_no_triton())
    from balkd_seg.ops import _fused_upsample

    generator = torch.Generator().manual_seed(0)

    def draw(low, high):
        return int(torch.randint(low, high, (), generator=generator))

    def constants(student, teacher, size, columns):
        """What `upsampled` has at compile time of the sizes."""
        cells = _fused_upsample.Cells.of(student[1], size[1], align and student[1] > 1, columns)
        switches = [align and n > 1 for n in (*student, *teacher)]
        return cells.width, cells.strip, cells.chunks > 1, student == teacher, *switches

    for _ in range(200):
        size = draw(2, 600), draw(2, 600)
        sizes = [(draw(1, size[0] + 1), draw(2, size[1] + 1)) for _ in range(2)]
        if draw(0, 2):
            sizes[1] = sizes[0]
        if sizes == [size, size]:
            continue
        pair = [torch.empty(1).expand(1, 3, *z) for z in sizes]
        form = Form.of(*pair, problem_of(pair[0], size, align=align), (True, teacher_gradient))
        for columns in (16, 32, 64, 128):
            small = form.sizes
            assert constants(*small, columns) == constants(*sizes, size, columns), (sizes, size)
            if teacher_gradient:
                order = [1, 0, 2]
                assert constants(*(small[i] for i in order), columns) == constants(
                    sizes[1], sizes[0], size, columns
                )
        assert max(max(z) for z in small) <= 2 * 256 + 1


def test_pixels_that_16_divides_are_a_form_of_their_own():
    """The loads of the one are vectorised."""
    forms = []
    for size in ((4, 8), (6, 8), (5, 5)):
        pair = [torch.randn(1, 3, *size) for _ in range(2)]
        forms.append(Form.of(*pair, problem_of(pair[0], size), (True, False)))
    assert forms[0] == forms[1] != forms[2]
    assert [form.sizes[2][0] * form.sizes[2][1] % 16 == 0 for form in forms] == [True, True, False]


@pytest.mark.parametrize(
    ('labels', 'ignore_index', 'classes'),
    [
        (torch.int64, 255, 19), (torch.uint8, 255, 256), (torch.int8, 255, 200),
        (torch.uint8, -1, 5), (torch.int32, 0, 5), (None, 255, 5),
    ],
)  # fmt: skip
def test_the_small_problem_is_whole_and_always_the_same(labels, ignore_index, classes):
    pair = [torch.randn(2, classes, 2, 3) for _ in range(2)]
    problem = problem_of(pair[0], (8, 12), labels, ignore_index=ignore_index)
    form = Form.of(*pair, problem, (True, False))
    state = torch.get_rng_state()
    student, teacher, small = form.example(problem)
    again = form.example(problem)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(student, again[0])
    assert Form.of(student, teacher, small, (True, False)) == form
    assert 0 < small.valid.float().mean() <= 1
    assert small.terms == problem.terms
    assert small.coefficients[0].tolist()[1] == 0  # of weight 0
    assert (small.target is None) == (labels is None)
    if labels is not None:
        kept = small.target[small.valid].long()
        assert 0 <= kept.min() < kept.max() < classes
        assert len(kept.unique()) >= min(classes, 40) - 1
        assert torch.equal(small.valid, small.target != ignore_index)
