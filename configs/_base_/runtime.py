_base_ = 'mmseg::_base_/default_runtime.py'

custom_imports = dict(imports=['balkd_seg'], allow_failed_imports=False)
# both do nothing where there is nothing to do: a baseline has no distillation terms to store
custom_hooks = [dict(type='CheckDataHook'), dict(type='DistillStateHook')]
# with a seed, a stopped run resumes to the same data
randomness = dict(seed=0)
