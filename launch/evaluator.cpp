#include "launch/evaluator.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "core/base/device.h"
#include "core/base/error.h"
#include "data/loader.h"
#include "launch/batches.h"

namespace fwl {

EvalMode parse_eval_mode(const std::string& name) {
  for (const EvalMode mode : {EvalMode::kSlow, EvalMode::kFast, EvalMode::kCarried, EvalMode::kDynamic}) {
    if (name == name_of(mode)) return mode;
  }
  throw ConfigError(cat("mode '", name, "' does not exist. Choose among slow, fast, carried, dynamic."));
}

const char* name_of(EvalMode mode) {
  switch (mode) {
    case EvalMode::kSlow:
      return "slow";
    case EvalMode::kFast:
      return "fast";
    case EvalMode::kCarried:
      return "carried";
    case EvalMode::kDynamic:
      return "dynamic";
  }
  throw InternalError("unknown evaluation mode");
}

double EvalResult::perplexity() const {
  return std::exp(nats_per_token());
}
double EvalResult::bits_per_byte() const {
  return nll_sum / std::log(2.0) / static_cast<double>(bytes);
}

Evaluator::Evaluator(LanguageModel& model, Split& split, const EvalOptions& options)
    : model_(model), split_(split), options_(options) {
  if (options_.context == 0) options_.context = model.config().context;
  require<DataError>(split.vocab_size() <= model.config().vocab_size, "the data set's vocabulary of ",
                     split.vocab_size(), " does not fit the model's ", model.config().vocab_size,
                     " (it was made with another tokenizer). Use the model's data set.");
  const int64_t available = split.num_documents();
  const int64_t wanted = options_.max_documents > 0 ? std::min(options_.max_documents, available) : available;
  for (int64_t n = 0; n < wanted; ++n) {
    const int64_t i = options_.spread ? n * available / wanted : n;
    const Document document = split.document(i);
    for (int64_t done = 0; done < document.num_tokens - 1; done += options_.context) {
      windows_.push_back(
          {i, document.first_token + done, std::min(options_.context, document.num_tokens - 1 - done)});
    }
    tokens_ += document.num_tokens - 1;
    bytes_ += document.num_bytes;
  }
  documents_ = wanted;
  require<DataError>(tokens_ > 0, "the split holds no token to score. Give a split with documents.");
}

// Rows are padded to the longest window; padding has loss weight 0.
TokenBatch Evaluator::batch_of(const Window* windows, int64_t rows) {
  int64_t longest = 0;
  for (int64_t r = 0; r < rows; ++r) longest = std::max(longest, windows[r].count);
  Tensor tokens = at::zeros({rows, longest + 1}, at::kLong);
  Tensor weight = at::zeros({rows, longest}, model_.accumulation_type());
  for (int64_t r = 0; r < rows; ++r) {
    split_.read_tokens(windows[r].first, windows[r].count + 1, tokens[r].mutable_data_ptr<int64_t>());
    weight[r].narrow(0, 0, windows[r].count).fill_(1);
  }
  tokens = tokens.to(model_.device());
  return {tokens.narrow(1, 0, longest), tokens.narrow(1, 1, longest), weight.to(model_.device()), {}};
}

std::vector<Evaluator::Window> Evaluator::by_length() const {
  std::vector<Window> order = windows_;
  std::stable_sort(order.begin(), order.end(),
                   [](const Window& a, const Window& b) { return a.count > b.count; });
  return order;
}

double Evaluator::score_static(Pass pass) {
  const std::vector<Window> order = by_length();
  Tensor sum = at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(model_.device()));
  const auto total = static_cast<int64_t>(order.size());
  for (int64_t first = 0; first < total; first += options_.batch) {
    const TokenBatch batch =
        batch_of(&order[static_cast<size_t>(first)], std::min(options_.batch, total - first));
    sum.add_((model_.token_losses(batch, pass) * batch.weight_bt).sum(at::kDouble));
  }
  return sum.item<double>();
}

