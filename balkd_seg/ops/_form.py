"""What decides which fused kernels are compiled, and a small fixed problem that asks for the same.

Legend: N images, C classes, (h, w) and (th, tw) logits of student and teacher, (H, W) labels.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from balkd_seg.ops._compute import is_full
from balkd_seg.ops._types import Problem, flags

# A program of the kernels takes no more columns.
_WIDEST = 256

Size = tuple[int, int]


class Layout(NamedTuple):
    """Of (N, C, h, w) logits: in which order, outermost first, dimensions lie in memory.

    Attributes:
        dtype: Of the logits.
        order: The dimensions, (0, 1, 2, 3) where the tensor is contiguous.
        padded: Whether something lies in between.
    """

    dtype: torch.dtype
    order: tuple[int, ...]
    padded: bool

    @classmethod
    def of(cls, logits: Tensor) -> 'Layout':
        """Describe a tensor."""
        order: tuple[int, ...] = (0, 1, 2, 3)
        if not logits.is_contiguous():
            order = (0, 2, 3, 1)
            if not logits.is_contiguous(memory_format=torch.channels_last):
                order = tuple(sorted(range(4), key=lambda dim: -logits.stride()[dim]))
        return cls(logits.dtype, order, not logits.permute(order).is_contiguous())

    def fill(self, values: Tensor, device: torch.device) -> Tensor:
        """Return values (N, C, h, w) in this dtype and order."""
        sizes = [values.shape[dim] for dim in self.order]
        *outer, inner = sizes
        memory = torch.empty((*outer, inner + self.padded), dtype=self.dtype, device=device)
        back = sorted(range(4), key=lambda at: self.order[at])
        return memory[..., :inner].permute(back).copy_(values)

    def __str__(self) -> str:
        names: dict[tuple[int, ...], str] = {
            (0, 1, 2, 3): 'contiguous',
            (0, 2, 3, 1): 'channels last',
        }
        order = names.get(self.order) or 'order ' + ''.join('NCHW'[dim] for dim in self.order)
        return f'{str(self.dtype)[6:]} {order}{" with gaps" * self.padded}'


class Form(NamedTuple):
    """Problems that ask for the same kernels.

    Attributes:
        device: Where it runs.
        classes: C.
        student: Layout of the student's logits.
        teacher: Of the teacher's.
        sizes: (h, w), (th, tw) and (H, W) of a small problem of this form.
        labels: Dtype of the labels of the cross-entropy, or None without.
        align_corners: As in `Problem`.
        weighting: 'none', 'image' or 'pixel'.
        flags: Names of those flags of `balkd_seg.ops._types.flags` that are set.
        gradients: Whether the student and the teacher get a gradient.
    """

    device: torch.device
    classes: int
    student: Layout
    teacher: Layout
    sizes: tuple[Size, Size, Size]
    labels: torch.dtype | None
    align_corners: bool
    weighting: str
    flags: tuple[str, ...]
    gradients: tuple[bool, bool]

    @classmethod
    def of(
        cls, student: Tensor, teacher: Tensor, problem: Problem, gradients: tuple[bool, bool]
    ) -> 'Form':
        """Describe a problem over classes; arguments as in `balkd_seg.ops._compute.compute`."""
        full = is_full(student, teacher, problem.valid)
        target = problem.target
        return cls(
            student.device,
            student.shape[1],
            Layout.of(student),
            Layout.of(teacher),
            _full_sizes(problem) if full else _low_sizes(student, teacher, problem, gradients[1]),
            None if target is None else target.dtype,
            problem.align_corners and not full,
            problem.weighting.granularity,
            tuple(name for name, is_set in flags(problem).items() if is_set),
            gradients,
        )

    def __str__(self) -> str:
        low, teacher_low, size = self.sizes
        sizes = 'full resolution'
        if low != size or teacher_low != size:
            widths = [size[1] // z[1] for z in (low, teacher_low)]
            same = 'one grid' if low == teacher_low else 'two grids'
            sizes = f'upsampled by about {widths[0]} and {widths[1]}, {same}'
            sizes += ', aligned corners' * self.align_corners
        labels = 'no cross-entropy' if self.labels is None else f'labels {str(self.labels)[6:]}'
        wanted = [name for at, name in enumerate(('student', 'teacher')) if self.gradients[at]]
        return (
            f'{self.classes} classes, {sizes}, student {self.student}, teacher {self.teacher}, '
            f'{labels}, gradients {" and ".join(wanted) or "none"}, weighting {self.weighting}, '
            f'{" ".join(self.flags)}'
        )

    def example(self, problem: Problem) -> tuple[Tensor, Tensor, Problem]:
        """Return a student's and a teacher's logits and a problem, the same every time.

        No random number is taken from a generator that somebody else uses.

        Args:
            problem: One of this form, for its temperatures and settings.
        """
        generator = torch.Generator(device='cpu').manual_seed(0)
        num, size = 2, self.sizes[2]

        def spread(layout: Layout, size: Size) -> Tensor:
            shape = (num, self.classes, *size)
            drawn = torch.randn(shape, generator=generator, dtype=torch.float32, device='cpu')
            return layout.fill(3 * drawn, self.device)

        pair = spread(self.student, self.sizes[0]), spread(self.teacher, self.sizes[1])
        share = torch.rand((num, *size), generator=generator, dtype=torch.float32, device='cpu')
        valid, target = share >= 0.2, None
        if self.labels is not None:
            limits = torch.iinfo(self.labels)
            classes = min(self.classes, limits.max + 1)
            target = (torch.arange(valid.numel(), device='cpu') % classes).view(valid.shape)
            if limits.min <= problem.ignore_index <= limits.max:
                target.masked_fill_(~valid, problem.ignore_index)
            valid = (target != problem.ignore_index).to(self.device)
            target = target.to(self.device, self.labels)
        weight = problem.class_weight
        if weight is not None:
            weight = torch.linspace(0.5, 2, self.classes, dtype=weight.dtype, device=self.device)
        used = (*(w > 0 for w in problem.terms[:2]), self.labels is not None)
        shares = [x * on / valid.numel() for x, on in zip((0.7, 0.9, 1.1), used, strict=True)]
        dtype = problem.coefficients.dtype
        coefficients = torch.tensor([shares], dtype=dtype, device=self.device).expand(num, 3)
        return *pair, problem._replace(
            valid=valid.to(self.device), target=target, class_weight=weight,
            coefficients=coefficients,
        )  # fmt: skip


def _full_sizes(problem: Problem) -> tuple[Size, Size, Size]:
    """Return the sizes of three programs' pixels; whether 16 divides them decides about loads."""
    size = (3, 400 if problem.valid[0].numel() % 16 == 0 else 397)
    return size, size, size


