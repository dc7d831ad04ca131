#!/usr/bin/env bash
# Makes a data set of Debian's Linux sources: the C files (*.c, *.h) and Documentation/ of linux-source-6.1.
#
#   ./launch/corpora/linux.sh FOLDER [VOCAB_SIZE] [PERCENT]
#
# FOLDER gets source/ (the text), linux.model (the tokenizer, 16,384 pieces by default, trained on a sample of
# 20 MB), data/ (the data set: train, and valid and test with 1 % each) and tokenize.json (the figures). With PERCENT
# (of the files, evenly from the whole tree) data/ is small enough to be carried to another machine: 15 is 60M tokens
# in 45 MB, with 2 % each in valid and test. The package is fetched with apt (139 MB, not installed) unless /usr/src
# has it already. Needs 4 GB of disk; about 10 minutes on two cores. May be killed and run again: each stage goes on
# where it was.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0" >&2 && exit 2; }
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
fwl=$(realpath "${FWL:-$repository/build/bin/fwl}")
vocab_size=${2:-16384} percent=${3:-100}
[[ $percent =~ ^[1-9][0-9]?$|^100$ ]] || { echo "error: PERCENT is '$percent' (the share of the files that are read). Give 1 to 100." >&2 && exit 2; }
package=linux-source-6.1
mkdir -p "$1"
cd "$1"

tarball=/usr/src/$package.tar.xz
if [ ! -e source ] && [ ! -e "$tarball" ]; then
  tarball=package/usr/src/$package.tar.xz
  if [ ! -e "$tarball" ]; then
    rm -rf package download && mkdir download
    (cd download && apt-get download -q "$package") ||
      { echo "error: apt cannot fetch $package (Debian 12 has it; run apt-get update, or put the tarball into /usr/src)." >&2 && exit 1; }
    dpkg-deb -x download/*.deb package.new
    mv package.new package
    rm -rf download
  fi
fi

if [ ! -e source ]; then
  rm -rf source.new && mkdir source.new
  tar -xJf "$tarball" -C source.new --strip-components=1 --no-same-owner --wildcards '*.c' '*.h' '*/Documentation/*'
  find source.new -type l -delete
  mv source.new source
fi

[ -e linux.model ] || "$fwl" tokenizer train source --vocab-size "$vocab_size" --sample-bytes 20000000 --out linux.model
text=source held_out=0.01
if [ "$percent" -lt 100 ]; then
  text=part-$percent held_out=0.02
  if [ ! -e "$text" ]; then
    rm -rf "$text.new" && mkdir "$text.new"
    (cd source && find . -type f | LC_ALL=C sort | awk -v percent="$percent" 'int(NR * percent / 100) > int((NR - 1) * percent / 100)' |
      tr '\n' '\0' | xargs -0 cp --link --parents -t "../$text.new")
    mv "$text.new" "$text"
  fi
fi
[ -e data/manifest.json ] ||
  "$fwl" tokenize "$text" --tokenizer linux.model --out data --split valid=$held_out,test=$held_out --json tokenize.json
"$fwl" data check data
du -sh --apparent-size data
