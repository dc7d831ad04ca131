# What tests of the whole program share. Sourced by a script with its own arguments FWL_BINARY SOURCE_DIR; gives $fwl, $source (absolute)
# and $work, a folder that goes with the test.
fwl=$(realpath "$1") source=$(realpath "$2")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PYTHONDONTWRITEBYTECODE=1
# More ranks than cores, and containers that forbid reading another process' memory.
export OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_btl_vader_single_copy_mechanism=none

# The last output of a command under test lies in $work/out.
fail() { echo "FAILED: $*" >&2; [[ ! -e $work/out ]] || tail -n 20 "$work/out" >&2; exit 1; }
quietly() { "$@" >"$work/out" 2>&1 </dev/null || fail "$*: exit code $?"; }
expect_code() { # CODE DESCRIPTION COMMAND...
  local want=$1 what=$2 code=0
  shift 2
  "$@" >"$work/out" 2>&1 </dev/null || code=$?
  [[ $code == "$want" ]] || fail "$what: exit code $code, not $want"
  echo "ok: $what -> $code"
}
refused() { # CODE TEXT COMMAND...: the exit code, and what the output must say
  local want=$1 text=$2
  shift 2
  expect_code "$want" "$text" "$@"
  grep -qF -- "$text" "$work/out" || fail "$*: nothing says '$text'"
}
# ends CODE TEXT COMMAND...: like `refused`, without a line: for rows of a table.
ends() {
  local want=$1 text=$2 code=0
  shift 2
  "$@" >"$work/out" 2>&1 </dev/null || code=$?
  [[ $code == "$want" ]] || fail "$*: exit code $code, not $want"
  says "$text" "$*"
}
# says TEXT [WHAT], not_said TEXT [WHAT]: of the last output.
says() { grep -qF -- "$1" "$work/out" || fail "${2:+$2: }nothing says '$1'"; }
not_said() { ! grep -qF -- "$1" "$work/out" || fail "${2:+$2: }it says '$1'"; }
# Text that is the same on every machine and after every commit.
corpus() { # FOLDER DOCUMENTS [OPTIONS OF write_corpus.py...]
  python3 "$source/tests/support/write_corpus.py" "$1" --documents "$2" "${@:3}"
}
