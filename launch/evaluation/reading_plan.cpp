#include "launch/evaluation/reading_plan.h"

#include <algorithm>
#include <numeric>

#include "core/base/error.h"

namespace fwl {
namespace {

__extension__ using Wide = __int128;

int64_t inputs_of(const ReadingUnit& unit) {
  int64_t inputs = 0;
  for (const auto& row : unit)
    for (const Window& window : row) inputs += window.inputs();
  return inputs;
}

// Up to `count` rows a unit, in the order given, and as many as `inputs` hold of its first window (0: no
// matter). Rows of one batch share the overlap.
std::vector<ReadingUnit> in_groups(const std::vector<std::vector<Window>>& rows, int64_t count,
                                   int64_t inputs = 0) {
  std::vector<ReadingUnit> units;
  for (const auto& row : rows) {
    const auto fits = [&](const ReadingUnit& unit) {
      const Window& first = unit.front().front();
      const auto wanted = static_cast<int64_t>(unit.size()) + 1;
      return wanted <= count && (inputs == 0 || wanted * first.inputs() <= inputs) &&
             first.overlap == row.front().overlap;
    };
    if (units.empty() || !fits(units.back())) units.emplace_back();
    units.back().push_back(row);
  }
  return units;
}

// By windows, then by the last one.
bool is_longer(const std::vector<Window>& a, const std::vector<Window>& b) {
  return a.size() != b.size() ? a.size() > b.size() : a.back().count > b.back().count;
}

// A row a document, longest first.
std::vector<std::vector<Window>> rows_of_documents(const std::vector<Window>& windows) {
  std::vector<std::vector<Window>> documents;
  for (const Window& window : windows) {
    if (documents.empty() || documents.back().front().document != window.document) documents.emplace_back();
    documents.back().push_back(window);
  }
  std::stable_sort(documents.begin(), documents.end(), is_longer);
  return documents;
}

}  // namespace

ReadingPlan::ReadingPlan(const Split& split, const ReadingOptions& options) : options_(options) {
  if (options_.stride == 0) options_.stride = options_.context;
  require<ConfigError>(options_.stride <= options_.context, "--stride ", options_.stride,
                       " is above --context ", options_.context,
                       " (tokens between two windows would not be scored). Give a stride of at most the "
                       "context.");
  const int64_t available = split.num_documents();
  const int64_t wanted = options.max_documents > 0 ? std::min(options.max_documents, available) : available;
  for (int64_t n = 0; n < wanted; ++n) {
    const int64_t i = options.spread ? n * available / wanted : n;
    const Document document = split.document(i);
    const int64_t all = document.num_tokens - 1;
    const int64_t predictions = options.max_predictions > 0 ? std::min(options.max_predictions, all) : all;
    documents_.push_back({i, document.first_token, predictions, document.num_bytes, tokens_});
    tokens_ += predictions;
    bytes_ += document.num_bytes;
  }
  require<DataError>(tokens_ > 0, split.path(), "/", split.name(), ": the documents that are to be scored (",
                     wanted, " of ", available, ") hold no token. Give a split with text.");
}

std::vector<Window> ReadingPlan::windows(Overlap overlap) const {
  return windows_of(options_.context, overlap == Overlap::kRead ? options_.context - options_.stride : 0);
}

// Windows of `length` inputs, of which the first `again` are read again in all but a document's first.
std::vector<Window> ReadingPlan::windows_of(int64_t length, int64_t again) const {
  std::vector<Window> windows;
  for (size_t d = 0; d < documents_.size(); ++d) {
    const PlannedDocument& document = documents_[d];
    for (int64_t done = 0; done < document.predictions;) {
      const int64_t before = done == 0 ? 0 : again;
      const int64_t count = std::min(length - before, document.predictions - done);
      windows.push_back({static_cast<int64_t>(d), document.first_token + done - before, before, count,
                         document.slot + done, false});
      done += count;
    }
  }
  return windows;
}

std::vector<ReadingUnit> ReadingPlan::by_window(int64_t rows) const {
  std::vector<Window> order = windows(Overlap::kRead);
  std::stable_sort(order.begin(), order.end(), [](const Window& a, const Window& b) {
    return a.overlap != b.overlap ? a.overlap < b.overlap : a.count > b.count;
  });
  std::vector<std::vector<Window>> alone;
  for (const Window& window : order) alone.push_back({window});
  return in_groups(alone, rows);
}

std::vector<ReadingUnit> ReadingPlan::by_document(int64_t rows, Overlap overlap) const {
  return in_groups(rows_of_documents(windows(overlap)), rows);
}

std::vector<ReadingUnit> ReadingPlan::by_long_window(int64_t rows, int64_t length) const {
  return in_groups(rows_of_documents(windows_of(length, 0)), rows, rows * options_.context);
}

std::vector<ReadingUnit> ReadingPlan::by_stream(int64_t streams, Overlap overlap) const {
  std::vector<ReadingUnit> units;
  int64_t current = -1;
  for (const Window& window : windows(overlap)) {
    const int64_t first_slot = documents_[static_cast<size_t>(window.document)].slot;
    const auto stream = static_cast<int64_t>(Wide{first_slot} * streams / tokens_);
    if (stream != current) units.push_back({{}});
    current = stream;
    units.back().front().push_back(window);
  }
  return units;
}

void mark_begins(std::vector<ReadingUnit>& units, const Carry& carry, int64_t length) {
  for (ReadingUnit& unit : units) {
    for (auto& row : unit) {
      int64_t learned = 0, document = -1;
      for (Window& window : row) {
        const bool by_document = carry.scope == Carry::Scope::kDocument;
        const int64_t next = by_document ? length - window.overlap : window.count;  // the same in all rows
        window.begins = document < 0 || (by_document && window.document != document) ||
                        (carry.tokens > 0 && learned + next > carry.tokens);
        if (window.begins) learned = 0;
        learned += window.count;
        document = window.document;
      }
    }
  }
}

std::vector<ReadingUnit> cut_at_begins(const std::vector<ReadingUnit>& units, int64_t rows) {
  ReadingUnit pieces;
  for (const ReadingUnit& unit : units) {
    for (const auto& row : unit) {
      for (const Window& window : row) {
        if (window.begins) pieces.emplace_back();
        pieces.back().push_back(window);
      }
    }
  }
  std::stable_sort(pieces.begin(), pieces.end(), [](const auto& a, const auto& b) {
    if (a.front().overlap != b.front().overlap) return a.front().overlap < b.front().overlap;
    return is_longer(a, b);
  });
  return in_groups(pieces, rows);
}

std::vector<int> share_out(const std::vector<ReadingUnit>& units, int ranks) {
  std::vector<int64_t> inputs;
  for (const ReadingUnit& unit : units) inputs.push_back(inputs_of(unit));
  std::vector<size_t> order(units.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return inputs[a] > inputs[b]; });
  std::vector<int64_t> load(static_cast<size_t>(ranks), 0);
  std::vector<int> owner(units.size(), 0);
  for (const size_t unit : order) {
    const auto least = std::min_element(load.begin(), load.end());
    *least += inputs[unit];
    owner[unit] = static_cast<int>(least - load.begin());
  }
  return owner;
}

}  // namespace fwl