// Documents side by side, longest first: window after window, with one state each. Those that have ended
// leave the batch, so that memory and work depend on the window's length alone.
double Evaluator::score_documents(const std::vector<std::vector<Window>>& documents) {
  ContinuedSequence view(FullAttention::kForgets);
  Tensor sum = at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(model_.device()));
  size_t alive = documents.size();
  for (size_t w = 0; w < documents.front().size(); ++w) {
    std::vector<Window> windows;
    for (const auto& document : documents)
      if (w < document.size()) windows.push_back(document[w]);
    if (windows.size() < alive)
      view.set_stream_state(rows_of(view.stream_state(), 0, static_cast<int64_t>(windows.size())));
    alive = windows.size();
    const TokenBatch batch = batch_of(windows.data(), static_cast<int64_t>(alive));
    sum.add_((model_.token_losses(batch, Pass::kFast, view) * batch.weight_bt).sum(at::kDouble));
  }
  return sum.item<double>();
}

double Evaluator::score_carried() {
  if (options_.carry == "stream") return score_documents({windows_});
  std::vector<std::vector<Window>> documents;
  for (const Window& window : windows_) {
    if (documents.empty() || documents.back().front().document != window.document) documents.emplace_back();
    documents.back().push_back(window);
  }
  std::stable_sort(documents.begin(), documents.end(),
                   [](const auto& a, const auto& b) { return a.size() > b.size(); });
  double sum = 0;
  const auto group = static_cast<size_t>(options_.batch);
  for (size_t first = 0; first < documents.size(); first += group) {
    const auto begin = documents.begin() + static_cast<int64_t>(first);
    sum += score_documents({begin, begin + static_cast<int64_t>(std::min(group, documents.size() - first))});
  }
  return sum;
}

double Evaluator::score_dynamic(const Tensor& mean_square) {
  DynamicEvaluator dynamic(model_, options_.dynamic, mean_square);
  double sum = 0;
  int64_t document = -1;
  for (const Window& window : windows_) {
    if (window.document != document && options_.dynamic.reset == "document") dynamic.reset();
    document = window.document;
    const TokenBatch batch = batch_of(&window, 1);
    sum += (dynamic.score(batch) * batch.weight_bt).sum(at::kDouble).item<double>();
  }
  return sum;
}

EvalResult Evaluator::run(EvalMode mode, const Tensor& mean_square) {
  EvalResult result;
  result.mode = mode;
  result.documents = documents_;
  result.tokens = tokens_;
  result.bytes = bytes_;
  // The largest and the smallest batch once outside the clock: allocations and kernel choices are made at
  // first use.
  const std::vector<Window> order = by_length();
  const auto total = static_cast<int64_t>(order.size());
  const Pass pass = mode == EvalMode::kFast || mode == EvalMode::kCarried ? Pass::kFast : Pass::kSlow;
  for (const int64_t first : {int64_t{0}, (total - 1) / options_.batch * options_.batch}) {
    model_.token_losses(batch_of(&order[static_cast<size_t>(first)], std::min(options_.batch, total - first)),
                        pass);
  }
  synchronize(model_.device());
  reset_peak_memory(model_.device());
  const auto start = std::chrono::steady_clock::now();
  result.nll_sum = mode == EvalMode::kDynamic   ? score_dynamic(mean_square)
                   : mode == EvalMode::kCarried ? score_carried()
                                                : score_static(pass);
  synchronize(model_.device());
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  result.peak_memory_bytes = peak_memory_bytes(model_.device());
  return result;
}

Tensor gradient_mean_square(LanguageModel& model, const Split& train, int64_t batches, int64_t batch_rows,
                            uint64_t seed) {
  const Loader loader(train, model.config().context, seed);
  GradientStatistics statistics(model);
  for (int64_t i = 0; i < batches; ++i) {
    statistics.add(
        to_device(loader.read(i * batch_rows, batch_rows), model.device(), model.accumulation_type()));
  }
  return statistics.mean_square();
}

}  // namespace fwl
