#!/usr/bin/env bash
# What is installed runs from its prefix, says what it is made of, in every place the same, and completes its commands in a shell.
#   install_test.sh FWL_BINARY SOURCE_DIR
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../support/shell_test.sh"

echo "== what it is"
"$fwl" --version >"$work/version"
while read -r pattern; do
  grep -qxE "$pattern" "$work/version" || fail "--version has no line '$pattern': $(paste -sd' ' "$work/version")"
done <<'T'
fwl [0-9]+\.[0-9]+\.[0-9]+
commit ([0-9a-f]{12}(-dirty)?|unknown)
compiler (g|clang)\+\+ [0-9.]+
libtorch 2\.11\.0
cuda ([0-9.]+|none)
nccl ([0-9.]+|none)
mpi .*[0-9]+\.[0-9]+.*
hdf5 1\.[0-9.]+
T
[[ $(wc -l <"$work/version") == 8 ]] || fail "--version has not eight lines: $(cat "$work/version")"
if [[ $(git -C "$source" rev-parse --show-toplevel 2>/dev/null) == "$source" ]]; then
  commit=$(sed -n 's/^commit \([0-9a-f]*\).*/\1/p' "$work/version")  # of the last build, which may be behind
  git -C "$source" merge-base --is-ancestor "${commit:-none}" HEAD || fail "'$commit' is no commit that these sources come from"
fi
echo "ok: fwl --version"

echo "== from a prefix"
prefix="$work/a prefix"
quietly cmake --install "$(dirname "$fwl")/.." --prefix "$prefix"
cd /
quietly "$prefix/bin/fwl" --version
cmp -s "$work/out" "$work/version" || fail "the installed program says something else of itself"
corpus "$work/text" 40
quietly "$prefix/bin/fwl" tokenize --tokenizer byte --out "$work/data" "$work/text"
quietly "$prefix/share/fwl/launch/mpirun.sh" -n 2 --no-check train "$prefix/share/fwl/launch/configs/tiny.yaml" --set data.path="$work/data" \
  --set run.dir="$work/run" --set train.steps=2 --set train.log_every=1 --set train.device=cpu
quietly "$prefix/bin/fwl" inspect "$work/run" --json "$work/inspected.json"
python3 - "$work" <<'P' || fail "the log or the checkpoint names other versions than --version"
import json, sys
work = sys.argv[1]
said = dict(line.rstrip("\n").split(" ", 1) for line in open(work + "/version"))
log = [json.loads(line) for line in open(work + "/run/log.jsonl")]
assert log[0]["program"] == said, log[0].get("program")
assert all("program" not in line for line in log[1:])
assert json.load(open(work + "/inspected.json"))["written_by"]["program"] == said
P
echo "ok: an installed program trains, and log and checkpoint name its versions"

echo "== completion"
quietly "$fwl" completion bash
cp "$work/out" "$work/completion"
completed() { # WORDS...: what the last one becomes
  bash -c '. "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _fwl; printf "%s\n" "${COMPREPLY[@]}"' "$work/completion" "$@" 2>/dev/null | sort | paste -sd' '
}
while IFS='|' read -r typed wanted; do
  read -ra words <<<"$typed"
  [[ $typed == *' ' ]] && words+=('')
  got=$(completed "${words[@]}")
  [[ " $got " == *" $wanted "* ]] || fail "'$typed' becomes '$got', without '$wanted'"
done <<'T'
fwl tok|tokenize tokenizer
fwl data |check
fwl train config.yaml --print|--print-config
fwl train config.yaml --set model.fast_weight.ch|model.fast_weight.chunk=
fwl data check --js|--json
fwl |train
T
[[ -z $(completed fwl train nothing-that-is) ]] || fail "a file name is completed as an option"
if command -v zsh >/dev/null; then
  quietly zsh -fc 'source <("$0" completion zsh) && (( $+functions[_fwl] ))' "$fwl"
  echo "ok: bash and zsh"
else
  echo "ok: bash (no zsh here)"
fi
refused 2 "fish not in" "$fwl" completion fish
