#!/usr/bin/env bash
# The main job, end to end, on real text: sets up, builds, makes a tokenizer and a data set from the Python standard
# library's sources on this machine, trains a static control and a model with a Fast Weight Layer on two MPI ranks,
# evaluates both on held-out files, and writes runs/quickstart/report.{html,json}.
#
#   ./launch/quickstart.sh [--quick | --full]
#
#   --quick   the whole path in about 2 minutes after the build; shows that it works, not what the layer is worth
#   (none)    about 8 minutes of training and evaluation on 2 cores
#   --full    about 30 minutes; makes the README's table
#
# Safe to run again: finished stages are reused, an interrupted training goes on from its last checkpoint.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. launch/stages.sh

mode=default
case "${1:-}" in
  '') ;;
  --quick | --full) mode=${1#--} ;;
  -h | --help) sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' launch/quickstart.sh && exit 0 ;;
  *) printf 'error: unknown argument %s. Usage: ./launch/quickstart.sh [--quick | --full]\n' "$1" >&2 && exit 2 ;;
esac
# steps of training (4,096 tokens each), held-out documents to score (0: all), documents to tune dynamic evaluation on
case $mode in
  quick) steps=60 documents=4 tune_documents=2 ;;
  default) steps=240 documents=25 tune_documents=8 ;;
  full) steps=1100 documents=0 tune_documents=16 ;;
esac
out=runs/quickstart
models=$out/$mode # each mode keeps its trained models
ranks=2
fwl=build/bin/fwl
nvcc=$(find_nvcc)

trap print_stages EXIT

# Runs a command unless its stamp says that it was done with the same inputs. once NAME SETTINGS COMMAND...
once() {
  local stamp=$out/$1.done settings=$2
  shift 2
  if [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$settings" ]; then
    echo "reused: done before with the same settings"
    return 0
  fi
  rm -f "$stamp"
  "$@"
  printf '%s' "$settings" >"$stamp"
}

build() {
  local cuda=OFF tests=OFF
  if [ "$(gpu_count)" != 0 ] && [ -n "$nvcc" ]; then export CUDACXX=$nvcc && cuda=AUTO; fi
  # A build folder that tests/run.sh made keeps its tests and CUDA parts.
  if [ -e build/CMakeCache.txt ]; then
    tests=$(sed -n 's/^FWL_TESTS:BOOL=//p' build/CMakeCache.txt)
    cuda=$(sed -n 's/^FWL_CUDA:STRING=//p' build/CMakeCache.txt)
  fi
  cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DFWL_CUDA="$cuda" -DFWL_TESTS="$tests" >build-quickstart.log 2>&1 ||
    { cat build-quickstart.log >&2 && die "the configuration failed (nothing can be built). Read the lines above."; }
  rm -f build-quickstart.log
  cmake --build build --target fwl
}

standard_library() { python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))'; }

make_tokenizer() {
  rm -rf "$out/data"
  "$fwl" tokenizer train "$text" --include '*.py' --exclude '*-packages/*' --vocab-size 4096 --out "$out/tokenizer.model" \
    --overwrite
}

make_data() {
  "$fwl" tokenize "$text" --include '*.py' --exclude '*-packages/*' --tokenizer "$out/tokenizer.model" --out "$out/data" --overwrite \
    --split valid=0.03,test=0.03
}

# train NAME UPDATE: resumes an interrupted training of the same settings.
train() {
  FWL=$fwl FWL_BIND=none launch/mpirun.sh -n "$ranks" --no-check train launch/configs/small.yaml --set data.path="$out/data" \
    --set run.dir="$models/$1" --set model.fast_weight.update="$2" --set train.steps="$steps" --set train.resume=auto
}

train_fresh_or_resumed() { # NAME UPDATE SETTINGS
  if [ ! -e "$models/$1.settings" ] || [ "$(cat "$models/$1.settings")" != "$3" ]; then
    rm -rf "${models:?}/$1"
    printf '%s' "$3" >"$models/$1.settings"
  fi
  train "$1" "$2"
}

evaluate_control() {
  "$fwl" eval "$models/control" --data "$out/data/test" --modes slow,dynamic --max-documents "$documents" \
    --tune "$out/data/valid" --tune-documents "$tune_documents" --dynamic-rule rms --dynamic-decay 0 --dynamic-statistics 8 --json "$models/control.json"
}

# With the control in turns in one process, so that their times compare and their losses are paired.
evaluate_fwl() {
  "$fwl" eval "$models/fwl" --static "$models/control" --data "$out/data/test" --modes slow,fast --max-documents "$documents" --json "$models/fwl.json"
}

stage "set-up"
if [ "$(gpu_count)" = 0 ]; then ./launch/setup.sh --no-cuda; else ./launch/setup.sh; fi

stage "build"
build
mkdir -p "$models"
text=$(standard_library)
# One GPU per rank; without a CUDA toolkit the build runs on the CPU whatever GPUs there are.
if [ "$(gpu_count)" = 1 ] && [ -n "$nvcc" ]; then ranks=1; fi
binary=$(sha256sum "$fwl" | cut -c1-16)
library=$(find "$text" -maxdepth 1 -name '*.py' -printf '%f %s\n' | sort | sha256sum | cut -c1-16)
settings="$(sha256sum <launch/configs/small.yaml | cut -c1-16) $library $steps $ranks"

stage "tokenizer (4,096 pieces, from $text)"
once tokenizer "$library" make_tokenizer

stage "data set (HDF5 shards)"
once data "$library" make_data

stage "training: static control, $steps steps on $ranks rank(s)"
once "$mode/control" "$settings" train_fresh_or_resumed control none "$settings"

stage "training: Fast Weight Layer, $steps steps on $ranks rank(s)"
once "$mode/fwl" "$settings" train_fresh_or_resumed fwl slow_gradient "$settings"

stage "evaluation: control, static and dynamic (tuned on the validation split)"
once "$mode/control-eval" "$settings $documents $tune_documents $binary" evaluate_control

stage "evaluation: Fast Weight Layer, slow and fast pass"
once "$mode/fwl-eval" "$settings $documents $binary static" evaluate_fwl

stage "report"
"$fwl" report "static control=$models/control" "Fast Weight Layer=$models/fwl" --title "Quickstart ($mode): what a Fast Weight Layer is worth" \
  --eval "control, static=$models/fwl.json:static" --eval "control, dynamic evaluation=$models/control.json:dynamic" \
  --eval "FWL, slow pass=$models/fwl.json:slow" --eval "FWL, fast pass=$models/fwl.json:fast" \
  --out "$out/report.html" --json "$out/report.json"
printf '\nReport: %s and %s\n' "$out/report.html" "$out/report.json"
finish_stages
