"""Draw the picture that `tools/demo.py` ends with: image, truth and what each network sees."""

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path

import balkd_seg  # noqa: F401  (before mmseg: makes it run with mmcv-lite)

# isort: split
import cv2
import numpy as np
from mmseg.apis import inference_model, init_model
from mmseg.datasets import CityscapesDataset

from balkd_seg.datasets.loading import IGNORE_INDEX

CLASSES = CityscapesDataset.METAINFO['classes']
COLOURS = np.zeros((256, 3), np.uint8)  # ignored pixels stay black
COLOURS[: len(CLASSES)] = np.array(CityscapesDataset.METAINFO['palette'])[:, ::-1]
GAP, CELL, TITLE, LEGEND_ROW = 6, 256, 40, 24
FONT = cv2.FONT_HERSHEY_SIMPLEX


def predict(config: Path, checkpoint: Path, images: Sequence[Path]) -> list[np.ndarray]:
    """Return the label map (H, W) of each image, by a network on the CPU.

    Args:
        config: The network's own config; a distilled student takes that of the student alone.
        checkpoint: Its weights.
        images: Files.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # mmengine announces every file it loads
        network = init_model(str(config), str(checkpoint), device='cpu')
        results = [inference_model(network, str(image)) for image in images]
    return [result.pred_sem_seg.data.squeeze(0).numpy().astype(np.uint8) for result in results]


def draw_text(canvas: np.ndarray, text: str, x: int, y: int, scale: float = 0.45) -> None:
    """Write dark text whose baseline starts at (x, y)."""
    cv2.putText(canvas, text, (x, y), FONT, scale, (40, 40, 40), 1, cv2.LINE_AA)


def draw_grid(rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str]) -> np.ndarray:
    """Arrange pictures below their column titles.

    Args:
        rows: Pictures (H, W, 3) of one size, all rows alike in length.
        titles: One per column; a line break starts the second line.
    """
    height = round(CELL * rows[0][0].shape[0] / rows[0][0].shape[1])
    shape = (TITLE + len(rows) * (height + GAP), len(titles) * (CELL + GAP) + GAP, 3)
    canvas = np.full(shape, 255, np.uint8)
    for column, title in enumerate(titles):
        left = GAP + column * (CELL + GAP)
        for number, line in enumerate(title.split('\n')):
            draw_text(canvas, line, left, 16 + 17 * number)
        for number, row in enumerate(rows):
            top = TITLE + number * (height + GAP)
            cell = cv2.resize(row[column], (CELL, height), interpolation=cv2.INTER_NEAREST)
            canvas[top : top + height, left : left + CELL] = cell
    return canvas


def draw_legend(width: int, columns: int = 7) -> np.ndarray:
    """Return a strip that names the colours, (H, width, 3)."""
    entries = [*zip(CLASSES, COLOURS, strict=False), ('not labelled', COLOURS[IGNORE_INDEX])]
    canvas = np.full((-(-len(entries) // columns) * LEGEND_ROW + GAP, width, 3), 255, np.uint8)
    for number, (name, colour) in enumerate(entries):
        x = GAP + number % columns * ((width - GAP) // columns)
        y = GAP + number // columns * LEGEND_ROW
        cv2.rectangle(canvas, (x, y), (x + 22, y + 14), colour.tolist(), cv2.FILLED)
        draw_text(canvas, name, x + 28, y + 12)
    return canvas


def write_figure(
    file: Path, images: Sequence[Path], truths: Sequence[Path], predictions: dict
) -> None:
    """Write the comparison as a PNG.

    Args:
        file: Written or replaced.
        images: One per row.
        truths: Their label files.
        predictions: Per column title, the label maps of all images.
    """
    rows = []
    for number, (image, truth) in enumerate(zip(images, truths, strict=True)):
        labels = [cv2.imread(str(truth), cv2.IMREAD_UNCHANGED)]
        labels += [maps[number] for maps in predictions.values()]
        rows.append([cv2.imread(str(image)), *(COLOURS[label] for label in labels)])
    grid = draw_grid(rows, ['image', 'truth', *predictions])
    picture = np.concatenate([grid, draw_legend(grid.shape[1])])
    done, encoded = cv2.imencode('.png', picture)
    assert done
    file.write_bytes(encoded.tobytes())