def _low_sizes(
    student: Tensor, teacher: Tensor, problem: Problem, teacher_gradient: bool
) -> tuple[Size, Size, Size]:
    """Return small sizes with cells as wide as those of the problem, cut into powers of two."""
    align, out = problem.align_corners, problem.valid.shape[2]
    (h, w), (th, tw) = student.shape[2:], teacher.shape[2:]
    wide, teacher_wide = (_cell_width(z, out, align and z > 1) for z in (w, tw))
    same = (h, w) == (th, tw)
    if not (same or teacher_gradient):
        teacher_wide = wide  # whose cells nobody cuts
    columns = 2 * max(wide, teacher_wide)

    def low(height: int, size: Size, wide: int) -> Size:
        if not align:
            return height, columns // wide
        return (height if size[0] > 1 else 1), (columns // wide + 1 if size[1] > 1 else 1)

    sizes = low(2, (h, w), wide), low(2 if same else 3, (th, tw), teacher_wide)
    return *sizes, (5, columns + align)


def _cell_width(num_in: int, num_out: int, align: bool) -> int:
    """Return the power of two that holds the widest cell of an axis."""
    widest = -(-(num_out - 1) // (num_in - 1)) if align else -(-num_out // num_in)
    return min(_WIDEST, 1 << max(0, widest - 1).bit_length())
