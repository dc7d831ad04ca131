#include "data/loader.h"

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/base/log.h"
#include "data/sample_order.h"

namespace fwl {
namespace {

constexpr double kWeightUnits = 1e6;  // weights are integers from here on: their ratios are exact
// About 0.2 s of hashing; a document's place is looked up in its shard's index.
constexpr int64_t kSamplesChecked = 1 << 20, kDocumentWindowsChecked = 1 << 14;

int64_t windows_of(const Split& split, int64_t context) {
  require<ConfigError>(context >= 1, "a context of ", context, " tokens holds nothing. Give at least 1.");
  const int64_t tokens = split.num_tokens();
  require<DataError>(tokens > context, split.path(), ": split ", split.name(), " has ", tokens,
                     " tokens, a window takes model.context + 1 = ", context + 1, ". ",
                     tokens >= 2 ? cat("Give model.context of at most ", tokens - 1, ", or more text.")
                                 : "Give a split with more text.");
  // Room for a shift by context - 1 tokens, as far as the split has it.
  return std::max<int64_t>(1, (tokens - context) / context);
}

int64_t units_of(double weight) {
  const double units = std::round(weight * kWeightUnits);
  require<ConfigError>(units >= 1 && units <= 1e9, "weight ", weight,
                       " of a data set is out of range. Give weights from 0.000001 to 1000.");
  return static_cast<int64_t>(units);
}

}  // namespace

Loader::Loader(const Split& split, int64_t context, uint64_t seed, int64_t streams, BadData bad_data,
               StreamOrder order)
    : Loader(std::vector<MixturePart>{{&split, 1.0}}, context, seed, bad_data) {
  streams_ = streams;
  if (order == StreamOrder::kPacked) return;
  require<InternalError>(streams > 0, "documents are dealt to streams, there are none");
  documents_ = std::make_unique<DocumentOrder>(split, context, seed, streams, bad_data);
}

Loader::Loader(const std::vector<MixturePart>& mixture, int64_t context, uint64_t seed, BadData bad_data)
    : context_(context), seed_(seed), bad_data_(bad_data) {
  require<ConfigError>(!mixture.empty(), "the mixture names no data set. Give at least one.");
  for (const MixturePart& part : mixture) {
    weights_.push_back(units_of(part.weight));
    parts_.push_back({part.split, weights_.back(), windows_of(*part.split, context)});
  }
}

int64_t Loader::first_token_in(const Part& part, int64_t index) const {
  const int64_t tokens = part.split->num_tokens();
  if (streams_ > 0) {
    const int64_t start = index % streams_ * (tokens / streams_) + shift_of(seed_, 0, tokens);
    return (start + index / streams_ % tokens * context_) % tokens;
  }
  const int64_t epoch = index / part.windows;
  const int64_t spare = tokens - 1 - part.windows * context_;
  const int64_t shift = shift_of(seed_, epoch, std::min(context_ - 1, spare) + 1);
  return window_of(seed_, epoch, index % part.windows, part.windows) * context_ + shift;
}

Loader::Place Loader::place_of(int64_t sample) const {
  require<InternalError>(sample >= 0, "sample ", sample, " was asked for");
  if (documents_) {
    const DocumentOrder::Window window = documents_->window(sample % streams_, sample / streams_);
    return {0, window.first_token, window.end_token};
  }
  const MixturePlace place = mixture_place(weights_, sample);
  return {place.part, first_token_in(parts_[place.part], place.index), INT64_MAX};
}

int64_t Loader::first_token_of(int64_t sample) const {
  return place_of(sample).first_token;
}

// A stream goes round its split's end.
void Loader::read_row(const Place& place, int64_t count, int64_t* tokens) const {
  const Split& split = *parts_[place.part].split;
  const int64_t before_end = std::min(count, split.num_tokens() - place.first_token);
  split.read_tokens(place.first_token, before_end, tokens);
  split.read_tokens(0, count - before_end, tokens + before_end);
}

// Adds the damaged documents among these tokens to those that are left out, and says so.
void Loader::find_damage(const Place& place, int64_t count) const {
  const Split& split = *parts_[place.part].split;
  for (int64_t done = 0; done < count;) {
    const int64_t position = (place.first_token + done) % split.num_tokens();
    const Split::Extent extent = split.examine(position);
    const bool known = std::any_of(damaged_.begin(), damaged_.end(), [&](const Damage& d) {
      return d.part == place.part && d.first_token == extent.first_token;
    });
    if (!extent.is_sound && !known) {
      damaged_.push_back({place.part, extent.first_token, extent.end_token, extent.documents});
      log_warn(cat(split.path(), ": '", extent.name, "' is damaged; its ",
                   extent.end_token - extent.first_token,
                   " tokens are left out (data.skip_bad). Run `fwl data check`."));
    }
    done += extent.end_token - position;
  }
}

// As read_row(), with document starts in place of damaged documents; bad[i]: token i is one of those.
void Loader::read_around_damage(const Place& place, int64_t count, int64_t* tokens,
                                std::vector<uint8_t>& bad) const {
  const Split& split = *parts_[place.part].split;
  const int64_t total = split.num_tokens();
  bad.assign(static_cast<size_t>(count), 0);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t position = (place.first_token + i) % total;
    for (const Damage& d : damaged_) {
      if (d.part == place.part && position >= d.first_token && position < d.end_token)
        bad[static_cast<size_t>(i)] = 1;
    }
  }
  for (int64_t begin = 0, end = 0; begin < count; begin = end) {
    const uint8_t kind = bad[static_cast<size_t>(begin)];
    for (end = begin; end < count && bad[static_cast<size_t>(end)] == kind; ++end) continue;
    if (kind != 0) {
      std::fill(tokens + begin, tokens + end, split.document_start());
    } else {
      read_row({place.part, (place.first_token + begin) % total, INT64_MAX}, end - begin, tokens + begin);
    }
  }
}

