"""Train a config: `python tools/train.py CONFIG`, also what `mim train balkd_seg CONFIG` runs.

It takes the options of mmseg's own script. Beyond that, it runs several CPU processes (gloo) where
there is no GPU: `torchrun --nproc_per_node=2 tools/train.py CONFIG --launcher pytorch`.
"""

import balkd_seg  # noqa: F401  (before mmseg: makes it run with mmcv-lite)

# isort: split
from command_line import load_config, make_parser

from balkd_seg.compat.cpu_distributed import build_runner
from balkd_seg.distillers.checkpoint import local_checkpoint


def main() -> None:
    """Train."""
    parser = make_parser(__doc__)
    parser.add_argument(
        '--resume', action='store_true', help='go on from the latest checkpoint in the work dir'
    )
    parser.add_argument('--amp', action='store_true', help='train in mixed precision')
    args = parser.parse_args()
    cfg = load_config(args)
    cfg.resume = args.resume
    if args.amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
    if cfg.get('load_from'):
        # a URL becomes a file here: mmengine's own download reads it without `weights_only`
        cfg.load_from = local_checkpoint(cfg.load_from, 'model')
    build_runner(cfg).train()


if __name__ == '__main__':
    main()
