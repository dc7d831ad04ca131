#!/usr/bin/env bash
# Installs what fwl is built from: system packages by apt, and LibTorch 2.11.0 from PyPI's wheel.
#
#   ./launch/setup.sh [--no-cuda | --cuda] [--tests]
#
# Writes nothing outside .deps (or $FWL_DEPS_DIR) but apt's packages, installs only what is missing, and may be
# killed and run again at any time. LibTorch is taken from $LIBTORCH, from .deps/site, from the torch that
# python3 imports, or else fetched into .deps/site, where CMake finds it. What it must hold:
#   cpu    LibTorch and the two CUDA libraries that its CPU part names (545 MB to fetch, 1.2 GB on disk)
#   cuda   and NCCL, to compile the CUDA parts; chosen when a CUDA 13 toolkit is found, or by --cuda. Also the headers of
#          cuDNN's frontend (12 MB)
#   gpu    and all that LibTorch's GPU part needs (about 3 GB to fetch); chosen when a GPU is there as well
# --tests also fetches what only the tests need: Python's safetensors, transformers and tensorboard, into .deps/test-python
# (160 MB), and a browser (Debian's chromium) that looks at the report.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. launch/stages.sh

torch_version=2.11.0
pins_torch=(torch==2.11.0)
pins_cpu=(nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85)
pins_cuda=(nvidia-nccl-cu13==2.28.9)
pin_cudnn_frontend=nvidia-cudnn-frontend==1.18.0
pins_tests=(absl-py==2.5.1 certifi==2026.10.18 charset-normalizer==3.5.2 filelock==4.2.11 fsspec==2026.9.0 hf-xet==1.8.0
  huggingface_hub==0.36.2 idna==3.20 Jinja2==3.1.6 MarkupSafe==3.0.4 mpmath==1.3.0 networkx==3.5 numpy==2.3.5
  packaging==26.3 protobuf==7.36.2 PyYAML==6.0.3 regex==2026.11.15 requests==2.34.2 safetensors==0.7.0 sympy==1.14.0 tensorboard==2.21.0
  tokenizers==0.22.2 tqdm==4.70.1 transformers==4.57.6 typing_extensions==4.15.0 urllib3==2.8.0)
apt_packages=(g++ cmake ninja-build ccache git python3 zlib1g-dev libzstd-dev libbz2-dev liblzma-dev libopenmpi-dev openmpi-bin libhdf5-dev libspdlog-dev
  libfmt-dev libyaml-cpp-dev nlohmann-json3-dev libcli11-dev libsentencepiece-dev libgtest-dev libbenchmark-dev)
deps=${FWL_DEPS_DIR:-.deps}

# ---- system packages

