// The batches of a training run on one rank, read ahead of their use by a thread of its own.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "core/model/language_model.h"
#include "data/loader.h"
#include "data/prefetcher.h"
#include "launch/run_config.h"
#include "launch/step_gradient.h"

namespace fwl {

// The splits of data.path or data.mixture with their weights.
class TrainingData {
 public:
  // Throws ConfigError for a mixture that cannot be used (bad syntax, different tokenizers, streams),
  // DataError for damaged data.
  explicit TrainingData(const RunConfig& config);
  // The first data set: of it comes the tokenizer.
  const Split& split() const { return *splits_.front(); }
  std::vector<const Split*> splits() const;
  Loader make_loader(const RunConfig& config) const;
  // What a user should know of them before training, one line each: how often their text is read, and that a
  // split is by its name held out.
  std::vector<std::string> notes(const RunConfig& config) const;

 private:
  std::vector<std::unique_ptr<Split>> splits_;
  std::vector<double> weights_;
};

class BatchFeed {
 public:
  // From `first_sample` on, this rank's `share` of every step, in micro-batches of at most `micro_rows`.
  // `cursors`: of the data's loader at that sample (Loader::cursors_at); `order_hash`: of the samples before
  // it.
  BatchFeed(const RunConfig& config, const BatchShare& share, int64_t micro_rows, int64_t first_sample,
            uint64_t order_hash, const std::vector<DocumentCursor>& cursors, at::Device device,
            at::ScalarType accumulation);
  // The next micro-batch, on the device. The rows must be those that come next. Throws DataError for damaged
  // data unless data.skip_bad is set.
  TokenBatch next(int64_t first_row, int64_t rows);
  double waited_s() const { return prefetcher_->waited_s(); }
  int64_t documents_left_out() const { return left_out_; }
  // Labels of the micro-batches handed out so far that count: not left out.
  int64_t labels() const { return labels_; }
  // The rolling hash (Loader) of all samples up to the end of the step whose last micro-batch next() gave: of
  // what the reader has read, so also of what it has left out there.
  uint64_t order_hash() const { return order_hash_; }

 private:
  struct Item {
    int64_t first_row, rows;
    TokenBatch host;
    int64_t labels = 0;       // of them those that count
    uint64_t order_hash = 0;  // after the steps that are complete with it
  };
  Item make(int64_t number);

  BatchShare share_;
  int64_t micro_rows_, micro_batches_, global_batch_, first_sample_;
  at::Device device_;
  at::ScalarType accumulation_;
  TrainingData data_;  // the reader thread's own
  Loader loader_;
  std::atomic<int64_t> left_out_ = 0;
  int64_t labels_ = 0;
  uint64_t read_hash_;   // the reader's
  uint64_t order_hash_;  // of what was taken
  std::unique_ptr<Prefetcher<Item>> prefetcher_;
};

}  // namespace fwl
