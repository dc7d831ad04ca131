#include "launch/evaluation/breakdown.h"

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <unordered_set>

#include "core/base/error.h"

namespace fwl {
namespace {

using nlohmann::json;

struct Bin {
  int64_t low = 0;
  int64_t tokens = 0;
  double nats = 0;
};

// Bins by their highest value.
using Bins = std::map<int64_t, Bin>;

// The smallest power of two that is not below the value; 0 for 0.
int64_t highest_of_bin(int64_t value) {
  if (value <= 0) return 0;
  int64_t high = 1;
  while (high < value) high *= 2;
  return high;
}

int64_t lowest_of_bin(int64_t high) {
  return high <= 2 ? high : high / 2 + 1;
}

void add(Bins& bins, int64_t value, double nats) {
  const int64_t high = highest_of_bin(value);
  Bin& bin = bins[high];
  bin.low = lowest_of_bin(high);
  bin.tokens += 1;
  bin.nats += nats;
}

json to_json(const Bins& bins) {
  json array = json::array();
  for (const auto& [high, bin] : bins)
    array.push_back({{"low", bin.low}, {"high", high}, {"tokens", bin.tokens}, {"nats", bin.nats}});
  return array;
}

void require_columns(const ScoredTokens& scored, size_t vocabulary) {
  const size_t size = scored.token.size();
  require<InternalError>(
      scored.document.size() == size && scored.position.size() == size && scored.nats.size() == size,
      "scored tokens have columns of ", size, ", ", scored.document.size(), ", ", scored.position.size(),
      ", ", scored.nats.size(), " rows");
  for (const int32_t token : scored.token)
    require<InternalError>(token >= 0 && static_cast<size_t>(token) < vocabulary, "scored token ", token,
                           " has no count of training (there are ", vocabulary, ")");
}

// Calls `visit(first, last)` for each document's tokens.
void for_each_document(const ScoredTokens& scored, const std::function<void(size_t, size_t)>& visit) {
  std::unordered_set<int32_t> seen;
  for (size_t first = 0, last; first < scored.token.size(); first = last) {
    const int32_t document = scored.document[first];
    require<InternalError>(seen.insert(document).second, "the scored tokens of document ", document,
                           " do not stand together");
    for (last = first; last < scored.token.size() && scored.document[last] == document;) ++last;
    visit(first, last);
  }
}

}  // namespace

json breakdowns(const ScoredTokens& scored, const std::vector<int64_t>& train_counts_by_token) {
  require_columns(scored, train_counts_by_token.size());
  Bins position, frequency, occurrence, length;
  for_each_document(scored, [&](size_t first, size_t last) {
    std::unordered_map<int32_t, int64_t> occurred;
    for (size_t i = first; i < last; ++i) {
      const double nats = scored.nats[i];
      const int32_t token = scored.token[i];
      add(position, scored.position[i], nats);
      add(frequency, train_counts_by_token[static_cast<size_t>(token)], nats);
      add(occurrence, occurred[token]++, nats);
      add(length, static_cast<int64_t>(last - first), nats);
    }
  });
  return {{"position", to_json(position)},
          {"train_frequency", to_json(frequency)},
          {"occurrence", to_json(occurrence)},
          {"document_length", to_json(length)}};
}

}  // namespace fwl
