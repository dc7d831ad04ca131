#!/usr/bin/env bash
# `fwl report` in a real browser: headless Chromium shows the page at two widths and in both colour schemes; nothing is
# reported on the console, no request leaves the page, nothing is wider than the screen. The same checks find all three in
# a page that is made to fail. Needs Debian's package chromium.
#
#   tests/end_to_end/report_test.sh FWL SOURCE [FOLDER]      FOLDER: screenshots and page are left there
set -euo pipefail
fwl=$1
source=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
shots=${3:-$work/shots}
mkdir -p "$shots"
fail() { echo "FAILED: $*" >&2; exit 1; }

python3 "$source/tests/support/make_report_inputs.py" "$work"
"$fwl" report "control=$work/control" "fast & <slow>=$work/fast" "control=$work/control.json" "FWL=$work/fwl.json" "$work/scaling.json" \
  --title 'A report <of> "runs"' --out "$shots/report.html" >"$work/table"
grep -q 'FWL, carried' "$work/table" || fail "the terminal's table lacks a mode"
for name in evaluation breakdowns learning_curves gaps scaling; do
  [ -s "$shots/report.$name.csv" ] || fail "no table $name beside the page"
  python3 - "$shots" "$name" <<'P' || fail "$name.csv and report.json differ"
import csv, json, sys
folder, name = sys.argv[1:]
rows = list(csv.DictReader(open(f"{folder}/report.{name}.csv", newline="")))
objects = json.load(open(f"{folder}/report.json"))[name]
assert rows, name
if name != "gaps":  # columns in the JSON
    assert len(rows) == len(objects), (len(rows), len(objects))
    for row, other in zip(rows, objects):
        for key, cell in row.items():
            value = other[key]
            assert (cell == "") == (value is None), (key, cell, value)
            if isinstance(value, float): assert float(cell) == value, (key, cell, value)
P
done
echo "ok: page, CSV and JSON"

. "$source/tests/support/browse.sh"

for width in 1280 390; do
  for scheme in light dark; do
    browse "$width" "$scheme" "$(realpath "$shots")/report.html" "$work/$width-$scheme"
    python3 - "$work/$width-$scheme/verdict" "$width" "$scheme" <<'P' || fail "the page at $width pixels, $scheme: $(cat "$work/$width-$scheme/verdict")"
import json, sys
v, width, scheme = json.load(open(sys.argv[1])), int(sys.argv[2]), sys.argv[3]
assert v["inner"] == width and v["scroll"] <= width and not v["wide"], "wider than the screen"
assert v["charts"] >= 10 and v["shown"] == v["charts"], "each figure shows one picture"
assert v["dark"] == (scheme == "dark") and v["background"] == ("rgb(20, 23, 27)" if v["dark"] else "rgb(255, 255, 255)"), "colour scheme"
assert not v["requests"] and not v["messages"], "requests or console messages"
assert v["contrasts"] and min(v["contrasts"].values()) >= 4.5, sorted(v["contrasts"].items(), key=lambda c: c[1])[:3]
P
    cp "$work/$width-$scheme/page.png" "$shots/$width-$scheme.png"
    file_size=$(stat -c %s "$shots/$width-$scheme.png")
    [ "$file_size" -gt 50000 ] || fail "the screenshot at $width, $scheme is empty"
    echo "ok: $width pixels, $scheme"
  done
done

cat >"$work/bad.html" <<'H'
<!DOCTYPE html><html><body><img src="http://fwl-report-test.invalid/x.png"><div style="width:2000px">wide</div>
<script>console.error("broken")</script></body></html>
H
browse 390 light "$work/bad.html" "$work/bad"
python3 - "$work/bad/verdict" <<'P' || fail "the checks do not find what is wrong with a bad page: $(cat "$work/bad/verdict")"
import json, sys
v = json.load(open(sys.argv[1]))
assert v["scroll"] > 390 and v["wide"] and any("broken" in m for m in v["messages"]), v
assert any("fwl-report-test" in u for u in v["requests"]), v
P
echo "ok: a page with a request, an error and too wide a part is found out"