missing_packages() {
  local package
  for package in "$@"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || printf '%s\n' "$package"
  done
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

install_packages() {
  local missing
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    printf 'warning: no apt on this machine; its own packages must provide: %s\n' "${apt_packages[*]}" >&2
    return 0
  fi
  mapfile -t missing < <(missing_packages "$@")
  if [ "${#missing[@]}" = 0 ]; then
    echo "system packages: all $# are there"
    return 0
  fi
  echo "system packages to install: ${missing[*]}"
  if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
    die "packages are missing, and this user can neither be root nor use sudo (apt needs it). As root, run:" \
      "apt-get install ${missing[*]}"
  fi
  as_root apt-get update -qq ||
    die "apt-get update failed (packages are missing: ${missing[*]}). Check the network and /etc/apt/sources.list*," \
      "then run this again."
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
    die "apt-get could not install: ${missing[*]} (the build needs them). Debian 12 and Ubuntu 24.04 (with its" \
      "'universe' part) have them all; read apt's message above, then run this again."
}

# ---- LibTorch

# torch_holds FOLDER LEVEL: FOLDER is LibTorch of the pinned version with what LEVEL (cpu, cuda, gpu) needs.
torch_holds() {
  local torch=$1 level=$2 site
  site=$(dirname "$torch")
  [ "$(torch_version_of "$torch")" = "$torch_version" ] && loads "$torch/lib/libtorch_cpu.so" || return 1
  [ "$level" != cpu ] || return 0
  [ -e "$torch/lib/libc10_cuda.so" ] && [ -e "$site/nvidia/nccl/include/nccl.h" ] &&
    [ -e "$site/nvidia/nccl/lib/libnccl.so.2" ] && [ -e "$site/nvidia/cu13/lib/libcudart.so.13" ] || return 1
  [ "$level" != gpu ] || loads "$torch/lib/libtorch_cuda.so"
}

torch_version_of() {
  local header=$1/include/torch/headeronly/version.h
  [ -r "$header" ] || return 0
  awk '$2 ~ /^TORCH_VERSION_(MAJOR|MINOR|PATCH)$/ { text = text (text == "" ? "" : ".") $3 } END { print text }' "$header"
}

# The library is there and the loader finds all that it names (the driver's libcuda aside).
loads() {
  [ -e "$1" ] && [ -z "$(ldd "$1" 2>/dev/null | grep 'not found' | grep -v '^\s*libcuda\.so')" ]
}

python_torch() {
  python3 -c 'import importlib.util as u; s = u.find_spec("torch"); print(s.submodule_search_locations[0] if s else "")' \
    2>/dev/null || true
}

find_pip() {
  local python
  for python in python3 /usr/bin/python3; do
    if "$python" -m pip --version >/dev/null 2>&1; then
      echo "$python"
      return 0
    fi
  done
}

# The Python that has pip, installing Debian's where none has; nothing when there is none even then.
provide_pip() {
  local python
  python=$(find_pip)
  [ -n "$python" ] || install_packages python3-pip >&2
  find_pip
}

# So that two set-ups at once do not fetch twice, or take one another's unfinished folders for left ones.
lock_deps() {
  mkdir -p "$deps"
  exec 9>"$deps/lock"
  flock 9
}
unlock_deps() {
  flock -u 9
}

# Fetches into a new folder beside .deps/site and renames it into place, so that a killed set-up leaves the old
# one or none. `--target` also makes pip work where the system's Python is marked as externally managed (PEP 668).
fetch_torch() {
  local level=$1 python new=$deps/site.new.$$ old=$deps/site.old.$$
  python=$(provide_pip)
  [ -n "$python" ] || die "python3 has no pip (it fetches LibTorch). Install pip, or set LIBTORCH to LibTorch $torch_version."
  local packages=("${pins_torch[@]}" "${pins_cpu[@]}" "${pins_cuda[@]}") flags=(--no-deps)
  case $level in
    cpu) packages=("${pins_torch[@]}" "${pins_cpu[@]}") ;;
    gpu) flags=() ;;
  esac
  echo "LibTorch: fetching ${packages[*]} into $deps/site"
  PIP_ROOT_USER_ACTION=ignore "$python" -m pip install --quiet --disable-pip-version-check --no-warn-script-location --no-compile --only-binary :all: \
    ${flags[@]+"${flags[@]}"} --target "$new" "${packages[@]}" ||
    die "pip could not fetch LibTorch (fwl is built on it). Check the network, free disk space and that" \
      "$("$python" --version 2>&1) is 3.10 to 3.14; then run this again, or set LIBTORCH to LibTorch $torch_version."
  printf '%s\n' "$level" "${packages[@]}" >"$new/fwl-holds.txt"
  torch_holds "$new/torch" "$level" ||
    die "the LibTorch that pip fetched is not complete (libraries of level '$level' are missing). Look into" \
      "$new, remove it, and run this again."
  if [ -e "$deps/site" ]; then mv "$deps/site" "$old"; fi
  mv "$new" "$deps/site"
  rm -rf "$old"
}

# Removes what a killed set-up left.
provide_torch() {
  local level=$1 python_torch_folder
  if [ -n "${LIBTORCH:-}" ]; then
    torch_holds "$LIBTORCH" cpu ||
      die "LIBTORCH=$LIBTORCH is not a complete LibTorch $torch_version (it holds '$(torch_version_of "$LIBTORCH")')." \
        "Point it to a folder with include/ and lib/, or unset it."
    torch_holds "$LIBTORCH" "$level" ||
      echo "warning: LIBTORCH=$LIBTORCH has not what '$level' needs; CUDA will be left out of the build" >&2
    echo "LibTorch: $LIBTORCH (from LIBTORCH)"
    return 0
  fi
  python_torch_folder=$(python_torch)
  if [ ! -e "$deps/site" ] && [ -n "$python_torch_folder" ] && torch_holds "$python_torch_folder" "$level"; then
    echo "LibTorch: $python_torch_folder (python3's own)"
    return 0
  fi
  lock_deps
  rm -rf "$deps"/site.new.* "$deps"/site.old.*
  if torch_holds "$deps/site/torch" "$level"; then
    echo "LibTorch: $deps/site/torch is there, with what '$level' needs"
  else
    fetch_torch "$level"
    echo "LibTorch: $deps/site/torch, with what '$level' needs"
  fi
  unlock_deps
}

