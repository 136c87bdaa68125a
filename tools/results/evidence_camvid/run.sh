#!/bin/sh
# Train what PLAN.md plans first: sh tools/results/evidence_camvid/run.sh OUT T SEED ...
# from the root of a clone; OUT takes the figures, T is the teacher's seed. Killed, the same command goes on.
set -e
out=$1 teacher=$2
shift 2
export OMP_NUM_THREADS=1
student=fcn-mobilenet-v2-d32_1xb8-2k_camvid-256x256
taught=deeplabv3plus-mobilenet-v2-d16-to-$student
work=work_dirs/evidence/teacher$teacher
keep() { python tools/methods_keep.py "$1" "$out/$(basename "$1")"; }

if [ "$teacher" = 0 ]; then
  # needs no teacher; the first of the others trains it, with the seed of its config, which is 0
  python tools/benchmark_methods.py configs/baseline/baseline_$student.py --seeds "$1" --work-dir "$work"
  keep "$work"
else
  # a teacher of another seed is the network alone of its own comparison
  own=work_dirs/evidence/teachers
  python tools/benchmark_methods.py --seeds "$teacher" --work-dir $own \
    configs/baseline/baseline_deeplabv3plus-mobilenet-v2-d16_1xb8-3k_camvid-256x256.py
  keep $own
  options="--cfg-options model.teacher.checkpoint=$own/runs/alone/seed-$teacher/train/iter_3000.pth"
fi
for seed in "$@"; do
  for arm in 'kd 1,2' 'rkl 1' 'balkd 1,0.5'; do
    method=${arm% *}
    # shellcheck disable=SC2086
    python tools/benchmark_methods.py "configs/$method/${method}_$taught.py" --seeds "$seed" \
      --grid "loss_weight=${arm#* }" --work-dir "$work" $options
    keep "$work"
  done
done
