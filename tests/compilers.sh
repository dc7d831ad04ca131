#!/usr/bin/env bash
# Builds the program with every compiler that is at hand, each into its own folder, with warnings as errors, for the CPU alone:
# g++ 12 and 13, clang 16 and later. Takes 15 minutes a compiler on two cores, so it is no part of CI: run it before an issue
# is resolved.
#
#   tests/compilers.sh [--tests] [COMPILER]...       --tests: the test programs too; COMPILER: g++-13, clang++-16, ...
#
# Ends with 1 when one of them stops or warns, and says which were not there. Debian 12 has g++ 12 and clang-16; Ubuntu 24.04
# has g++ 13, clang-16 and clang-18.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. launch/stages.sh

tests=OFF target=fwl compilers=()
for argument in "$@"; do
  case $argument in
    --tests) tests=ON target=all ;;
    -h | --help) sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' tests/compilers.sh && exit 0 ;;
    -*) die "unknown option $argument. Usage: tests/compilers.sh [--tests] [COMPILER]..." ;;
    *) compilers+=("$argument") ;;
  esac
done
((${#compilers[@]} > 0)) || compilers=(g++-12 g++-13 g++-14 clang++-16 clang++-17 clang++-18 clang++-19 clang++-20)

built=() failed=() missing=()
for compiler in "${compilers[@]}"; do
  if ! command -v "$compiler" >/dev/null; then
    missing+=("$compiler")
    continue
  fi
  stage "$compiler ($("$compiler" -dumpfullversion -dumpversion))"
  folder=build-$compiler
  if cmake -S . -B "$folder" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER="$compiler" -DFWL_CUDA=OFF -DFWL_TESTS=$tests \
    -DFWL_WERROR=ON >"$folder.log" 2>&1 && cmake --build "$folder" --target "$target" -- -k 0 >>"$folder.log" 2>&1; then
    built+=("$compiler")
  else
    failed+=("$compiler")
    grep -E 'error|CMake Error' "$folder.log" | sort | uniq -c | sort -rn | head -n 40
  fi
done
finish_stages
echo
echo "built without a warning: ${built[*]:-none}"
echo "not at hand: ${missing[*]:-none}"
if ((${#failed[@]} > 0)); then
  echo "FAILED: ${failed[*]} (see build-COMPILER.log)"
  exit 1
fi
