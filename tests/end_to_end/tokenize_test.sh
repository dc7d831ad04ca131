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
printf 'odd \xff\xfe\x00 <s> \xe2\x96\x81 \xc3\n' >text/odd.py
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
check "the byte tokenizer needs no model" grep -q '"model": null' bytes/manifest.json
check "the tokenizer is in the manifest, nowhere else" test ! -e one/tokenizer.model
exits 0 data check one
for seed in 3 4; do exits 0 tokenize text --tokenizer byte --shuffle $seed --out "shuffled$seed"; done
exits 0 tokenize text --tokenizer byte --shuffle 3 --threads 1 --out again
check "a seed is an order" cmp shuffled3/train/shard-00000.h5 again/train/shard-00000.h5
check "another seed is another order" test -z "$(cmp -s shuffled3/train/shard-00000.h5 shuffled4/train/shard-00000.h5 && echo same)"
for order in bytes shuffled3; do exits 0 data text "$order" --out "$order-text"; done
check "the documents are the same" diff -r bytes-text shuffled3-text
exits 2 tokenize text --tokenizer byte --shuffle -1 --out d2

exits 2 tokenize text --tokenizer byte --out ds
exits 0 tokenize text --tokenizer byte --out ds --overwrite
check "an old tokenizer does not survive --overwrite" grep -q '"model": null' ds/manifest.json
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

exits 0 tokenize text --include '*.py' --tokenizer a.model --out back --split valid=0.1
exits 0 data check back --json check.json
check "a sound data set is good" grep -q '"ok": true' check.json
exits 0 data text back --out files
(cd text && find . -name '*.py' ! -path './__pycache__/*' ! -path './.hidden/*' | sort) >names.txt
check "as many files come back" test "$(cd files && find . -type f | sort)" = "$(cat names.txt)"
while read -r name; do cmp "text/$name" "files/$name" || failed=1; done <names.txt
exits 2 data text back --out files
exits 3 data check text
printf '\xff' | dd of=back/train/shard-00000.h5 bs=1 seek=700 conv=notrunc 2>dd.txt
exits 3 data check back --json check.json
check "the damaged file is named" grep -q '"file": "train/shard-00000.h5"' check.json
exits 2 data

# Sources: compressed, JSON lines, a pattern, standard input.
gzip -c text/pkg/file1.py >file1.py.gz
exits 0 tokenize file1.py.gz --tokenizer a.model --out gz
exits 0 data text gz --out gz-files
check "gzip gives its text" cmp text/pkg/file1.py gz-files/file1.py
printf '{"body": "one\\ntwo"}\n{"body": "three"}\n' >lines.jsonl
exits 3 tokenize lines.jsonl --tokenizer byte --out lines
check "the missing field's place is named" grep -q 'line 1' err.txt
exits 0 tokenize lines.jsonl --field body --tokenizer byte --out lines --overwrite --json lines.json
check "a document a line" grep -q '"documents": 2' lines.json
printf ' = A = \ntext\n = = B = = \n = C = \nmore\n' >wiki.txt
exits 0 tokenize - --stdin-name wiki --document-start '^ = [^=]+ = $' --tokenizer byte --out wiki --json wiki.json <wiki.txt
check "a document a title" grep -q '"documents": 2' wiki.json
exits 2 tokenize wiki.txt --document-start '([' --tokenizer byte --out w2
exits 0 tokenize wiki.txt --document-start 'matches nowhere' --tokenizer byte --out w3
check "a pattern that matches nowhere is said" grep -q 'cuts no file' err.txt
printf '{"text":"\xff \\ud800"}\n' >dump.jsonl
exits 0 tokenize dump.jsonl --tokenizer byte --out dump --json dump.json
check "bytes of JSON lines that are no UTF-8 are counted" grep -q '"invalid_utf8_bytes": 4' dump.json
mkdir links && ln -s ../wiki.txt links/link.txt && echo text >links/file.txt
exits 0 tokenize links --tokenizer byte --out linked --json linked.json
check "links are followed" grep -q '"documents": 2' linked.json
exits 3 data check links
check "a folder that is no data set is said" grep -q 'no data set' err.txt
exits 2 data text linked --out linked/inside
exits 0 tokenize 'text/pkg/file*.py' --tokenizer byte --out globbed --json globbed.json
check "a pattern names files" grep -q '"documents": 60' globbed.json
exits 0 tokenize text --tokenizer byte --out plain --compression none
exits 2 tokenize text --tokenizer byte --out plain2 --compression lzma

# Killed at any moment, it goes on and gives the same bytes.
mkdir big && for i in $(seq 400); do cat text/pkg/file*.py >"big/$i.txt"; done
slow=(tokenize big --tokenizer a.model --shard-tokens 400000 --group-bytes 20000000 --threads 2)
exits 0 "${slow[@]}" --out whole
for delay in 0.3 0.8 1.5; do
  "$fwl" "${slow[@]}" --out killed >out.txt 2>err.txt & pid=$!
  sleep "$delay"; kill -9 "$pid" 2>kill.txt; wait "$pid" 2>>kill.txt
done
if [[ ! -e killed/manifest.json ]]; then exits 0 "${slow[@]}" --out killed; fi
check "a killed run goes on to the same data set" diff -r whole killed
exits 0 data check killed

# Ranks write in parallel, with the same result.
if command -v mpirun >which.txt; then
  mpirun --allow-run-as-root --oversubscribe --bind-to none -n 2 "$fwl" "${slow[@]}" --out ranks --mpi >out.txt 2>err.txt
  check "two ranks succeed" test $? = 0
  check "ranks do not change the data set" diff -r whole ranks
fi

# Disk full.
(trap '' XFSZ; ulimit -f 20; exec "$fwl" tokenize big --tokenizer byte --out full --threads 2) >out.txt 2>err.txt
check "a full disk is a data error" test $? = 3
check "nothing is published on a full disk" test ! -e full/manifest.json -a -z "$(ls full/train)"

[[ $failed == 0 ]] && echo "all checks passed"
exit $failed
