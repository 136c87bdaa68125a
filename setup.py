"""Packaging: the library, plus configs, tools and model index as data for `mim`."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
MIM_EXTENSION = ('configs', 'tools', 'model-index.yml')

# any that a user of MMSegmentation has: theirs must not be replaced, nor their full mmcv broken
TORCH = ['torch>=2.1']
OPENMMLAB = ['mmengine>=0.10.7', 'mmsegmentation>=1.2.2', 'ftfy', 'regex', 'openmim>=0.3.9']
# openxlab 0.1+ pulls setuptools below 61; mim and mmengine import pkg_resources, gone in 81.
PINS = ['openxlab<0.1', 'setuptools>=77.0.3,<81']


class BuildWithMim(build_py):
    """Put `configs`, `tools` and `model-index.yml` where `mim train balkd_seg` looks for them."""

    def run(self) -> None:
        """Build the library, then copy the mim extension; an editable install needs no copy."""
        if getattr(self, 'editable_mode', False):
            super().run()
            return
        # a module deleted since the last build must not travel along
        shutil.rmtree(Path(self.build_lib) / 'balkd_seg', ignore_errors=True)
        super().run()
        target = Path(self.build_lib) / 'balkd_seg' / '.mim'
        ignore = shutil.ignore_patterns('__pycache__', '*.pyc', 'results')
        for name in MIM_EXTENSION:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, target / name, ignore=ignore)
            else:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target / name)


# CUDA builds of PyTorch bring it; without a GPU the tests interpret and compile the kernels.
TRITON = 'triton; platform_system == "Linux"'

setup(
    name='balkd_seg',
    version='0.1.0',
    description='Balanced knowledge distillation for MMSegmentation',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    python_requires='>=3.10',
    packages=find_packages(include=['balkd_seg', 'balkd_seg.*']),
    # no OpenCV: mmengine asks for it, and opencv-python-headless does as well
    install_requires=TORCH + OPENMMLAB + PINS + ['numpy'],
    extras_require={
        'lite': ['mmcv-lite>=2.1.0,<2.2.0'],
        'full': ['mmcv>=2.1.0,<2.2.0'],
        'onnx': ['onnx', 'onnxruntime'],
        'test': ['pytest>=9', 'pytest-cov', 'onnx', 'onnxruntime', 'torchmetrics', TRITON],
        'bench': ['liger-kernel', TRITON],
        'dev': ['ruff', 'mypy', 'pre-commit'],
    },
    # PyTorch calls this at the end of `import torch`, so that stock commands (`mim test
    # mmsegmentation`) run too; it only waits for mmcv and mmengine, see balkd_seg/compat.
    entry_points={'torch.backends': ['balkd_seg = balkd_seg.compat:autoload']},
    cmdclass={'build_py': BuildWithMim},
)
