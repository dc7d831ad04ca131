#include "launch/evaluation/counts.h"

#include <algorithm>

namespace fwl {
namespace {

__extension__ using Wide = __int128;

constexpr int64_t kBlock = int64_t{1} << 18;  // tokens read at a time

bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

std::vector<int32_t> tokens_of(const Split& split, int64_t first, int64_t count) {
  std::vector<int64_t> wide(static_cast<size_t>(count));
  split.read_tokens(first, count, wide.data());
  return {wide.begin(), wide.end()};
}

}  // namespace

int64_t count_words(std::string_view text) {
  int64_t words = 0;
  bool inside = false;
  for (const char c : text) {
    if (!is_space(c) && !inside) ++words;
    inside = !is_space(c);
  }
  return words;
}

std::vector<double> words_of(const Split& split, const std::vector<PlannedDocument>& documents) {
  std::vector<double> words;
  for (const PlannedDocument& d : documents) {
    const std::string text = split.tokenizer().decode(tokens_of(split, d.first_token + 1, d.predictions));
    words.push_back(static_cast<double>(count_words(text)));
  }
  return words;
}

std::vector<int64_t> token_counts(const Split& split, int64_t limit) {
  std::vector<int64_t> counts(static_cast<size_t>(split.vocab_size()), 0);
  const int64_t total = split.num_tokens(), wanted = limit > 0 ? std::min(limit, total) : total;
  const int64_t blocks = (wanted + kBlock - 1) / kBlock;
  std::vector<int64_t> tokens;
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t from = b * wanted / blocks, count = (b + 1) * wanted / blocks - from;
    const int64_t first = static_cast<int64_t>(Wide{from} * total / wanted);
    tokens.resize(static_cast<size_t>(count));
    split.read_tokens(first, count, tokens.data());
    for (const int64_t token : tokens) ++counts[static_cast<size_t>(token)];
  }
  return counts;
}

}  // namespace fwl
