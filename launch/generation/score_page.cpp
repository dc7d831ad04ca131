#include "launch/generation/score_page.h"

#include <array>
#include <cmath>
#include <fstream>

#include "core/base/error.h"
#include "data/utf8.h"
#include "launch/generation/text_stream.h"
#include "launch/report/page.h"

namespace fwl {
namespace {

constexpr std::array<double, 5> kLevels = {0.1, 0.5, 1, 2, 4};  // nats at which a colour begins

// Blue: gained, orange: lost; light and dark, text readable on all of them.
constexpr const char* kStyle = R"css(
:root { --u1: #dcebf7; --u2: #a9d0ea; --u3: #6fb1da; --u4: #2166ac; --u5: #053061; --d1: #fdebd0; --d2: #fdc980; --d3: #ee9a3a; --d4: #a8500a; --d5: #6b3206;
  --near: #1c2126; --far: #ffffff; }
@media screen and (prefers-color-scheme: dark) {
  :root { --u1: #17303f; --u2: #1a4566; --u3: #1f6599; --u4: #5aa9e0; --u5: #b5dcfa; --d1: #3d2a14; --d2: #5e3a0e; --d3: #8f540b; --d4: #e09a3c; --d5: #ffd596;
    --near: #e4e7ea; --far: #101214; }
}
.text { font: .95rem/1.75 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; white-space: pre-wrap; overflow-wrap: anywhere; tab-size: 4; margin: 1rem 0;
  print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.text span { border-radius: 2px; padding: .1em 0; }
.text span:hover { outline: 2px solid var(--text); outline-offset: 1px; }
.text i { color: var(--muted); font-style: normal; user-select: none; }
.u1 { background: var(--u1); color: var(--near); } .u2 { background: var(--u2); color: var(--near); } .u3 { background: var(--u3); color: var(--near); }
.u4 { background: var(--u4); color: var(--far); } .u5 { background: var(--u5); color: var(--far); }
.d1 { background: var(--d1); color: var(--near); } .d2 { background: var(--d2); color: var(--near); } .d3 { background: var(--d3); color: var(--near); }
.d4 { background: var(--d4); color: var(--far); } .d5 { background: var(--d5); color: var(--far); }
.scale { display: flex; flex-wrap: wrap; gap: .3rem; list-style: none; padding: 0; margin: .75rem 0; font-size: .85rem; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.scale li { padding: .1rem .5rem; border-radius: 2px; border: 1px solid var(--line); }
)css";

std::string class_of(int level) {
  return level == 0 ? "" : cat(" class=\"", level > 0 ? 'u' : 'd', std::abs(level), '"');
}

// As it is shown: line ends and control characters visible, the rest escaped.
std::string shown_text(const std::string& bytes) {
  std::string html;
  for (const char c : as_utf8(bytes)) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n') {
      html += "<i>\u23CE</i>\n";
    } else if ((byte < 0x20 && c != '\t') || byte == 0x7F) {
      // Control pictures: U+2400 and on, U+2421 for DEL.
      html += "<i>\xE2\x90";
      html += static_cast<char>(byte == 0x7F ? 0xA1 : 0x80 + byte);
      html += "</i>";
    } else {
      html += escape_html(std::string(1, c));
    }
  }
  return html;
}

std::string tooltip(const ScoredToken& t) {
  return cat("token ", t.id, ": slow ", fixed(t.slow, 3), ", fast ", fixed(t.fast, 3), ", gain ",
             t.gain() > 0 ? "+" : "", fixed(t.gain(), 3), " nats");
}

std::string legend() {
  std::string html = "<ul class=\"scale\" aria-label=\"colours\">";
  const auto item = [&](int level, const std::string& label) {
    html += cat("<li", class_of(level), ">", label, "</li>");
  };
  item(-5, cat("lost ", kLevels[4], " nats or more"));
  for (int level = -4; level < 0; ++level)
    item(level, cat("\u2212", kLevels[static_cast<size_t>(-level - 1)]));
  item(0, cat("within ", kLevels[0]));
  for (int level = 1; level < 5; ++level) item(level, cat("+", kLevels[static_cast<size_t>(level - 1)]));
  item(5, cat("gained ", kLevels[4], " nats or more"));
  return html + "</ul>\n";
}

std::string summary(const ScoreTotals& t) {
  const auto row = [&](const std::string& name, double sum) -> std::vector<std::string> {
    const double nats = -sum / static_cast<double>(t.tokens);
    return {name, fixed(nats, 4), fixed(std::exp(nats), 3),
            fixed(-sum / std::log(2.0) / static_cast<double>(t.bytes), 4)};
  };
  const TextTable table{{"weights", "nats/token", "perplexity", "bits/byte"},
                        {row("slow", t.slow), row("fast", t.fast)}};
  const double gain = (t.fast - t.slow) / static_cast<double>(t.tokens);
  return html_table(table, cat(t.tokens, " tokens, ", t.bytes, " bytes; the fast weights ",
                               gain < 0 ? "lost " : "gained ", fixed(std::abs(gain), 4), " nats a token."));
}

void copy_to(NewFile& file, const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::vector<char> buffer(size_t{1} << 16);
  while (in.read(buffer.data(), static_cast<std::streamsize>(buffer.size())) || in.gcount() > 0)
    file.write({buffer.data(), static_cast<size_t>(in.gcount())});
  require<UnavailableError>(in.eof(), "'", path, "' cannot be read again. Check the disk.");
}

}  // namespace

int gain_level(double gain) {
  int level = 0;
  while (level < 5 && std::abs(gain) >= kLevels[static_cast<size_t>(level)]) ++level;
  return gain < 0 ? -level : level;
}

ScorePage::ScorePage(const std::string& path) : page_(path), body_(path) {}

// Tokens of one character (bytes of UTF-8) are shown together.
void ScorePage::write_group() {
  std::string bytes, title;
  double gain = 0;
  for (const ScoredToken& t : group_) {
    bytes += t.bytes;
    title += (title.empty() ? "" : "\n") + tooltip(t);
    gain += t.gain();
  }
  body_.write(cat("<span", class_of(gain_level(gain)), " title=\"", escape_html(title), "\">",
                  shown_text(bytes), "</span>"));
  group_.clear();
}

void ScorePage::add(const ScoredToken& token) {
  group_.push_back(token);
  std::string bytes;
  for (const ScoredToken& t : group_) bytes += t.bytes;
  const bool may_grow = invalid_utf8_bytes(bytes) > 0 && bytes.size() < 4;
  if (!may_grow) write_group();
}

void ScorePage::finish(const std::string& title, const std::string& about, const ScoreTotals& totals) {
  if (!group_.empty()) write_group();
  body_.flush();
  const std::string mark = "<!-- text -->";
  std::string page = html_page(title, cat("<p>", escape_html(about), "</p>\n", legend(), summary(totals),
                                          "<div class=\"text\">", mark, "</div>\n"));
  page.insert(page.find("</head>"), cat("<style>", kStyle, "</style>\n"));
  const size_t at = page.find(mark);
  page_.write(std::string_view(page).substr(0, at));
  copy_to(page_, body_.temporary());
  page_.write(std::string_view(page).substr(at + mark.size()));
  page_.publish();
}

}  // namespace fwl
