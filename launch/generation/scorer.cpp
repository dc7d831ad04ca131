#include "launch/generation/scorer.h"

#include <algorithm>

#include "core/base/error.h"
#include "data/document_reader.h"
#include "launch/load_model.h"

namespace fwl {
namespace {

// One window's batch: `last` is the token before `tokens`.
TokenBatch window_of(int64_t last, const std::vector<int64_t>& tokens, const LanguageModel& model) {
  std::vector<int64_t> all = {last};
  all.insert(all.end(), tokens.begin(), tokens.end());
  const auto length = static_cast<int64_t>(tokens.size());
  const Tensor ids = at::tensor(all, at::kLong).to(model.device()).unsqueeze(0);
  return {ids.narrow(1, 0, length),
          ids.narrow(1, 1, length),
          at::ones({1, length}, at::TensorOptions().dtype(model.accumulation_type()).device(model.device())),
          {}};
}

std::vector<double> values_of(const Tensor& nll_bt, size_t count) {
  if (!nll_bt.defined()) return std::vector<double>(count, 0.0);
  const Tensor wide = nll_bt.flatten().to(at::kCPU, at::kDouble).contiguous();
  return {wide.const_data_ptr<double>(), wide.const_data_ptr<double>() + wide.numel()};
}

}  // namespace

std::vector<int64_t> TextTokens::next(int64_t count) {
  while (static_cast<int64_t>(ready_.size()) < count && encode_piece()) {
  }
  const auto end = ready_.begin() + std::min<int64_t>(count, static_cast<int64_t>(ready_.size()));
  const std::vector<int64_t> tokens(ready_.begin(), end);
  ready_.erase(ready_.begin(), end);
  return tokens;
}

int64_t TextTokens::count_up_to(int64_t most) {
  int64_t dropped = 0;
  const auto total = [&] { return dropped + static_cast<int64_t>(ready_.size()); };
  while (encode_piece()) {
    if (total() <= most) continue;
    dropped = total();
    ready_.clear();
  }
  return total();
}

bool TextTokens::is_empty() {
  while (ready_.empty() && encode_piece()) {
  }
  return ready_.empty();
}

bool TextTokens::encode_piece() {
  while (!ended_ && held_.size() <= kPieceBytes) fill();
  if (held_.empty()) return false;
  const size_t length = piece_length(held_);
  for (const int32_t id : tokenizer_.encode(std::string_view(held_).substr(0, length))) ready_.push_back(id);
  held_.erase(0, length);
  return true;
}

void TextTokens::fill() {
  constexpr size_t kReadBytes = size_t{1} << 18;
  const size_t before = held_.size();
  held_.resize(before + kReadBytes);
  const size_t got = bytes_.read(held_.data() + before, kReadBytes);
  held_.resize(before + got);
  bytes_read_ += static_cast<int64_t>(got);
  ended_ = got == 0;
}

void check_length(const ModelConfig& model, TextTokens& text, const ScoreOptions& options) {
  const std::optional<int64_t> positions = positions_of(model);
  if (!positions) return;
  require<ConfigError>(options.context <= *positions, "--context ", options.context, " is more than the ",
                       *positions,
                       " learned positions of this model (later ones mean nothing to it). Give --context ",
                       *positions, " or less.");
  if (!options.carry) return;
  const int64_t tokens = text.count_up_to(*positions);
  require<ConfigError>(
      tokens <= *positions, "the text has ", tokens,
      " tokens, and with --carry it is read as one "
      "sequence, but this model has learned ",
      *positions, " positions (later ones mean nothing to it). Leave --carry out, or give a shorter text.");
}

ScoreTotals score_text(const LanguageModel& model, const Tokenizer& tokenizer, TextTokens& text,
                       const ScoreOptions& options, const std::function<void(const ScoredToken&)>& visit) {
  const int64_t context = options.context > 0 ? options.context : model.config().context;
  ContinuedSequence carried(FullAttention::kForgets);
  ScoreTotals totals;
  int64_t last = tokenizer.document_start();
  for (auto tokens = text.next(context); !tokens.empty(); tokens = text.next(context)) {
    WholeSequence whole;
    SequenceView& view = options.carry ? static_cast<SequenceView&>(carried) : whole;
    const LanguageModel::PassLosses losses = model.pass_losses(window_of(last, tokens, model), view);
    const std::vector<double> slow = values_of(losses.slow_bt, tokens.size());
    const std::vector<double> fast = values_of(losses.fast_bt, tokens.size());
    for (size_t i = 0; i < tokens.size(); ++i) {
      const auto id = static_cast<int32_t>(tokens[i]);
      visit({id, tokenizer.decode({id}), -slow[i], -fast[i]});
      totals.slow -= slow[i];
      totals.fast -= fast[i];
    }
    totals.tokens += static_cast<int64_t>(tokens.size());
    last = tokens.back();
  }
  totals.bytes = text.bytes_read();
  return totals;
}

}  // namespace fwl
