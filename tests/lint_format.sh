#!/usr/bin/env bash
# Every source is laid out as .clang-format says. Other versions of clang-format lay out a few lines in another way.
#   lint_format.sh SOURCE_DIR
set -euo pipefail
cd "$1"
for format in clang-format-14 clang-format ''; do
  [[ -n $format ]] || { echo "SKIPPED: clang-format 14 is not here (Debian 12: apt install clang-format)"; exit 77; }
  if [[ $("$format" --version 2>/dev/null) == *' version 14.'* ]]; then break; fi
done
if [[ -d .git ]]; then mapfile -t files < <(git ls-files '*.h' '*.cpp' '*.cu'); else mapfile -t files < <(find core data parallel checkpoints launch tests -name '*.h' -o -name '*.cpp' -o -name '*.cu'); fi
printf '%s\n' "${files[@]}" | xargs -P 2 -n 64 "$format" --dry-run -Werror || { echo "Run: $format -i FILE"; exit 1; }
echo "ok: ${#files[@]} files"
