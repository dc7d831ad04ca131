#!/usr/bin/env bash
# The page of `fwl score --html` in a real browser: light and dark, at two widths, every text readable on its colour (contrast 4.5 or
# more), no script, no request, nothing wider than the screen. Needs Debian's package chromium.
#
#   tests/end_to_end/score_page_test.sh FWL SOURCE [FOLDER]      FOLDER: screenshots and page are left there
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../support/shell_test.sh"
shots=$(realpath "${3:-$work}")/shots
mkdir -p "$shots"
. "$source/tests/support/browse.sh"

cd "$work"
corpus text 13 --bytes 1400
"$fwl" tokenize text --tokenizer byte --out data >/dev/null
quietly "$fwl" train "$source/launch/configs/tiny.yaml" --set data.path=data --set run.dir=run --set train.device=cpu --set train.steps=40
quietly "$fwl" score run text/0003.txt --device cpu --context 256 --html "$shots/score.html"

for width in 1280 390; do
  for scheme in light dark; do
    browse "$width" "$scheme" "$shots/score.html" "$work/$width-$scheme"
    python3 - "$work/$width-$scheme/verdict" "$width" "$scheme" <<'P' || fail "the page at $width pixels, $scheme: $(cat "$work/$width-$scheme/verdict")"
import json, sys
v, width, scheme = json.load(open(sys.argv[1])), int(sys.argv[2]), sys.argv[3]
assert v["inner"] == width and v["scroll"] <= width and not v["wide"], "wider than the screen"
assert v["dark"] == (scheme == "dark") and v["background"] == ("rgb(20, 23, 27)" if v["dark"] else "rgb(255, 255, 255)"), "colour scheme"
assert not v["requests"] and not v["messages"], "requests or console messages"
colours = {f"LI.{sign}{level}" for sign in "ud" for level in range(1, 6)}  # the legend has them all
assert colours <= set(v["contrasts"]), sorted(colours - set(v["contrasts"]))
assert min(v["contrasts"].values()) >= 4.5, sorted(v["contrasts"].items(), key=lambda c: c[1])[:5]
P
    cp "$work/$width-$scheme/page.png" "$shots/$width-$scheme.png"
    echo "ok: $width pixels, $scheme"
  done
done
