#!/usr/bin/env bash
# Public reports about inputs, tried on `fwl tokenize` and its like: what a file is decides its content, nothing good is
# replaced before the new is whole, all ranks read one list. Args: FWL_BINARY SOURCE_DIR
set -uo pipefail
. "$(dirname "$0")/../support/shell_test.sh"
cd "$work" || exit 1
tok=("$fwl" tokenize --tokenizer byte)
number() { python3 -c 'import json, sys; v = json.load(open(sys.argv[1]))
for k in sys.argv[2].split("."): v = v[k]
print(v)' "$@"; }
is() { [[ "$2" == "$3" ]] || fail "$1: '$2', not '$3'"; echo "ok: $1"; }
# text_of SOURCE...: its documents, one after the other.
text_of() {
  rm -rf ds back
  quietly "${tok[@]}" --out ds "$@"
  quietly "$fwl" data text ds --out back
  find back -type f | LC_ALL=C sort | xargs -d '\n' cat
}

# ---- R4: what a file is, is decided by its first bytes
printf '{"text":"one"}\n{"text":"two"}\n' >l.jsonl
python3 - <<'PY'
import bz2, gzip, io, json, lzma, os, random, struct, tarfile, zipfile
lines = open('l.jsonl', 'rb').read()
os.makedirs('good', exist_ok=True); os.makedirs('bad', exist_ok=True)
def good(name, data): open('good/' + name, 'wb').write(data)
def bad(name, data): open('bad/' + name, 'wb').write(data)
for name in 'a.json b.ndjson c.JSONL d.NdJson e.JSON'.split(): good(name, lines)
good('blank.json', b'\n \n' + lines)
good('mark.json', b'\xef\xbb\xbf' + lines)
for kind, pack in ('gz', gzip.compress), ('bz2', bz2.compress), ('xz', lzma.compress):
    good('x.json.' + kind, pack(lines))
    good('y.JSONL.' + kind.upper(), pack(lines))
    good('named-otherwise-' + kind + '.jsonl', pack(lines))
    good('parts.jsonl.' + kind, pack(lines[:15]) + pack(lines[15:]))
    good('padded.jsonl.' + kind, pack(lines) + bytes(512))
good('twice.jsonl.gz.bz2', bz2.compress(gzip.compress(lines)))
good('nan.jsonl', b'{"text":"one","score":NaN,"a":[-Infinity,{"b":Infinity}]}\n{"text":"two","n":1e999,"m":-1E+4000}\n')
# What is no text, and the word that names it.
tar = io.BytesIO()
with tarfile.open(fileobj=tar, mode='w', format=tarfile.USTAR_FORMAT) as t: t.add('l.jsonl')
old = bytearray(tar.getvalue()); old[257:265] = bytes(8); old[148:156] = b'        '
old[148:156] = b'%06o\0 ' % sum(old[:512])
zipped = io.BytesIO()
with zipfile.ZipFile(zipped, 'w') as z: z.writestr('x.txt', 'hello')
for name, data in {
    'zip archive': zipped.getvalue(), 'tar archive': tar.getvalue(), 'tar archive.old': bytes(old),
    'tar archive.xz': lzma.compress(tar.getvalue()), 'Parquet table': b'PAR1\x15\x04\x15\x00PAR1',
    'Arrow file': b'ARROW1\0\0' + bytes(64), 'Arrow stream': struct.pack('<iI', -1, 16) + bytes(16),
    'HDF5 file': b'\x89HDF\r\n\x1a\n' + bytes(8), 'PDF document': b'%PDF-1.4\n', '7z archive': b"7z\xbc\xaf'\x1c\0\4",
    'rar archive': b'Rar!\x1a\x07\1\0', 'SQLite database': b'SQLite format 3\0' + bytes(16), 'PNG image': b'\x89PNG\r\n\x1a\n',
    'lz4 data': b'\x04\x22\x4d\x18\x60', 'zero bytes': bytes(500), 'JSON array': json.dumps([{'text': 'a'}], indent=1).encode(),
    'JSON object over': json.dumps({'text': 'a', 'b': [1]}, indent=1).encode(), 'JSON array.compact': b'[{"text":"a"}]\n',
}.items(): bad(name + ('.json' if name.startswith('JSON') else ''), data)
for e in 'UTF-16LE', 'UTF-32BE': bad(e + ' text.bare', 'hello world\n'.encode(e))  # all eight: document_reader_test
for e in 'UTF-16BE', 'UTF-32LE': bad(e + ' text.marked', '\ufeffhello world\n'.encode(e))
bad('UTF-16LE text.jsonl', b'\xff\xfe' + lines.decode().encode('utf-16le'))
# Damage: a name that says more than the file holds, and streams that end early.
os.makedirs('damaged', exist_ok=True)
random.seed(1); much = bytes(random.choice(b'abcdefgh \n') for _ in range(40000))
for kind, pack, damage in (('gz', gzip.compress, 'second'), ('bz2', bz2.compress, 'cut'), ('xz', lzma.compress, 'cut')):
    whole = pack(much)
    open(f'damaged/{damage}.{kind}', 'wb').write(whole[:-9] if damage == 'cut' else whole + whole[:4])
open('damaged/zeros.gz', 'wb').write(bytes(1000))
open('damaged/empty.ZST', 'wb'); open('damaged/zeros.zst', 'wb').write(bytes(99))
open('trailing.txt.gz', 'wb').write(gzip.compress(b'one\n') + b'garbage')
for n in 'big', 'other': os.makedirs(n, exist_ok=True)
PY
if command -v zstd >which.txt; then
  zstd -q l.jsonl -o good/z.jsonl.zst
  head -c 100000 /dev/zero | tr '\0' x | zstd -q --long=31 >window.txt.zst
  (cat good/z.jsonl.zst | head -c 12) >damaged/cut.zst
fi
files=$(find good -type f | wc -l)
quietly "${tok[@]}" good --out ds --json good.json; quietly "$fwl" data text ds --out back
is "two documents of each of $files files" "$(number good.json documents)" $((2 * files))
is "nothing but their texts" "$(find back -type f -exec cat {} + | sed 's/one\|two/&\n/g' | sort | uniq -c | tr -s ' \n' ' ')" " $files one $files two "
is "a name in another case" "$(text_of good/c.JSONL)$(text_of good/y.JSONL.XZ)" onetwoonetwo
for file in bad/*; do
  name=$(basename "$file"); word=${name%%.*}
  rm -rf ds; refused 3 "$word" "${tok[@]}" "$file" --out ds
  says "$file"
done
for file in damaged/*; do rm -rf ds; refused 3 "'$file'" "${tok[@]}" "$file" --out ds; done
is "other bytes behind the last member" "$(text_of trailing.txt.gz)" one
quietly "${tok[@]}" trailing.txt.gz --out ds --overwrite; says "left out"
if [[ -e window.txt.zst ]]; then
  quietly "${tok[@]}" window.txt.zst --out ds --overwrite --json w.json
  is "a window of 2 GiB" "$(number w.json bytes)" 100000
fi
is "--format jsonl" "$(cp l.jsonl x.txt; text_of x.txt --format jsonl)" onetwo
is "--format text" "$(text_of good/a.json --format text)" "$(cat l.jsonl)"
quietly "${tok[@]}" x.txt --out ds --overwrite; says "give --format jsonl"
mkdir mixed; cp good/a.json x.txt good/b.ndjson mixed
quietly "${tok[@]}" mixed --out ds --overwrite; says "sources: 1 text, 2 JSON lines"
# The same files, for tokenizer training, scoring and prompts.
corpus text 12
refused 3 "UTF-16LE" "$fwl" tokenizer train "bad/UTF-16LE text.bare" text --vocab-size 400 --out t.model
refused 3 "Parquet" "$fwl" tokenizer train "bad/Parquet table" text --vocab-size 400 --out t.model
[[ ! -e t.model ]] || fail "a refused training wrote a model"
quietly "$fwl" tokenizer train text good/x.json.gz good/y.JSONL.XZ --vocab-size 400 --out t.model

# ---- links
mkdir -p linked/in other/deep
echo 1 >linked/a.txt; echo 2 >other/b.txt; echo 3 >other/deep/c.txt
ln -s "$work/other/b.txt" linked/b.txt; ln -s a.txt linked/z.txt; ln -s "$work/other/deep" linked/in/deep; ln -s nowhere linked/broken.txt
ln -s .. linked/in/up; ln -s self linked/self; ln -s ../../other/deep linked/in/again
is "links are followed, each file once" "$(text_of linked | tr '\n' ' ')" "1 2 3 "
quietly "${tok[@]}" linked --out ds --overwrite
for link in broken.txt in/up self; do says "linked/$link"; done
says "leads in a circle"; says "leads to nothing"
refused 2 "reached by two" "${tok[@]}" linked linked/a.txt --out ds2
refused 3 "nowhere" "${tok[@]}" nowhere --out ds2

# ---- what this user may not look at is neither missing nor passed over, and is said before anything is read
if command -v setpriv >/dev/null && [[ $(id -u) == 0 ]]; then
  nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
  chmod 755 "$work"; mkdir -m 777 free
  mkdir -p hidden seen sets/a sets/b late
  echo 1 | tee hidden/h.txt seen/s.txt sets/a/x.txt sets/b/x.txt late/1.txt late/2.txt >/dev/null
  ln -s "$work/hidden/h.txt" seen/link.txt; chmod 700 hidden sets/b; chmod 000 late/2.txt
  if nobody test -x "$fwl"; then
    while read -r path words; do
      refused 3 "Permission denied" nobody "${tok[@]}" "$path" --out free/out; says "$words" "$path"
      not_said "leads to nothing" "$path"; [[ ! -e free/out ]] || fail "$path: work was begun"
    done <<'ROWS'
seen seen/link.txt
sets/*/x.txt sets/b
late late/2.txt
hidden hidden
ROWS
    quietly nobody "${tok[@]}" seen --out free/out --exclude 'link*'
  fi
  chmod 755 hidden sets/b; chmod 644 late/2.txt
fi

# ---- a standard input that does not wait
(sleep 3; echo late) | python3 -c 'import os, sys; os.set_blocking(0, False); os.execvp(sys.argv[1], sys.argv[1:])' \
  "${tok[@]}" - --out unwaited >out 2>&1 || fail "standard input without waiting: $(cat out)"

# ---- names that cannot be written back, and a data set among its sources whose name is a pattern
for name in '' . .. ../x a/../b /x a/; do refused 2 "--stdin-name '$name'" "${tok[@]}" - --stdin-name "$name" --out ds2; done
mkdir among; echo 1 >among/a.txt
(cd among; for turn in 1 2; do quietly "${tok[@]}" . --out 'd[1]*' --overwrite; done) || exit 1
is "a data set is none of its own sources" "$(number 'among/d[1]*/manifest.json' splits.train.documents)" 1

# ---- R7: bad lines, and a repaired source
for i in $(seq 2000); do printf '{"text":"document %s with some words in it"}\n' "$i"; done >whole.jsonl
cp whole.jsonl big.jsonl; printf '{"text":null}\n{"url":"x"}\n{"text":["a","b"]}\n{"text":"cut' >>big.jsonl
lines=("${tok[@]}" big.jsonl --out o7 --shard-tokens 10000)
refused 3 "line 2001" "${lines[@]}"; says "--bad-lines skip"
is "finished shards stay" "$(ls o7/train/*.h5 | wc -l)" 7
quietly "${lines[@]}" --bad-lines skip --json skip.json
is "finished shards are kept" "$(number skip.json shards_kept)" 7
is "bad lines are counted" "$(number skip.json bad_lines) $(number o7/manifest.json bad_lines) $(number skip.json documents)" "4 4 2000"
for line in 2001 2002 2003 2004; do says "big.jsonl, line $line"; done
rm -r o7; refused 3 "line 2001" "${lines[@]}"
cp whole.jsonl big.jsonl                                                   # repaired
quietly "${lines[@]}" --json repaired.json
is "shards before the repair are kept" "$(number repaired.json shards_kept)" 7
quietly "${tok[@]}" big.jsonl --out again --shard-tokens 10000
diff -r again o7 >/dev/null || fail "a repaired build differs from a fresh one"
rm -r o7; cp whole.jsonl big.jsonl; echo oops >>big.jsonl; refused 3 "line 2001" "${lines[@]}"
sed '700s/some/other/' whole.jsonl >big.jsonl                              # repaired, and changed in the middle
quietly "${lines[@]}" --json changed.json
is "shards of other text are not kept" "$(number changed.json shards_kept)" 2
quietly "${tok[@]}" big.jsonl --out again2 --shard-tokens 10000; diff -r again2 o7 >/dev/null || fail "a stale shard was kept"
printf '{"a":1}\n{"a":2}\n' >none.jsonl; refused 3 "all 2 lines are bad" "${tok[@]}" none.jsonl --bad-lines skip --out o8
quietly "$fwl" tokenizer train whole.jsonl none.jsonl --bad-lines skip --vocab-size 300 --out s.model; says "2 bad line(s)"

# ---- S6: --overwrite replaces at the end
quietly "${tok[@]}" whole.jsonl --out dov --split test=0.1; cp -r dov before
cp whole.jsonl bad.jsonl; echo '{"text":null}' >>bad.jsonl
refused 3 "line 2001" "${tok[@]}" bad.jsonl --out dov --overwrite
diff -r dov before >/dev/null || fail "a failed --overwrite changed the data set"; quietly "$fwl" data check dov
ls -d dov.* 2>/dev/null && fail "a failed --overwrite without a shard left a folder"
refused 3 "line 2001" "${tok[@]}" bad.jsonl --out dov --overwrite --shard-tokens 9000
diff -r dov before >/dev/null || fail "a failed --overwrite changed the data set"
quietly "$fwl" data check dov; says "dov.unfinished"
quietly "${tok[@]}" bad.jsonl --out dov --overwrite --shard-tokens 9000 --bad-lines skip --json kept.json
[[ $(number kept.json shards_kept) -gt 4 && ! -e dov.unfinished ]] || fail "--overwrite does not go on, or leaves its folder"
quietly "${tok[@]}" bad.jsonl --out plain --shard-tokens 9000 --bad-lines skip; diff -r plain dov || fail "it differs from a fresh one"
ln -s dov link; quietly "${tok[@]}" text --out link --overwrite; [[ -L link ]] || fail "the link was replaced"
quietly "$fwl" data check dov
mkdir foreign; cp -r plain/* foreign; echo mine >foreign/notes.txt
refused 2 "notes.txt" "${tok[@]}" text --out foreign --overwrite; grep -q mine foreign/notes.txt || fail "a foreign file is gone"
for i in $(seq 30); do cat text/*.txt; done >long.txt
"${tok[@]}" long.txt --documents blocks --out dov --overwrite --threads 1 >out 2>&1 & pid=$!
for _ in $(seq 200); do [[ -e dov.unfinished/journal.json ]] && break; sleep 0.02; done
kill -9 $pid 2>/dev/null; wait $pid 2>/dev/null
quietly "$fwl" data check dov
quietly "${tok[@]}" long.txt --documents blocks --out dov --overwrite; quietly "$fwl" data check dov; not_said unfinished

# ---- R29: one file, cut; held-out text from its own files
for i in $(seq 400); do printf 'line %s\n' "$i"; [[ $((i % 4)) == 0 ]] && echo; done >input.txt
quietly "${tok[@]}" input.txt --out one --split valid=0.5; says "--documents blocks"
for how in lines:400 blocks:100; do
  quietly "${tok[@]}" input.txt --out "cut-${how%:*}" --documents "${how%:*}" --split valid=0.3 --json cut.json
  is "documents of ${how%:*}" "$(number cut.json documents)" "${how#*:}"
  [[ $(number cut.json splits.valid.documents) -gt 10 ]] || fail "an empty split"
  quietly "${tok[@]}" input.txt --out "again-${how%:*}" --documents "${how%:*}" --split valid=0.3 --threads 3 --group-bytes 1
  cmp "cut-${how%:*}/manifest.json" "again-${how%:*}/manifest.json" || fail "threads change the cut"
done
quietly "${tok[@]}" input.txt --out big-parts --documents lines --document-bytes 1000 --json parts.json
is "documents of 1000 bytes" "$(number parts.json documents)" 4
rm -rf back; quietly "$fwl" data text big-parts --out back; cat back/input.txt/{1,2,3,4} | cmp - input.txt || fail "the parts are not the file"
refused 2 "has no effect" "${tok[@]}" input.txt --out w --document-bytes 10
refused 2 "Give one of them" "${tok[@]}" input.txt --out w --documents lines --document-start '^x'
mkdir held; echo held >held/v.txt; echo tested >t.txt
quietly "${tok[@]}" text --valid held --test t.txt --out dheld --json held.json
is "held-out splits" "$(number held.json splits.valid.bytes) $(number held.json splits.test.bytes) $(number held.json splits.train.documents)" "5 7 12"
refused 2 "contradict" "${tok[@]}" text --valid held --split test=0.1 --out w
refused 2 "another split" "${tok[@]}" text --valid text/0001.txt --out w
[[ ! -e w ]] || fail "a refused command made a folder"

# ---- R22: names that are no UTF-8
mkdir lat; cp text/0000.txt lat/$'caf\xe9.txt'
quietly "${tok[@]}" lat --out $'o\xe9' --json k22.json; python3 -m json.tool k22.json >/dev/null || fail "no JSON"
quietly "$fwl" data check $'o\xe9' --json c22.json; quietly "$fwl" inspect $'o\xe9' --json i22.json
rm -rf back; quietly "$fwl" data text $'o\xe9' --out back
cmp text/0000.txt back/$'caf\xe9.txt' || fail "the name does not lead back"
printf '{"x":1}\n{"text":"a"}\n' >lat/$'l\xe9.jsonl'
quietly "${tok[@]}" lat --bad-lines skip --out o22 --json b22.json; is "bad lines of such a file" "$(number b22.json bad_lines)" 1

# S8: a run of such a data set saves, resumes, and its config names the folders
cp -r dheld $'d\xe9 x'
train=("$fwl" train "$source/launch/configs/tiny.yaml" --set data.path=$'d\xe9 x' --set run.dir=$'r\xe9 y' --set train.device=cpu
  --set model.context=32 --set train.global_batch=2 --set train.save_every=1 --set train.log_every=1 --set train.warmup_steps=0 --set train.resume=auto)
quietly "${train[@]}" --set train.steps=2 --json t22.json
[[ -e $'r\xe9 y/checkpoints/step-0000002/manifest.json' ]] || fail "no checkpoint"
quietly "${train[@]}" --set train.steps=3 --allow-changes; says "2"
quietly "$fwl" train $'r\xe9 y/config.yaml' --set train.steps=4 --set train.resume=auto --allow-changes
quietly "$fwl" inspect $'r\xe9 y' --json i22.json; quietly "$fwl" report $'r\xe9 y' --out r22.html --json r22.json
quietly "$fwl" eval $'r\xe9 y' --data $'d\xe9 x/test' --modes slow --json e22.json
for f in t22 i22 r22 e22; do python3 -m json.tool $f.json >/dev/null || fail "$f.json is no JSON"; done

# ---- R42, S1: tokenizers of text without blanks
python3 - <<'PY'
import random
random.seed(1)
open('dna.txt', 'w').write('\n'.join(''.join(random.choice('ACGT') for _ in range(70)) for _ in range(500)))
open('zh.txt', 'w').write(''.join(chr(0x4e00 + random.randrange(200)) for _ in range(60000)))
t = [chr(0x3041 + random.randrange(80)) for _ in range(60000)]
for _ in range(4): t.insert(random.randrange(len(t)), ' ')
open('ja.txt', 'w').write(''.join(t))
PY
for name in dna:340 zh:600 ja:500; do
  text=${name%:*}
  quietly "$fwl" tokenizer train "$text.txt" --vocab-size "${name#*:}" --out "$text.model"
  rm -rf ds back; quietly "$fwl" tokenize "$text.txt" text --tokenizer "$text.model" --out ds; quietly "$fwl" data text ds --out back
  cmp "$text.txt" "back/$text.txt" && cmp text/0001.txt back/0001.txt || fail "$text: the text does not come back"
done

# ---- S26: outputs do not replace what is read, nor files of runs and checkpoints
quietly "$fwl" tokenizer train text --vocab-size 400 --out keep.model; cp keep.model kept
quietly "$fwl" tokenizer train text --vocab-size 400 --out keep.model                 # the same again is fine
refused 2 "holds another tokenizer" "$fwl" tokenizer train whole.jsonl text --vocab-size 400 --out keep.model
refused 2 "holds a tokenizer of 400" "$fwl" tokenizer train text --vocab-size 350 --out keep.model
cmp kept keep.model || fail "the tokenizer was replaced"
quietly "$fwl" tokenizer train text --vocab-size 350 --out keep.model --overwrite
cp text/0000.txt x.txt; ln -s x.txt y.txt
mkdir -p run/checkpoints/step-0000001 nowrite; echo 'a: 1' >run/config.yaml; : >run/log.jsonl
echo '{}' >run/checkpoints/step-0000001/manifest.json; : >run/checkpoints/step-0000001/rank-00000.h5; echo step-0000001 >run/checkpoints/latest
while IFS='|' read -r code word command; do
  eval "refused $code '$word' $command"
done <<'TABLE'
2|x.txt|"$fwl" tokenizer train x.txt --vocab-size 300 --out x.txt
2|x.txt|"$fwl" tokenizer train x.txt --vocab-size 300 --out m.model --json x.txt
2|names too|"$fwl" tokenizer train x.txt --vocab-size 300 --out m.model --json m.model
2|is no tokenizer|"$fwl" tokenizer train text --vocab-size 300 --out t.txt
2|names too|"${tok[@]}" x.txt --out w --json x.txt
2|x.txt|"${tok[@]}" y.txt --out w --json x.txt
2|one of the files|"${tok[@]}" text --out w --json text/0003.txt
2|names too|"$fwl" score run x.txt --json ./x.txt
2|names too|"$fwl" score run x.txt --json s --html s
2|a file of a checkpoint|"$fwl" generate run --prompt a --state-out run/checkpoints/latest
2|a file of a checkpoint|"$fwl" inspect text --json run/checkpoints/step-0000001/new.json
2|a file of a run|"$fwl" inspect text --json run/config.yaml
2|a file of a data set|"$fwl" data check plain --json plain/manifest.json
2|a file of a data set|"$fwl" data check plain --json plain/train/shard-00000.h5
2|checkpoint|"$fwl" export run --out run/checkpoints/step-0000001
2|data set|"$fwl" export run --out plain
2|a folder of a data set|"$fwl" export run --out plain/train
2|a folder of a data set|"$fwl" export run --out plain/train/new
2|a folder of a data set|"${tok[@]}" x.txt --out plain/train
2|a folder of a checkpoint|"${tok[@]}" x.txt --out run/checkpoints/new
2|a folder of a data set|"$fwl" data text dov --out plain/train/new
2|a folder of a checkpoint|"$fwl" data text dov --out run/checkpoints/step-0000001
2|a folder of a data set|"$fwl" import-gpt2 none --out plain
2|a folder of a checkpoint|"$fwl" import-gpt2 none --out run/checkpoints/new
2|cannot be a folder|"$fwl" data text dov --out x.txt
2|cannot be a folder|"${tok[@]}" x.txt --out x.txt/deep
2|is empty|"$fwl" data check plain --json ''
3|does not exist|"$fwl" data check plain --json none/x.json
3|is no regular file|"$fwl" data check plain --json text
TABLE
cmp text/0000.txt x.txt || fail "an input was replaced"
[[ ! -e w && ! -e m.model ]] || fail "a refused command wrote"
quietly "$fwl" data check plain --json run/check.json

# ---- systems 2: one list of files for all ranks
mpi() { mpirun --allow-run-as-root --oversubscribe --bind-to none "$@"; }
if command -v mpirun >which.txt; then
  mkdir -p A B
  for i in $(seq -w 20); do printf 'document %s %s\n' "$i" "$(head -c 300 text/0001.txt)" >"A/$i.txt"; done
  cp -p A/*.txt B; mkdir A/s B/s; mv A/*.txt A/s; mv B/*.txt B/s
  quietly "${tok[@]}" A/s --out serial --shard-tokens 300 --group-bytes 600
  both() { mpi -wdir "$work/A" -n 1 "${tok[@]}" s --mpi --out "$work/$1" --shard-tokens 300 --group-bytes 600 : \
    -wdir "$work/B" -n 1 "${tok[@]}" s --mpi --out "$work/$1" --shard-tokens 300 --group-bytes 600; }
  quietly both equal; diff -r serial equal >/dev/null || fail "two ranks with equal copies give another data set"
  echo "ok: two ranks, equal copies"
  echo new >B/s/00.txt
  quietly both more; diff -r serial more >/dev/null || fail "a file that rank 0 does not list changed the data set"
  echo "ok: rank 0's list is everybody's"
  for option in --valid --test; do
    refused 2 "cannot read standard input" mpi -n 2 "${tok[@]}" A/s $option - --mpi --out stdin
    [[ ! -e stdin ]] || fail "$option -: something was written"
  done
  for f in B/s/*.txt; do [[ $f == B/s/00.txt ]] || rm "$f"; done
  refused 3 "is not as rank 0 has listed it" both less
  [[ ! -e less/manifest.json ]] || fail "a data set was published"
  cp A/s/*.txt B/s; refused 3 "cp -p" both times
fi
echo "all checks passed"
