# Looks at a page in headless Chromium, for tests to source; they set $work and fail(). Ends the test as skipped (77) without one.
chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
if [ -z "$chromium" ]; then
  echo "SKIPPED: no Chromium (apt-get install chromium, or ./launch/setup.sh --tests); the page was not looked at" >&2
  exit 77
fi

# browse WIDTH SCHEME PAGE FOLDER: picture, console, requests and measures of one page into FOLDER/page.png and FOLDER/verdict. A frame
# of the wanted size holds the page, so that a script outside of it can measure it. Contrasts are WCAG's, of text that is no SVG.
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
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (rgb) => { const [r, g, b] = rgb.slice(0, 3).map((c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const style = (x) => e.target.contentWindow.getComputedStyle(x);
  const behind = (x) => { for (; x; x = x.parentElement) { const c = numbers(style(x).backgroundColor); if (c.length < 4 || c[3] == 1) return c; } return [255, 255, 255]; };
  const contrasts = {};
  for (const x of page.querySelectorAll("body *")) {
    if (x.closest("svg, style, script") || ![...x.childNodes].some((n) => n.nodeType == 3 && n.data.trim()) || !x.getClientRects().length) continue;
    const [low, high] = [luminance(numbers(style(x).color)), luminance(behind(x))].sort((p, q) => p - q);
    const name = x.tagName + "." + (x.getAttribute("class") || x.parentElement.getAttribute("class")), ratio = (high + 0.05) / (low + 0.05);
    contrasts[name] = Math.min(contrasts[name] || 99, ratio);
  }
  const shown = [...page.querySelectorAll("figure.chart > svg")].filter((x) => x.getBoundingClientRect().width > 0).length;
  const dark = e.target.contentWindow.matchMedia("(prefers-color-scheme: dark)").matches;
  document.getElementById("found").textContent = JSON.stringify({ inner: e.target.contentWindow.innerWidth, scroll: root.scrollWidth, wide, shown, dark, contrasts,
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

