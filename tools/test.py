"""Test a checkpoint: `python tools/test.py CONFIG CHECKPOINT`, also what `mim test balkd_seg` runs.

CONFIG is a distillation config (the teacher is not needed) or the student's own mmseg config.
"""

import balkd_seg  # noqa: F401  (before mmseg: makes it run with mmcv-lite)

# isort: split
from inspect import signature

from command_line import load_config, make_parser
from mmengine.config import Config
from mmseg.registry import METRICS

from balkd_seg.compat.cpu_distributed import build_runner
from balkd_seg.distillers.checkpoint import local_checkpoint
from balkd_seg.kinds import kind_of


def augment(cfg: Config) -> None:
    """Change a config to test-time augmentation.

    mmengine would let a data preprocessor at the top of the config replace the network's own.
    """
    given = cfg.pop('data_preprocessor', None)
    if given is not None:
        cfg.model.setdefault('data_preprocessor', given)
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    cfg.model = dict(cfg.tta_model, module=cfg.model)


def write_label_maps(evaluators: dict | list[dict], folder: str) -> None:
    """Change the config of evaluators so that those which can write label maps do."""
    settings = dict(output_dir=folder, keep_results=True)
    for one in [evaluators] if isinstance(evaluators, dict) else evaluators:
        kind = kind_of(one, METRICS)
        known = signature(kind).parameters if kind else {}  # mmengine says what it does not know
        if 'output_dir' in known:
            one.update({key: value for key, value in settings.items() if key in known})


def main() -> None:
    """Test."""
    parser = make_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file or URL')
    parser.add_argument('--out', help='folder for the predicted label maps')
    parser.add_argument('--show-dir', help='folder for pictures of the predictions')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    args = parser.parse_args()
    cfg = load_config(args)
    # a URL becomes a file here: mmengine's own download reads it without `weights_only`
    cfg.load_from = local_checkpoint(args.checkpoint, 'model')
    if args.show_dir:
        cfg.default_hooks.visualization.draw = True
        cfg.visualizer.save_dir = args.show_dir
    if args.tta:
        augment(cfg)
    if args.out:
        write_label_maps(cfg.test_evaluator, args.out)
    build_runner(cfg).test()


if __name__ == '__main__':
    main()
