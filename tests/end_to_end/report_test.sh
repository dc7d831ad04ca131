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

chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
if [ -z "$chromium" ]; then
  echo "SKIPPED: no Chromium (apt-get install chromium, or ./launch/setup.sh --tests); the page was not looked at" >&2
  exit 77
fi

# browse WIDTH SCHEME PAGE FOLDER: picture, console and requests of one page into FOLDER. A frame of the wanted size holds the
# page, so that a script outside of it can measure it.
browse() {
  local width=$1 scheme=$2 page=$3 folder=$4
  mkdir -p "$folder"
  cat >"$folder/frame.html" <<H
<!DOCTYPE html><html style="color-scheme:light dark"><body style="margin:0"><iframe id="f" src="file://$page" style="border:0;width:${width}px;height:900px"></iframe>
<pre id="found"></pre><script>
document.getElementById("f").onload = (e) => {
  const page = e.target.contentDocument, root = page.documentElement, wide = [];
  for (const x of page.querySelectorAll("body *")) {
    const box = x.getBoundingClientRect();
    if (box.width > 0 && box.right > root.clientWidth + 1 && !x.closest(".scroll, svg")) wide.push(x.tagName + "." + x.getAttribute("class"));
  }
  const shown = [...page.querySelectorAll("figure.chart > svg")].filter((x) => x.getBoundingClientRect().width > 0).length;
  const dark = e.target.contentWindow.matchMedia("(prefers-color-scheme: dark)").matches;
  document.getElementById("found").textContent = JSON.stringify({ inner: e.target.contentWindow.innerWidth, scroll: root.scrollWidth, wide, shown, dark,
    height: root.scrollHeight, charts: page.querySelectorAll("figure.chart").length, background: getComputedStyle(page.body).backgroundColor });
};
</script></body></html>
H
  local flags=(--headless --no-sandbox --disable-gpu --hide-scrollbars --no-first-run --disable-background-networking --disable-component-update
    --disable-sync --disable-default-apps --disable-extensions --disable-features=OptimizationHints,MediaRouter --user-data-dir="$folder/profile"
    --blink-settings=preferredColorScheme="$([ "$scheme" = dark ] && echo 0 || echo 1)" --enable-logging=stderr --v=0)
  timeout 120 "$chromium" "${flags[@]}" --allow-file-access-from-files --window-size="1400,1000" --virtual-time-budget=4000 \
    --log-net-log="$folder/net.json" --dump-dom "file://$folder/frame.html" >"$folder/dom.html" 2>"$folder/console" ||
    fail "Chromium ended with $? (see its last lines): $(tail -n 3 "$folder/console")"
  grep 'CONSOLE' "$folder/console" >"$folder/messages" || true
  python3 - "$folder" <<'P' >"$folder/verdict"
import html, json, re, sys
folder = sys.argv[1]
found = json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', open(folder + "/dom.html").read(), re.S).group(1)))
# The browser's own requests (updates, time) have no page as their initiator.
text = open(folder + "/net.json").read()
log = json.loads(text if text.rstrip().endswith("}") else text.rstrip().rstrip(",") + "]}")
urls = {e["params"]["url"] for e in log["events"] if e.get("params", {}).get("initiator", "not an origin") != "not an origin" and
        e["params"].get("url", "").split(":")[0] in ("http", "https", "ws", "wss", "ftp")}
print(json.dumps({**found, "requests": sorted(urls), "messages": open(folder + "/messages").read().splitlines()}))
P
  timeout 120 "$chromium" "${flags[@]}" --window-size="$width,$(python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["height"])' "$folder/verdict")" \
    --screenshot="$folder/page.png" "file://$page" >/dev/null 2>&1 || fail "Chromium took no screenshot"
}

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
