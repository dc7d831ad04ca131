#include "launch/report/page.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "core/base/error.h"

namespace fwl {

namespace {

constexpr const char* kEnDash = "\u2013";

// Series take the classes s0..s3 in turn; lines differ by colour, dashes and markers (svg_chart.cpp).
constexpr const char* kStyle = R"css(
:root { color-scheme: light; --page: #ffffff; --text: #1c2126; --muted: #56606b; --line: #d5dae0; --band: #f4f6f8;
  --s0: #0b5cad; --s1: #b04500; --s2: #18744a; --s3: #7440a8; }
@media screen and (prefers-color-scheme: dark) {
  :root { color-scheme: dark; --page: #14171b; --text: #e4e7ea; --muted: #a0a9b3; --line: #343a41; --band: #1c2025;
    --s0: #6fb4fa; --s1: #f2a365; --s2: #62d09b; --s3: #c8a2f4; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 52rem; background: var(--page); color: var(--text);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .75rem; }
h2 { font-size: 1.15rem; line-height: 1.3; margin: 2.25rem 0 .5rem; }
p { margin: .5rem 0; max-width: 44rem; }
figcaption { color: var(--muted); font-size: .9rem; }
.scroll { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .4rem .65rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; padding-left: 0; white-space: normal; min-width: 10rem; font-weight: 400; }
thead th { color: var(--muted); font-weight: 600; vertical-align: bottom; white-space: normal; border-bottom: 2px solid var(--line); }
figure { margin: .75rem 0 1.5rem; break-inside: avoid; }
.scroll:focus-visible { outline: 2px solid var(--s0); outline-offset: 2px; }
figure svg { display: block; width: 100%; height: auto; overflow: visible; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: 0 0 .25rem; padding: 0; font-size: .92rem; }
.legend svg { display: inline-block; width: 2.5rem; height: .8rem; vertical-align: baseline; margin-right: .4rem; }
.legend li { display: flex; align-items: center; }
svg text { fill: var(--muted); font-size: 13px; font-family: inherit; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .axis { stroke: var(--muted); stroke-width: 1.25; }
svg .curve { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg .mark { stroke-width: 1.5; fill: var(--page); }
.s0 { stroke: var(--s0); } .s1 { stroke: var(--s1); } .s2 { stroke: var(--s2); } .s3 { stroke: var(--s3); }
@media (max-width: 600px) { svg text { font-size: 21px; } body { padding-top: 1rem; } }
@media print { body { max-width: none; padding: 0; font-size: 10.5pt; } .scroll { overflow: visible; } }
)css";

// Characters of UTF-8 text: the bytes that do not continue a character.
int64_t characters(const std::string& text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

std::string padded(const std::string& text, int64_t width, size_t column) {
  const std::string space(std::max<int64_t>(0, width - characters(text)), ' ');
  return column == 0 ? text + space : space + text;
}

std::string html_row(const std::vector<std::string>& cells, const std::string& tag) {
  std::string row = "<tr>";
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
  std::string html = "<figure>\n<div class=\"scroll\" tabindex=\"0\"><table>\n<thead>" +
                     html_row(table.header, "th") + "</thead>\n<tbody>\n";
  for (const auto& row : table.rows) html += html_row(row, "td");
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

std::string html_page(const std::string& title, const std::string& body) {
  return cat("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
             "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
             "<meta name=\"color-scheme\" content=\"light dark\">\n<title>", escape_html(title),
             "</title>\n<style>", kStyle, "</style>\n</head>\n<body>\n<h1>", escape_html(title), "</h1>\n",
             body, "</body>\n</html>\n");
}

}  // namespace fwl
