#include "launch/batch_feed.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <numeric>
#include <set>
#include <sstream>

#include "core/base/device.h"
#include "core/base/error.h"
#include "launch/batches.h"

namespace fwl {
namespace {

constexpr size_t kBatchesAhead = 4;

struct NamedWeight {
  std::string path;
  double weight;
};

// "DIR=0.7,DIR=0.3".
std::vector<NamedWeight> parse_mixture(const std::string& text) {
  std::vector<NamedWeight> parts;
  std::stringstream items(text);
  for (std::string item; std::getline(items, item, ',');) {
    const size_t equals = item.rfind('=');
    double weight = -1;
    try {
      size_t used = 0;
      if (equals != std::string::npos) weight = std::stod(item.substr(equals + 1), &used);
      if (equals == std::string::npos || used != item.size() - equals - 1) weight = -1;
    } catch (const std::exception&) {
      weight = -1;
    }
    require<ConfigError>(weight > 0 && equals > 0, "data.mixture: '", item,
                         "' is no DIR=WEIGHT with a weight above 0. Write DIR=WEIGHT,DIR=WEIGHT.");
    parts.push_back({item.substr(0, equals), weight});
  }
  return parts;
}

// "test", "valid", "validation-2", ...
bool is_held_out_name(const std::string& split) {
  const std::array<const char*, 6> names = {"test", "val", "dev", "eval", "held-out", "heldout"};
  return std::any_of(names.begin(), names.end(), [&](const char* name) { return split.rfind(name, 0) == 0; });
}

std::string split_folder(const Split& split) {
  return split.path() + "/" + split.name();
}

}  // namespace

TrainingData::TrainingData(const RunConfig& config) {
  // Damage is left out document by document: whole shards are not read into memory then.
  const int64_t in_memory = config.data.skip_bad ? 0 : int64_t{64} << 20;
  std::vector<NamedWeight> parts = {{config.data.path, 1.0}};
  if (!config.data.mixture.empty()) parts = parse_mixture(config.data.mixture);
  std::set<std::string> folders;
  for (const NamedWeight& part : parts) {
    splits_.push_back(std::make_unique<Split>(part.path, in_memory));
    const std::string shards = std::filesystem::weakly_canonical(split_folder(*splits_.back())).string();
    require<ConfigError>(
        folders.insert(shards).second, "data.mixture names '", part.path,
        "' twice (its text would be read twice). Give it once, with the sum of its weights.");
    weights_.push_back(part.weight);
    require<ConfigError>(splits_.back()->manifest().tokenizer_hash == split().manifest().tokenizer_hash,
                         "data.mixture: '", part.path, "' was made with another tokenizer than '",
                         parts.front().path, "' (their tokens mean different text). Make both with one.");
  }
}

Loader TrainingData::make_loader(const RunConfig& config) const {
  const auto seed = static_cast<uint64_t>(config.train.seed);
  if (config.train.stream)
    return Loader(split(), config.model.context, seed, config.train.global_batch,
                  config.data.skip_bad ? BadData::kLeaveOut : BadData::kStop,
                  config.data.order == "documents" ? StreamOrder::kDocuments : StreamOrder::kPacked);
  std::vector<MixturePart> mixture;
  for (size_t i = 0; i < splits_.size(); ++i) mixture.push_back({splits_[i].get(), weights_[i]});
  return Loader(mixture, config.model.context, seed,
                config.data.skip_bad ? BadData::kLeaveOut : BadData::kStop);
}

std::vector<std::string> TrainingData::notes(const RunConfig& config) const {
  std::vector<std::string> notes;
  const double all = static_cast<double>(config.train.steps) *
                     static_cast<double>(config.train.global_batch) *
                     static_cast<double>(config.model.context);
  const double weights = std::accumulate(weights_.begin(), weights_.end(), 0.0);
  for (size_t i = 0; i < splits_.size(); ++i) {
    const Split& split = *splits_[i];
    const double passes =
        all * weights_[i] / weights / static_cast<double>(std::max<int64_t>(1, split.num_tokens()));
    char text[32];
    std::snprintf(text, sizeof text, "%.4g", passes);
    if (passes > 1)
      notes.push_back(cat("train.steps makes ", text, " passes over '", split_folder(split), "'"));
    if (is_held_out_name(split.name()))
      notes.push_back(cat("training on '", split_folder(split), "', the split '", split.name(),
                          "', which is held out by its name: figures on it will say nothing"));
  }
  return notes;
}

std::vector<const Split*> TrainingData::splits() const {
  std::vector<const Split*> splits;
  for (const auto& split : splits_) splits.push_back(split.get());
  return splits;
}

BatchFeed::BatchFeed(const RunConfig& config, const BatchShare& share, int64_t micro_rows,
                     int64_t first_sample, uint64_t order_hash, const std::vector<DocumentCursor>& cursors,
                     at::Device device, at::ScalarType accumulation)
    : share_(share),
      micro_rows_(micro_rows),
      micro_batches_((share.rows + micro_rows - 1) / micro_rows),
      global_batch_(config.train.global_batch),
      first_sample_(first_sample),
      device_(device),
      accumulation_(accumulation),
      data_(config),
      loader_(data_.make_loader(config)),
      read_hash_(order_hash),
      order_hash_(order_hash) {
  if (first_sample > 0) loader_.go_on_from(cursors);
  prefetcher_ = std::make_unique<Prefetcher<Item>>([this](int64_t k) { return make(k); }, kBatchesAhead);
}

BatchFeed::Item BatchFeed::make(int64_t number) {
  use_device(device_);  // of the reader's thread: pinned memory is handed out again by asking the GPU
  const int64_t step = number / micro_batches_, done = number % micro_batches_ * micro_rows_;
  Item item{share_.first_row + done, std::min(micro_rows_, share_.rows - done), {}, 0};
  const Batch batch = loader_.read(first_sample_ + step * global_batch_ + item.first_row, item.rows,
                                   share_.first_position, share_.positions);
  if (done + item.rows == share_.rows)
    read_hash_ = loader_.rolling_hash(read_hash_, first_sample_ + step * global_batch_, global_batch_);
  item.order_hash = read_hash_;
  left_out_ = loader_.documents_left_out();
  item.labels =
      batch.rows * batch.length - std::count(batch.left_out.begin(), batch.left_out.end(), uint8_t{1});
  item.host = to_host(batch, accumulation_, device_);
  return item;
}

TokenBatch BatchFeed::next(int64_t first_row, int64_t rows) {
  const Item item = prefetcher_->next();
  require<InternalError>(item.first_row == first_row && item.rows == rows, "rows ", first_row, " + ", rows,
                         " were asked for, rows ", item.first_row, " + ", item.rows, " come next");
  labels_ += item.labels;
  order_hash_ = item.order_hash;
  return send(item.host, device_);
}

}  // namespace fwl
