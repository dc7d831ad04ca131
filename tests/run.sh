#!/usr/bin/env bash
# Sets up what is missing, builds everything and runs all tests.
#
#   ./tests/run.sh [ARGUMENTS FOR CTEST]      for example: ./tests/run.sh -R fast_weight
#
# With a CUDA 13 toolkit the CUDA parts are built too; tests of the GPU (label `gpu`) skip loudly where there is none.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. launch/stages.sh
. launch/cores.sh
trap print_stages EXIT

stage "set-up"
./launch/setup.sh --tests

stage "configure"
# CMake looks for nvcc on the PATH alone; a toolkit of another CUDA than LibTorch's is left out.
nvcc=$(find_nvcc)
cuda=OFF
if [ -n "$nvcc" ]; then export CUDACXX=$nvcc && cuda=AUTO; fi
cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DFWL_TESTS=ON -DFWL_CUDA=$cuda -DFWL_WERROR="${FWL_WERROR:-OFF}"

stage "build"
cmake --build build

stage "tests"
# As many at once as there are cores; tests of several ranks take several, tests that measure run alone.
ctest --test-dir build --output-on-failure -j "$(cores)" "$@"
finish_stages
