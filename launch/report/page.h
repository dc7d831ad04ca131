// A self-contained HTML page: one file, no script, nothing fetched; readable in light and dark, on a phone
// and in print. A page is text in HTML's body put together by its owner from the pieces here and in
// chart.h; every piece escapes the texts it is given.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace fwl {

// `text` with the five characters that HTML gives a meaning replaced, safe in content and in quoted
// attributes.
std::string escape_html(const std::string& text);

// "3.1416" for (3.14159, 4); an en dash for a number that is not finite.
std::string fixed(double value, int digits);
// "-5.21 %" with its sign; an en dash for a number that is not finite.
std::string signed_percent(double percent);
// "12.3 k", "4.6 M": three significant digits with the unit prefix k, M or G.
std::string short_number(double value);

// Cells of text. The first column holds names (left), the others numbers (right).
struct TextTable {
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;
  std::optional<size_t> best = {};  // a row to stress
};

// A number that the reader should see first.
struct Card {
  std::string name, value, note;
};

// The table as HTML, in a box that scrolls sideways on a narrow screen. `caption` may be empty.
std::string html_table(const TextTable& table, const std::string& caption);
// The table in aligned columns for a terminal. Widths count characters, not bytes of UTF-8.
std::string plain_table(const TextTable& table);

// Cards side by side; nothing for none.
std::string html_cards(const std::vector<Card>& cards);

// The whole page around `body` (HTML, already escaped).
std::string html_page(const std::string& title, const std::string& body);

}  // namespace fwl