# ---- cuDNN's frontend

# Headers alone, for fused attention; a build without them uses LibTorch's own, which takes longer. Of a wheel for one version of Python,
# whichever is here.
provide_cudnn_frontend() {
  lock_deps
  if [ "$(cat "$deps/cudnn-frontend/pin.txt" 2>/dev/null)" = "$pin_cudnn_frontend" ]; then
    echo "cuDNN frontend: $deps/cudnn-frontend is there"
  else
    echo "cuDNN frontend: fetching $pin_cudnn_frontend into $deps/cudnn-frontend"
    fetch_cudnn_frontend ||
      echo "warning: PyPI gave no $pin_cudnn_frontend; attention will run on LibTorch's kernels, which take longer" >&2
  fi
  unlock_deps
}

fetch_cudnn_frontend() {
  local python new=$deps/cudnn-frontend.new
  rm -rf "$new" && mkdir -p "$new/wheel" && python=$(provide_pip) &&
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --python-version 3.12 --implementation cp \
      --abi cp312 --platform "manylinux_2_28_$(uname -m)" --platform "manylinux_2_27_$(uname -m)" --dest "$new/wheel" "$pin_cudnn_frontend" &&
    "$python" -m zipfile -e "$new"/wheel/*.whl "$new/wheel" && mv "$new/wheel/include" "$new/include" && rm -rf "$new/wheel" &&
    printf '%s\n' "$pin_cudnn_frontend" >"$new/pin.txt" && rm -rf "$deps/cudnn-frontend" && mv "$new" "$deps/cudnn-frontend"
}

# ---- what only tests need

# Into a folder of its own, with the path of the Python that it fits. Tests skip what needs it where it is not there, so
# that a machine without PyPI can run the others.
provide_test_python() {
  local python folder=$deps/test-python new=$deps/test-python.new.$$
  if [ "$(cat "$folder/pins.txt" 2>/dev/null)" = "${pins_tests[*]}" ] && [ -x "$(cat "$folder/python.txt")" ]; then
    echo "test-only Python packages: $folder is there"
    return 0
  fi
  python=$(provide_pip)
  mkdir -p "$deps"
  echo "test-only Python packages: fetching ${#pins_tests[@]} into $folder"
  if ! PIP_ROOT_USER_ACTION=ignore "$python" -m pip install --quiet --disable-pip-version-check --no-warn-script-location --no-compile \
    --only-binary :all: --no-deps --target "$new" "${pins_tests[@]}"; then
    rm -rf "$new"
    echo "warning: PyPI gave no test-only packages; the tests that compare with Hugging Face will be SKIPPED" >&2
    return 0
  fi
  printf '%s\n' "${pins_tests[*]}" >"$new/pins.txt"
  "$python" -c 'import sys; print(sys.executable)' >"$new/python.txt"
  rm -rf "$folder"
  mv "$new" "$folder"
}

# Ubuntu's package chromium only points to a snap, which does not run everywhere: there the test that needs a browser is skipped, loudly.
provide_browser() {
  if command -v chromium >/dev/null || ! command -v apt-get >/dev/null || ! grep -q '^ID=debian' /etc/os-release; then return 0; fi
  if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then return 0; fi
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null ||
    echo "warning: apt gave no chromium; the test that looks at the report will be SKIPPED" >&2
}

choose_level() {
  local asked=$1
  if [ "$asked" = no-cuda ] || { [ "$asked" = auto ] && [ -z "$(find_nvcc)" ]; }; then
    echo cpu
  elif [ "$(gpu_count)" -gt 0 ]; then
    echo gpu
  else
    echo cuda
  fi
}

main() {
  local asked=auto level tests=
  while [ $# -gt 0 ]; do
    case $1 in
      --cuda | --no-cuda) asked=${1#--} ;;
      --tests) tests=1 ;;
      -h | --help) sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' launch/setup.sh && exit 0 ;;
      *) printf 'error: unknown argument %s. Usage: ./launch/setup.sh [--no-cuda | --cuda] [--tests]\n' "$1" >&2 && exit 2 ;;
    esac
    shift
  done
  install_packages "${apt_packages[@]}"
  level=$(choose_level "$asked")
  provide_torch "$level"
  [ "$level" = cpu ] || provide_cudnn_frontend
  if [ -n "$tests" ]; then
    provide_browser
    provide_test_python
  fi
}

main "$@"
