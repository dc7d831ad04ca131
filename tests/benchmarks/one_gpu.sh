#!/usr/bin/env bash
# The figures of RESULTS.md's "Speed of one GPU", fwl's side, in one call: training and evaluation steps on random tokens, each as JSON, and a
# table. `fwl plan CONFIG --calibrate OUT/NAME.json` takes them.
#
#   tests/benchmarks/one_gpu.sh [--fwl BINARY] [--out FOLDER] [--only TEXT] [-- ARGUMENTS OF fwl bench...]
#
# Weights are random, so that no token is likely and a Hessian threshold lists next to nothing: what trained models pay for their lists is in the
# logs of a training.
#
# What follows -- goes to every row, e.g. `-- --set train.device=cpu --set model.width=96` to try the script anywhere.
set -euo pipefail
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
fwl=$source/build/bin/fwl out=one_gpu only=''
while (($#)); do
  case $1 in
    --fwl) fwl=$2 && shift ;;
    --out) out=$2 && shift ;;
    --only) only=$2 && shift ;;
    --) shift && break ;;
    *) echo "usage: $0 [--fwl BINARY] [--out FOLDER] [--only TEXT] [-- ARGUMENTS OF fwl bench...]" >&2 && exit 2 ;;
  esac
  shift
done
extra=("$@")
mkdir -p "$out"

row() { # NAME train|eval SETTINGS...
  local name=$1 kind=$2 s set=(--set train.micro_batch=0 --set train.dtype=bf16)
  shift 2
  [[ $name == *"$only"* ]] || return 0
  for s in "$@"; do set+=(--set "$s"); done
  "$fwl" bench "$kind" "$source/launch/configs/gpt2-124m.yaml" "${set[@]}" "${extra[@]}" --json "$out/$name.json" >"$out/$name.txt" 2>&1 ||
    { cat "$out/$name.txt" >&2; echo "error: $name failed (its output is above, and in $out/$name.txt)" >&2; exit 1; }
  printf '%-34s %s\n' "$name" "$(grep -E 'tokens/s' "$out/$name.txt" | tr -s ' ' | paste -sd ';')"
}
control=model.fast_weight.update=none
plain=model.fast_weight.update=absent  # an ordinary transformer, as other systems have it
# The peers' form, but for the Hessian: keys as they are, no gate.
both=(model.fast_weight.fast_layers=both model.fast_weight.key_norm=none model.fast_weight.write_gate=none)
exact=("${both[@]}" model.fast_weight.hessian_threshold=0)
small=(model.layers=8 model.width=512 model.heads=8 model.vocab_size=16384 model.context=2048 model.window=512 train.global_batch=16)
long=(model.vocab_size=16384 model.context=4096 model.window=0 train.global_batch=4)
row static-124m-64x1024-plain train model.window=0 train.global_batch=64 $plain
row static-128m-64x1024 train model.window=0 train.global_batch=64 $control
row static-128m-16x1024 train model.window=0 train.global_batch=16 $control
row fwl-128m-16x1024 train model.window=0 train.global_batch=16
row fwl-128m-16x1024-both-layers train model.window=0 train.global_batch=16 "${both[@]}"
row fwl-128m-16x1024-both-layers-exact train model.window=0 train.global_batch=16 "${exact[@]}"
row static-102m-4x4096 train "${long[@]}" $control
row fwl-102m-4x4096 train "${long[@]}"
row fwl-102m-4x4096-both-layers train "${long[@]}" "${both[@]}"
row fwl-102m-4x4096-both-layers-exact train "${long[@]}" "${exact[@]}"
row static-36m-16x2048-window train "${small[@]}" $control
row fwl-36m-16x2048-window train "${small[@]}"
row fwl-36m-16x2048-window-both-layers train "${small[@]}" "${both[@]}"
row fwl-36m-16x2048-window-both-layers-exact train "${small[@]}" "${exact[@]}"
row fwl-heads-36m-16x2048-window train "${small[@]}" model.fast_weight.decay_heads=4
row static-354m-32x1024-plain train model.layers=24 model.width=1024 model.heads=16 model.window=0 train.global_batch=32 $plain
row static-362m-32x1024 train model.layers=24 model.width=1024 model.heads=16 model.window=0 train.global_batch=32 $control
row eval-128m-16x1024 eval model.window=0 train.global_batch=16
row eval-102m-4x4096 eval "${long[@]}"
row eval-36m-16x2048-window eval "${small[@]}"
row eval-128m-16x1024-both-layers eval model.window=0 train.global_batch=16 "${both[@]}"
row eval-102m-4x4096-both-layers eval "${long[@]}" "${both[@]}"
row eval-36m-16x2048-window-both-layers eval "${small[@]}" "${both[@]}"
