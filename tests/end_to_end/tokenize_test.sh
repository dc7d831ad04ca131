#!/usr/bin/env bash
# From text to a data set with the `fwl` program: results, determinism and exit codes. Args: FWL_BINARY SOURCE_DIR
set -uo pipefail
fwl=$(realpath "$1")
work=$(mktemp -d "${TMPDIR:-/tmp}/fwl-tokenize-XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failed=0

# check WHAT COMMAND...: the command must succeed.
check() {
  local what=$1
  shift
  if "$@"; then echo "ok: $what"; else echo "FAILED: $what"; failed=1; fi
}
# exits CODE ARGS...: fwl must end with this code, and say why when it is not 0.
exits() {
  local code=$1 got
  shift
  "$fwl" "$@" >out.txt 2>err.txt
  got=$?
  if [[ $got != "$code" ]]; then
    echo "FAILED: fwl $* ended with $got, not $code:"; cat out.txt err.txt; failed=1
  elif [[ $code != 0 && ! -s err.txt ]]; then
    echo "FAILED: fwl $* ended with $code and said nothing"; failed=1
  else
    echo "ok: exit $code: fwl $*"
  fi
}

# 60 small source files, some of them awkward.
mkdir -p text/pkg text/.hidden text/__pycache__
for i in $(seq 60); do
  for j in $(seq 12); do
    printf 'def function_%s_%s(value, index):\n    """Returns %s."""\n    return value[index] + %s\n\n\n' "$i" "$j" "$j" "$i"
  done >"text/pkg/file$i.py"
done
: >text/empty.py
printf '\xff\xfe\x00 <s> \xe2\x96\x81 \xc3\n' >text/odd.py
echo hidden >text/.hidden/no.py
echo cached >text/__pycache__/no.py
echo prose >text/readme.txt

exits 0 tokenizer train text --include '*.py' --vocab-size 400 --out a.model --json train.json
exits 0 tokenizer train text --include '*.py' --vocab-size 400 --out b.model
check "training is deterministic" cmp a.model b.model
check "training writes JSON" grep -q '"vocab_size": 400' train.json
exits 2 tokenizer train text --include '*.py' --vocab-size 90000 --out c.model
check "a vocabulary that is too large names what fits" grep -qE 'at most [0-9]+' err.txt
check "a failed training writes no model" test ! -e c.model
exits 2 tokenizer train text --out c.model
exits 2 tokenizer
exits 3 tokenizer train none --vocab-size 400 --out c.model
exits 3 tokenizer train text --include '*.cpp' --vocab-size 400 --out c.model

exits 0 tokenize text --include '*.py' --tokenizer a.model --out ds --split valid=0.1,test=0.1 --json ds.json
check "all documents are there" grep -q '"documents": 62' ds.json
exits 0 tokenize text --include '*.py' --tokenizer a.model --out one --split valid=0.1,test=0.1 --threads 1
exits 0 tokenize text --include '*.py' --tokenizer a.model --out three --split valid=0.1,test=0.1 --threads 3
check "threads do not change the data set" cmp one/manifest.json three/manifest.json
check "threads do not change the shards" cmp one/train/shard-00000.h5 three/train/shard-00000.h5
exits 0 tokenize text --include '*.py' --tokenizer a.model --out small --shard-tokens 1000
check "small shards are numbered" test -s small/train/shard-00003.h5
exits 0 tokenize text --tokenizer byte --out bytes
check "the byte tokenizer needs no model" test ! -e bytes/tokenizer.model

exits 2 tokenize text --tokenizer byte --out ds
exits 0 tokenize text --tokenizer byte --out ds --overwrite
check "an old tokenizer does not survive --overwrite" test ! -e ds/tokenizer.model
mkdir other && echo mine >other/notes.txt
exits 2 tokenize text --tokenizer byte --out other --overwrite
check "other files are left alone" grep -q mine other/notes.txt
exits 2 tokenize text --tokenizer byte --out d2 --split valid=2
exits 2 tokenize text --tokenizer byte --out d2 --nonsense
exits 3 tokenize none --tokenizer byte --out d2
exits 3 tokenize text --tokenizer none.model --out d2
exits 3 tokenize text --tokenizer text/readme.txt --out d2
check "refused commands leave no folder" test ! -e d2
exits 0 tokenize --help
exits 0 tokenizer train --help

for path in one one/valid one/train/shard-00000.h5 a.model bytes; do exits 0 inspect "$path" --json inspect.json; done
exits 3 inspect none
head -c 3000 one/train/shard-00000.h5 >cut && mv cut one/train/shard-00000.h5
exits 3 inspect one/train/shard-00000.h5
exits 3 inspect one
echo '{' >bytes/manifest.json
exits 3 inspect bytes
head -c 1000 a.model >cut.model
exits 3 inspect cut.model

[[ $failed == 0 ]] && echo "all checks passed"
exit $failed
