#!/usr/bin/env bash
# Makes a data set of Debian's Linux sources: the C files (*.c, *.h) and Documentation/ of linux-source-6.1.
#
#   ./launch/corpora/linux.sh FOLDER [VOCAB_SIZE]
#
# FOLDER gets source/ (the text), linux.model (the tokenizer, 16,384 pieces by default, trained on a sample of
# 20 MB), data/ (the data set: train, and valid and test with 1 % each) and tokenize.json (the figures). The package
# is fetched with apt (139 MB, not installed) unless /usr/src has it already. Needs 4 GB of disk; about 10 minutes on
# two cores. May be killed and run again: each stage goes on where it was.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0" >&2 && exit 2; }
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
fwl=${FWL:-$repository/build/bin/fwl}
vocab_size=${2:-16384}
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
[ -e data/manifest.json ] ||
  "$fwl" tokenize source --tokenizer linux.model --out data --split valid=0.01,test=0.01 --json tokenize.json
"$fwl" data check data
du -sh --apparent-size data