// A label counts when neither it nor its input is left out.
void Loader::leave_out(Batch& batch, int64_t row, const std::vector<uint8_t>& bad) const {
  if (std::find(bad.begin(), bad.end(), uint8_t{1}) == bad.end()) return;
  batch.left_out.resize(static_cast<size_t>(batch.rows * batch.length), 0);
  for (int64_t t = 0; t < batch.length; ++t) {
    batch.left_out[static_cast<size_t>(row * batch.length + t)] =
        bad[static_cast<size_t>(t)] | bad[static_cast<size_t>(t + 1)];
  }
}

// Damage that is met is left out, when the loader does that: bad[i] says which tokens.
void Loader::read_sound(const Place& place, int64_t count, int64_t* tokens, std::vector<uint8_t>& bad) const {
  bad.assign(static_cast<size_t>(count), 0);
  if (damaged_.empty()) {
    try {
      return read_row(place, count, tokens);
    } catch (const DataError&) {
      if (bad_data_ == BadData::kStop) throw;
      find_damage(place, count);
      if (damaged_.empty()) throw;
    }
  }
  try {
    read_around_damage(place, count, tokens, bad);
  } catch (const DataError&) {
    find_damage(place, count);
    read_around_damage(place, count, tokens, bad);
  }
}

Batch Loader::read(int64_t first_sample, int64_t rows, int64_t first_position, int64_t positions) const {
  Batch batch;
  batch.rows = rows;
  batch.length = positions;
  batch.tokens.resize(static_cast<size_t>(rows * (positions + 1)));
  batch.document_start.resize(static_cast<size_t>(rows * positions), 0);
  std::vector<uint8_t> bad;
  for (int64_t r = 0; r < rows; ++r) {
    int64_t* tokens = batch.tokens.data() + r * (positions + 1);
    Place place = place_of(first_sample + r);
    const Split& split = *parts_[place.part].split;
    const int64_t there =
        std::clamp<int64_t>(place.end_token - place.first_token - first_position, 0, positions + 1);
    place.first_token = (place.first_token + first_position) % split.num_tokens();
    read_sound(place, there, tokens, bad);
    std::fill(tokens + there, tokens + positions + 1, split.document_start());
    bad.resize(static_cast<size_t>(positions + 1), 1);
    leave_out(batch, r, bad);
    uint8_t* starts = batch.document_start.data() + r * positions;
    for (int64_t t = 0; t < std::min(there, positions); ++t)
      starts[t] = tokens[t] == split.document_start() ? 1 : 0;
  }
  return batch;
}

int64_t Loader::labels_in(int64_t first, int64_t count) const {
  if (!documents_) return count * context_;
  int64_t labels = 0;
  for (int64_t sample = first; sample < first + count; ++sample) {
    const Place place = place_of(sample);
    labels += std::min(context_, place.end_token - place.first_token - 1);
  }
  return labels;
}

int64_t Loader::samples_checked_at_resume() const {
  return documents_ ? kDocumentWindowsChecked : kSamplesChecked;
}

std::vector<DocumentCursor> Loader::cursors_at(int64_t sample) const {
  return documents_ ? documents_->cursors_at(sample / streams_) : std::vector<DocumentCursor>();
}

void Loader::go_on_from(const std::vector<DocumentCursor>& cursors) {
  if (documents_) documents_->go_on_from(cursors);
}

int64_t Loader::document_of(int64_t sample) const {
  if (documents_) return documents_->window(sample % streams_, sample / streams_).document;
  const Place place = place_of(sample);
  try {
    return parts_[place.part].split->document_of(place.first_token);
  } catch (const DataError&) {
    if (bad_data_ == BadData::kStop) throw;
    return -1;
  }
}

int64_t Loader::documents_left_out() const {
  int64_t documents = documents_ ? documents_->documents_left_out() : 0;
  for (const Damage& d : damaged_) documents += d.documents;
  return documents;
}

uint64_t Loader::sequence_hash() const {
  std::string text = cat(seed_, ' ', context_, ' ', streams_, documents_ ? " documents" : "");
  for (const Part& part : parts_) {
    text += cat(' ', part.weight);
    for (const ShardEntry& shard : part.split->manifest().splits.at(part.split->name()).shards)
      text += ' ' + shard.checksum;
  }
  return hash_bytes(text);
}

uint64_t Loader::rolling_hash(uint64_t before, int64_t first, int64_t count) const {
  for (int64_t sample = first; sample < first + count; ++sample) {
    const Place place = place_of(sample);
    before = mix_bits(before ^ static_cast<uint64_t>(sample));
    before = mix_bits(before ^ static_cast<uint64_t>(place.part));
    before = mix_bits(before ^ static_cast<uint64_t>(place.first_token));
  }
  return before;
}

}  // namespace fwl
