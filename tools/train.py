"""Train a config: `python tools/train.py CONFIG`, also what `mim train balkd_seg CONFIG` runs.

It takes the options of mmseg's own script. Beyond that, it runs several CPU processes (gloo) where
there is no GPU: `torchrun --nproc_per_node=2 tools/train.py CONFIG --launcher pytorch`.
"""

import argparse
import os
from pathlib import Path

import balkd_seg  # noqa: F401  (before mmseg: makes it run with mmcv-lite)

# isort: split
from mmengine.config import Config, DictAction

from balkd_seg.compat.cpu_distributed import build_runner
from balkd_seg.distillers.checkpoint import local_checkpoint


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--work-dir', help='where logs and checkpoints go (default: ./work_dirs/NAME)'
    )
    parser.add_argument(
        '--resume', action='store_true', help='go on from the latest checkpoint in the work dir'
    )
    parser.add_argument('--amp', action='store_true', help='train in mixed precision')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override config values: key=value, nested keys by dots, lists as key="[a,b]"',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher',
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def load_config(args: argparse.Namespace) -> Config:
    """Read the config and lay the command line over it."""
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    if args.work_dir:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    if args.amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.resume = args.resume
    if cfg.get('load_from'):
        # a URL becomes a file here: mmengine's own download reads it without `weights_only`
        cfg.load_from = local_checkpoint(cfg.load_from, 'model')
    return cfg


def main() -> None:
    """Train."""
    build_runner(load_config(parse_args())).train()


if __name__ == '__main__':
    main()
