// Evaluation of a checkpoint on held-out documents: the same tokens under the static (slow) weights, the fast
// weights from zero in every window, the fast weights carried over whole documents, and dynamic evaluation.
// Every document is read in windows of `context` tokens that begin at the document's start; every token but
// the document-start token is scored exactly once, before anything learns from it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/adapt/dynamic_evaluation.h"
#include "core/model/language_model.h"
#include "data/dataset.h"

namespace fwl {

enum class EvalMode { kSlow, kFast, kCarried, kDynamic };
// "slow", "fast", "carried", "dynamic". Throws ConfigError.
EvalMode parse_eval_mode(const std::string& name);
const char* name_of(EvalMode mode);

struct EvalOptions {
  int64_t context = 0;             // tokens per window; 0: the model's
  int64_t batch = 8;               // windows (slow and fast) or documents (carried) at once
  std::string carry = "document";  // carried: from window to window of a document, or of the whole stream
  int64_t max_documents = 0;       // the first N; 0: all
  bool spread = false;             // takes max_documents evenly from the whole split instead
  DynamicEvaluationConfig dynamic;
};

struct EvalResult {
  EvalMode mode = EvalMode::kSlow;
  int64_t documents = 0;
  int64_t tokens = 0;
  int64_t bytes = 0;
  double nll_sum = 0;  // nats
  double seconds = 0;
  int64_t peak_memory_bytes = 0;

  double nats_per_token() const { return nll_sum / static_cast<double>(tokens); }
  double perplexity() const;
  double bits_per_byte() const;
  double tokens_per_s() const { return static_cast<double>(tokens) / seconds; }
};

class Evaluator {
 public:
  // Throws DataError when the split holds no token to score or does not fit the model's vocabulary.
  Evaluator(LanguageModel& model, Split& split, const EvalOptions& options);

  // `mean_square`: gradient statistics for the rms rule; unused by the other modes.
  EvalResult run(EvalMode mode, const Tensor& mean_square);

 private:
  // `count` predictions: inputs [first, first + count), labels one later.
  struct Window {
    int64_t document;
    int64_t first;
    int64_t count;
  };

  TokenBatch batch_of(const Window* windows, int64_t rows);
  // Windows of like length go together, so that little is padded; every window stands alone, so the order is
  // free.
  std::vector<Window> by_length() const;
  double score_static(Pass pass);
  double score_carried();
  double score_documents(const std::vector<std::vector<Window>>& documents);
  double score_dynamic(const Tensor& mean_square);

  LanguageModel& model_;
  Split& split_;
  EvalOptions options_;
  std::vector<Window> windows_;  // in reading order
  int64_t documents_ = 0, tokens_ = 0, bytes_ = 0;
};

// Squared-gradient statistics for the rms rule from `batches` batches of training windows.
Tensor gradient_mean_square(LanguageModel& model, const Split& train, int64_t batches, int64_t batch_rows,
                            uint64_t seed);

}  // namespace fwl
