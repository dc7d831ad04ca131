#!/usr/bin/env bash
# Includes go one way: core <- data, core <- parallel, {core, parallel} <- checkpoints, all <- launch; only
# parallel/ includes mpi.h and nccl.h, only core/base/hdf5*.cpp see hdf5.h, by hdf5_library.h. Prints each offender.
set -uo pipefail
cd "${1:-$(dirname "$0")/..}"
bad=0
forbid() { # FOLDER PATTERN
  local hits
  hits=$(grep -rnE --include='*.h' --include='*.cpp' --include='*.cu' --include='*.cuh' "#include [\"<]$2" "$1") || return 0
  printf 'forbidden in %s:\n%s\n' "$1" "$hits"
  bad=1
}
forbid core '(parallel|data|checkpoints|launch|tests)/'
forbid data '(parallel|checkpoints|launch|tests)/'
forbid parallel '(data|checkpoints|launch|tests)/'
forbid checkpoints '(data|launch|tests)/'
forbid launch 'tests/'
for folder in core data checkpoints launch; do forbid "$folder" '(mpi|nccl)\.h'; done
for folder in data parallel checkpoints launch; do forbid "$folder" 'hdf5\.h'; done
hits=$(grep -rlE '#include [<"]hdf5\.h' core | grep -v '^core/base/hdf5_library\.h$')
[[ -z $hits ]] || { echo "hdf5.h is included by $hits"; bad=1; }
hits=$(grep -rl 'hdf5_library\.h"' core data parallel checkpoints launch | grep -vE '^core/base/hdf5(_library)?\.cpp$|^core/base/hdf5_open_file\.h$')
[[ -z $hits ]] || { echo "hdf5_library.h is included by $hits"; bad=1; }
[[ $bad == 0 ]] && echo "includes go one way"
exit $bad
