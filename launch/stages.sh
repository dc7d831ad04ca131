# shellcheck shell=bash
# Sourced by the start scripts: stages with honest timings, and what the machine has.
#   stage NAME        ends the stage before and begins this one
#   finish_stages     ends the last stage; the table of timings is printed at exit, also after a failure
#   die TEXT          prints an error and exits with 1
#   cores, cpu_quota  of launch/cores.sh
# Errors have one grammar: problem (why it matters). What to do.
# shellcheck source=launch/cores.sh
. "$(dirname "${BASH_SOURCE[0]}")/cores.sh"

stage_names=()
stage_seconds=()
stage_start=
stage_open=

stage() {
  finish_stages
  stage_open=$1
  stage_start=$(date +%s.%N)
  printf '\n== %s\n' "$1"
}

finish_stages() {
  [ -n "$stage_open" ] || return 0
  stage_names+=("$stage_open")
  stage_seconds+=("$(awk -v from="$stage_start" -v to="$(date +%s.%N)" 'BEGIN { printf "%.1f", to - from }')")
  stage_open=
}

print_stages() {
  local status=$? how i
  if [ -n "$stage_open" ]; then
    how="exit code $status"
    [ "$status" != 0 ] || how="by a signal" # bash's EXIT trap sees the status from before it
    stage_open="$stage_open (stopped here, $how)"
    finish_stages
  fi
  [ "${#stage_names[@]}" -gt 0 ] || return 0
  printf '\nTime of each stage (wall clock):\n'
  for i in "${!stage_names[@]}"; do printf '%9.1f s  %s\n' "${stage_seconds[$i]}" "${stage_names[$i]}"; done
  printf '%s\n' "${stage_seconds[@]}" | awk '{ total += $1 } END { printf "%9.1f s  in all\n", total }'
}

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Path of a CUDA 13 compiler, or nothing. LibTorch 2.11's wheel is built for CUDA 13: older toolkits do not fit.
find_nvcc() {
  local nvcc
  for nvcc in "${CUDACXX:-}" "$(command -v nvcc || true)" /usr/local/cuda/bin/nvcc /usr/local/cuda-13*/bin/nvcc; do
    if [ -x "$nvcc" ] && [ -n "$("$nvcc" --version 2>/dev/null | grep 'release 13\.')" ]; then
      printf '%s\n' "$nvcc"
      return 0
    fi
  done
}

gpu_count() {
  local count
  count=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU ' || true)
  printf '%s\n' "${count:-0}"
}
