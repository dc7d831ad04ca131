#include "launch/report/page.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "core/base/error.h"

namespace fwl {

namespace {

constexpr const char* kEnDash = "\u2013";

// Series take the classes s0..s5: Okabe and Ito's colours, darker on white and lighter on black, so that they
// have the contrast that text needs.
constexpr const char* kStyle = R"css(
:root { color-scheme: light; --page: #ffffff; --text: #1a1f24; --muted: #55606b; --line: #dfe3e8; --band: #f5f7f9;
  --weight: #c9d0d8; --s0: #0067a8; --s1: #b84700; --s2: #00734f; --s3: #a03377; --s4: #7d5f00; --s5: #4b5563; }
@media screen and (prefers-color-scheme: dark) {
  :root { color-scheme: dark; --page: #14171b; --text: #e6e9ec; --muted: #a3acb6; --line: #2f353c; --band: #1c2127;
    --weight: #404851; --s0: #62b5f0; --s1: #f39a5b; --s2: #4ccb9f; --s3: #ea93c5; --s4: #e3bd3f; --s5: #b6c0cb; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 66rem; background: var(--page); color: var(--text);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .5rem; letter-spacing: -.01em; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 3rem 0 .75rem; padding-top: 1rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; line-height: 1.35; margin: 0 0 .4rem; font-weight: 600; }
p { margin: .5rem 0; max-width: 46rem; }
a { color: var(--s0); }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: .75rem 0 0; padding: 0; font-size: .92rem; }
nav a, .files a { display: inline-block; padding: .2rem 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 13rem), 1fr)); gap: .75rem; margin: 1.5rem 0 0; padding: 0; }
.cards div { background: var(--band); border-radius: .5rem; padding: .8rem 1rem; }
.cards dt { color: var(--muted); font-size: .85rem; }
.cards dd { margin: 0; font-size: .85rem; color: var(--muted); }
.cards dd.value { font-size: 1.6rem; line-height: 1.3; font-weight: 600; color: var(--text); font-variant-numeric: tabular-nums; }
figcaption, .note { color: var(--muted); font-size: .88rem; max-width: 46rem; }
.scroll { overflow-x: auto; margin: .75rem 0 .5rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .42rem .5rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; padding-left: 0; white-space: normal; min-width: 9rem; font-weight: 400; }
td:last-child, th:last-child { padding-right: 0; }
thead th { color: var(--muted); font-weight: 600; vertical-align: bottom; white-space: normal; border-bottom: 2px solid var(--line); }
thead th:first-child { font-weight: 600; }
tr.best td, tr.best th:first-child { font-weight: 650; }
figure { margin: 1rem 0 1.75rem; break-inside: avoid; min-width: 0; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: .5rem 2.25rem; }
.grid figure { margin: .75rem 0 1rem; }
:focus-visible { outline: 2px solid var(--s0); outline-offset: 2px; }
figure.chart > svg { width: 100%; height: auto; overflow: visible; }
svg.wide { display: block; } svg.narrow, ul.narrow { display: none !important; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; margin: 0 0 .35rem; padding: 0; font-size: .85rem; color: var(--muted); }
.legend svg { width: 2.3rem; height: .7rem; margin-right: .4rem; flex: none; }
.legend li { display: flex; align-items: center; }
details { font-size: .88rem; margin-top: .35rem; }
summary { cursor: pointer; color: var(--muted); padding: .2rem 0; width: max-content; }
svg text { fill: var(--muted); font-size: 13px; font-family: inherit; font-variant-numeric: tabular-nums; }
svg text.name { font-size: 12.5px; }
svg text.direct { font-weight: 600; paint-order: stroke; stroke: var(--page); stroke-width: 4px; stroke-linejoin: round; }
svg .grid, svg line.grid { stroke: var(--line); stroke-width: 1; }
svg .axis { stroke: var(--muted); stroke-width: 1.25; }
svg .curve { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
svg .mark { stroke-width: 1.6; fill: var(--page); }
svg .error { stroke-width: 1.5; opacity: .75; }
svg .hit { fill: transparent; stroke: none; }
svg .weight { fill: var(--weight); }
svg .series:hover .curve { stroke-width: 3.25; }
.s0 { stroke: var(--s0); } .s1 { stroke: var(--s1); } .s2 { stroke: var(--s2); }
.s3 { stroke: var(--s3); } .s4 { stroke: var(--s4); } .s5 { stroke: var(--s5); }
svg .t0 { fill: var(--s0); } svg .t1 { fill: var(--s1); } svg .t2 { fill: var(--s2); }
svg .t3 { fill: var(--s3); } svg .t4 { fill: var(--s4); } svg .t5 { fill: var(--s5); }
@media screen and (max-width: 640px) {
  body { padding: 1.25rem 1rem 3rem; } h1 { font-size: 1.4rem; } h2 { margin-top: 2.25rem; }
  svg.wide { display: none; } svg.narrow { display: block !important; } ul.narrow { display: flex !important; }
  .cards { grid-template-columns: 1fr 1fr; } .cards dd.value { font-size: 1.3rem; }
  summary, nav a, .files a { padding: .55rem 0; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; } .scroll { overflow: visible; } nav, details { display: none; }
  h2 { break-after: avoid; } .grid { grid-template-columns: 1fr 1fr; }
}
)css";

// Characters of UTF-8 text: the bytes that do not continue a character.
int64_t characters(const std::string& text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

std::string padded(const std::string& text, int64_t width, size_t column) {
  const std::string space(std::max<int64_t>(0, width - characters(text)), ' ');
  return column == 0 ? text + space : space + text;
}

std::string html_row(const std::vector<std::string>& cells, const std::string& tag,
                     const std::string& style = "") {
  std::string row = style.empty() ? "<tr>" : cat("<tr class=\"", style, "\">");
  for (size_t i = 0; i < cells.size(); ++i) {
    const std::string name = i == 0 ? "th" : tag;
    const std::string scope = tag == "th" ? " scope=\"col\"" : i == 0 ? " scope=\"row\"" : "";
    row += cat("<", name, scope, ">", escape_html(cells[i]), "</", name, ">");
  }
  return row + "</tr>\n";
}

}  // namespace

std::string escape_html(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

std::string fixed(double value, int digits) {
  if (!std::isfinite(value)) return kEnDash;
  std::array<char, 512> text;
  std::snprintf(text.data(), text.size(), "%.*f", digits, value);
  return text.data();
}

std::string signed_percent(double percent) {
  if (!std::isfinite(percent)) return kEnDash;
  return cat(percent > 0 ? "+" : "", fixed(percent, 2), " %");
}

std::string short_number(double value) {
  if (!std::isfinite(value)) return kEnDash;
  const std::array<std::pair<double, const char*>, 4> units = {
      {{1e9, " G"}, {1e6, " M"}, {1e3, " k"}, {1, ""}}};
  for (const auto& [size, name] : units) {
    const double scaled = value / size;
    if (std::abs(scaled) >= 1 || size == 1) {
      return fixed(scaled, std::abs(scaled) >= 99.95 ? 0 : std::abs(scaled) >= 9.995 ? 1 : 2) + name;
    }
  }
  return kEnDash;
}

std::string html_table(const TextTable& table, const std::string& caption) {
  std::string html =
      "<figure>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"table\"><table>\n<thead>" +
      html_row(table.header, "th") + "</thead>\n<tbody>\n";
  for (size_t i = 0; i < table.rows.size(); ++i)
    html += html_row(table.rows[i], "td", table.best && *table.best == i ? "best" : "");
  html += "</tbody></table></div>\n";
  if (!caption.empty()) html += cat("<figcaption>", escape_html(caption), "</figcaption>\n");
  return html + "</figure>\n";
}

std::string plain_table(const TextTable& table) {
  std::vector<std::vector<std::string>> lines = {table.header};
  lines.insert(lines.end(), table.rows.begin(), table.rows.end());
  std::vector<int64_t> widths(table.header.size(), 0);
  for (const auto& line : lines) {
    for (size_t i = 0; i < line.size(); ++i) widths.at(i) = std::max(widths.at(i), characters(line[i]));
  }
  std::string text;
  for (const auto& line : lines) {
    for (size_t i = 0; i < line.size(); ++i) text += (i == 0 ? "" : "  ") + padded(line[i], widths[i], i);
    text += '\n';
  }
  return text;
}

std::string html_cards(const std::vector<Card>& cards) {
  if (cards.empty()) return "";
  std::string html = "<dl class=\"cards\">\n";
  for (const Card& card : cards)
    html += cat("<div><dt>", escape_html(card.name), "</dt><dd class=\"value\">", escape_html(card.value),
                "</dd><dd>", escape_html(card.note), "</dd></div>\n");
  return html + "</dl>\n";
}

std::string html_page(const std::string& title, const std::string& body) {
  return cat(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
      "<meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n<title>",
      escape_html(title), "</title>\n<style>", kStyle, "</style>\n</head>\n<body>\n<h1>", escape_html(title),
      "</h1>\n", "<main>\n", body, "</main>\n</body>\n</html>\n");
}

}  // namespace fwl
