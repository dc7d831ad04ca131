#include "launch/evaluation/evaluator.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <set>

#include "core/base/clock.h"
#include "core/base/device.h"
#include "core/base/error.h"
#include "core/base/profile.h"
#include "core/fast_weight/linear_attention.h"
#include "core/model/fused_parts.h"
#include "data/loader.h"
#include "launch/batches.h"
#include "launch/evaluation/carried_window.h"
#include "launch/evaluation/reading_flops.h"
#include "launch/load_model.h"

namespace fwl {
namespace {

ReadingOptions with_context_of(const ModelConfig& model, ReadingOptions reading) {
  if (reading.context == 0) reading.context = model.context;
  return reading;
}

// `value` of every rank, the same list on all.
std::vector<double> of_all_ranks(Communicator& group, double value) {
  std::vector<double> values(static_cast<size_t>(group.size()), 0.0);
  values[static_cast<size_t>(group.rank())] = value;
  return all_reduce_sum(group, values);
}

TokenBatch positions_of(const TokenBatch& batch, int64_t first, int64_t count) {
  const auto part = [&](const Tensor& t) { return t.narrow(1, first, count); };
  return {part(batch.input_bt), part(batch.label_bt), part(batch.weight_bt), {}};
}

int64_t batches_of(const std::vector<ReadingUnit>& units) {
  int64_t batches = 0;
  for (const ReadingUnit& unit : units) batches += static_cast<int64_t>(unit.front().size());
  return batches;
}

bool reads_streams(const ModeTraits& mode, const Carry& carry, const DynamicEvaluationConfig& dynamic) {
  return (mode.carries && carry.scope == Carry::Scope::kStream) || (mode.adapts && dynamic.reset == "stream");
}

// The memory of attention stays.
void forget_fast(SequenceView& view) {
  StreamState state = view.stream_state();
  state.fast = {};
  view.set_stream_state(state);
}

}  // namespace

Evaluator::Evaluator(LanguageModel& model, const Split& split, const EvalOptions& options,
                     Communicator& group)
    : model_(model),
      split_(split),
      options_(options),
      group_(group),
      plan_(split, with_context_of(model.config(), options.reading)) {
  require<DataError>(split.vocab_size() <= model.config().vocab_size, split.path(), "/", split.name(),
                     ": its vocabulary of ", split.vocab_size(), " does not fit the model's ",
                     model.config().vocab_size,
                     " (it was made with another tokenizer). Use the model's data set.");
  check_carry(options_.carry, plan_.options().context);
}

bool Evaluator::reads_streams(const ModeTraits& mode, const DynamicSetup& dynamic) const {
  return fwl::reads_streams(mode, options_.carry, dynamic.config);
}

// What begins with fast weights from zero has nothing else of what was read before either.
bool Evaluator::reads_pieces(const ModeTraits& mode) const {
  return mode.carries && !mode.adapts && forgets_between_windows() && options_.carry.tokens > 0;
}

bool Evaluator::waits_for_streams(EvalMode mode, const DynamicSetup& dynamic) const {
  return reads_streams(traits_of(mode), dynamic) && !reads_pieces(traits_of(mode));
}

// A document whose window of attention and fast weights are both carried on is one sequence, however it is
// cut: the longest windows that `batch` contexts hold and that end where the fast weights start anew.
int64_t Evaluator::long_window() const {
  const int64_t context = plan_.options().context, carried = options_.carry.tokens / context;
  int64_t contexts = options_.batch;
  while (carried > 0 && carried % contexts != 0) --contexts;
  return contexts * context;
}

std::vector<ReadingUnit> Evaluator::units_of(EvalMode mode, const DynamicSetup& dynamic) const {
  const ModeTraits& traits = traits_of(mode);
  const bool goes_on = traits.carries && !forgets_between_windows(), streams = reads_streams(traits, dynamic),
             one_row = streams || traits.adapts;
  if (!traits.carries && !one_row) return plan_.by_window(options_.batch);
  int64_t length = plan_.options().context;
  std::vector<ReadingUnit> units;
  if (goes_on && !one_row) {
    length = long_window();
    units = plan_.by_long_window(options_.batch, length);
  } else {
    // A window of attention that is carried on needs no inputs twice.
    const auto overlap = goes_on ? ReadingPlan::Overlap::kSkip : ReadingPlan::Overlap::kRead;
    // Windows of a stream end where documents do: its rows cannot be read side by side.
    units = streams ? plan_.by_stream(options_.streams, overlap)
                    : plan_.by_document(one_row ? 1 : options_.batch, overlap);
  }
  mark_begins(units, options_.carry, length);
  return reads_pieces(traits) ? cut_at_begins(units, one_row ? 1 : options_.batch) : units;
}

int64_t Evaluator::longest_of(const std::vector<Window>& windows) {
  int64_t longest = 0;
  for (const Window& window : windows) longest = std::max(longest, window.inputs());
  return longest;
}

// Rows are padded at their end to `length`; padding has loss weight 0. All windows have the same overlap.
TokenBatch Evaluator::batch_of(const std::vector<Window>& windows, Labels labels, int64_t length) const {
  const int64_t overlap = windows.front().overlap;
  Batch host{static_cast<int64_t>(windows.size()), length, {}, {}, {}};
  host.tokens.resize(static_cast<size_t>(host.rows * (length + 1)));
  host.left_out.resize(static_cast<size_t>(host.rows * length), 1);
  for (int64_t r = 0; r < host.rows; ++r) {
    const Window& window = windows[static_cast<size_t>(r)];
    require<InternalError>(window.overlap == overlap, "windows of one batch have different overlaps");
    split_.read_tokens(window.first, window.inputs() + 1, host.tokens.data() + r * (length + 1));
    std::fill_n(host.left_out.begin() + r * length, window.inputs(), uint8_t{0});
  }
  const TokenBatch batch = to_device(host, model_.device(), model_.accumulation_type());
  const int64_t skipped = labels == Labels::kScored ? overlap : 0;
  return {batch.input_bt,
          batch.label_bt.narrow(1, skipped, length - skipped),
          batch.weight_bt.narrow(1, skipped, length - skipped).contiguous(),
          {}};
}

// On a GPU the fused kernels of attention take multiples of 128 alone, which whole chunks are.
// Padding needs positions too, of which a model that has learned them may have none left.
int64_t Evaluator::suitable_length(int64_t longest) const {
  if (model_.config().positions == "learned") return longest;
  constexpr int64_t kMultiple = 8;  // elsewhere, so that padding is tested
  return model_.device().is_cuda() ? length_of_whole_chunks(longest)
                                   : (longest + kMultiple - 1) / kMultiple * kMultiple;
}

std::string Evaluator::describe_kernels() const {
  return describe(
      fused_parts(model_.config(), forward_shape(model_, model_.inner_approximation(), options_.batch,
                                                 suitable_length(plan_.options().context))));
}

// Nothing goes on from a row's only window.
std::unique_ptr<SequenceView> Evaluator::make_view(const ReadingUnit& unit, const ModeTraits& mode) const {
  if (!mode.carries || unit.front().size() == 1) return std::make_unique<WholeSequence>();
  if (forgets_between_windows()) return std::make_unique<CarriedWindow>();
  return std::make_unique<ContinuedSequence>();
}

// `nats_bt` begins with the first scored label; what lies behind the longest window's last is padding.
void Evaluator::keep(const std::vector<Window>& windows, const Tensor& nats_bt) {
  int64_t longest = 0;
  for (const Window& window : windows) longest = std::max(longest, window.count);
  scores_.push_back({windows, nats_bt.narrow(1, 0, longest).contiguous()});
}

// Rows that have ended leave, so that memory and work depend on the window's length alone.
void Evaluator::score_side_by_side(const ReadingUnit& unit, const ModeTraits& mode) {
  const std::unique_ptr<SequenceView> view = make_view(unit, mode);
  const Labels labels = learns_from_overlap(mode) ? Labels::kAll : Labels::kScored;
  size_t alive = unit.size();
  for (size_t w = 0; w < unit.front().size(); ++w) {
    std::vector<Window> windows;
    for (const auto& row : unit)
      if (w < row.size()) windows.push_back(row[w]);
    if (windows.size() < alive)
      view->set_stream_state(rows_of(view->stream_state(), 0, static_cast<int64_t>(windows.size())));
    alive = windows.size();
    if (w > 0 && windows.front().begins) forget_fast(*view);
    // Rows that go on must not read padding; where all end here, kernels get a length that suits them.
    const bool goes_on = w + 1 < unit.front().size();
    const int64_t longest = longest_of(windows), length = goes_on ? longest : suitable_length(longest);
    const Tensor nats_bt = model_.token_losses(batch_of(windows, labels, length), mode.pass, *view);
    const int64_t skipped = labels == Labels::kAll ? windows.front().overlap : 0;
    keep(windows, nats_bt.narrow(1, skipped, nats_bt.size(1) - skipped));
  }
}

// Reads what an earlier window has scored, without a gradient step: attention needs it, and so do fast
// weights that start from zero. Carried ones have learned it already.
void Evaluator::read_overlap(TokenBatch overlap, const ModeTraits& mode, SequenceView& view) const {
  if (learns_from_overlap(mode)) {
    model_.token_losses(overlap, Pass::kFast, view);
    return;
  }
  const FastWeightState fast = view.inbound_state();
  const int64_t last = overlap.label_bt.size(1) - 1;  // one label: the least that a forward takes
  overlap.label_bt = overlap.label_bt.narrow(1, last, 1);
  overlap.weight_bt = overlap.weight_bt.narrow(1, last, 1);
  model_.token_losses(overlap, Pass::kSlow, view);
  StreamState after = view.stream_state();
  after.fast = fast;
  view.set_stream_state(after);
}

void Evaluator::score_adapting(const ReadingUnit& unit, const ModeTraits& mode, DynamicEvaluator& dynamic,
                               const DynamicSetup& setup) {
  StreamState state;
  int64_t document = -1;
  for (const Window& window : unit.front()) {
    const bool is_new = window.document != document;
    document = window.document;
    if (is_new && setup.config.reset == "document") dynamic.reset();
    if (!mode.carries || (is_new && options_.carry.scope == Carry::Scope::kDocument)) state = {};
    if (window.begins) state.fast = {};
    if (forgets_between_windows()) state = {0, {}, state.fast};
    ContinuedSequence view;
    view.set_stream_state(state);
    const TokenBatch batch = batch_of({window}, Labels::kAll, window.inputs());
    if (window.overlap > 0) read_overlap(positions_of(batch, 0, window.overlap), mode, view);
    keep({window}, dynamic.score(positions_of(batch, window.overlap, window.count), view));
    state = view.stream_state();
  }
}

// Allocations and kernel choices are made at first use: the largest and the smallest batch once, outside the
// clock.
void Evaluator::warm_up(EvalMode mode, const DynamicSetup& dynamic, const std::vector<ReadingUnit>& units) {
  if (units.empty()) return;
  const ModeTraits& traits = traits_of(mode);
  for (const ReadingUnit* unit : {&units.front(), &units.back()}) {
    std::vector<Window> windows;
    for (const auto& row : *unit) windows.push_back(row.front());
    const TokenBatch batch = batch_of(windows, Labels::kAll, longest_of(windows));
    model_.token_losses(batch, traits.pass);
    if (traits.adapts)
      DynamicEvaluator(model_, dynamic.config, dynamic.mean_square, traits.pass).score(batch);
  }
  if (!traits.adapts && !reads_streams(traits, dynamic)) warm_up_shapes(traits, units);
}

// On a GPU the first use of a shape costs up to milliseconds (a plan of attention, a choice of product), more
// than the batch itself: one unit of each shape is read before. Not the few long ones of streams.
void Evaluator::warm_up_shapes(const ModeTraits& mode, const std::vector<ReadingUnit>& units) {
  constexpr size_t kShapes = 256;
  if (!model_.device().is_cuda()) return;
  std::set<std::vector<int64_t>> seen;
  for (const ReadingUnit& unit : units) {
    std::vector<int64_t> shape;  // rows and length of every batch
    for (size_t w = 0; w < unit.front().size(); ++w) {
      shape.push_back(
          std::count_if(unit.begin(), unit.end(), [&](const auto& row) { return w < row.size(); }));
      shape.push_back(suitable_length(unit.front()[w].inputs()));
    }
    if (seen.size() < kShapes && seen.insert(shape).second) score_side_by_side(unit, mode);
  }
  scores_.clear();
}

// To the host, into the slots of this rank's units.
void Evaluator::take_scores() {
  for (const Scores& scores : scores_) {
    const Tensor host = scores.nats_bt.to(at::kCPU, at::kDouble).contiguous();
    for (size_t r = 0; r < scores.windows.size(); ++r) {
      const Window& window = scores.windows[r];
      std::copy_n(host.const_data_ptr<double>() + static_cast<int64_t>(r) * host.size(1), window.count,
                  nats_.begin() + window.slot);
    }
  }
  scores_.clear();
}

// Every token's loss on every rank. Each slot has one owner, so that the sum adds zeros alone.
std::vector<double> Evaluator::gather() {
  std::vector<double> nats = std::move(nats_);
  if (group_.size() > 1)
    group_.all_reduce_sum(at::from_blob(nats.data(), {static_cast<int64_t>(nats.size())}, at::kDouble));
  return nats;
}

// Ranks take the same number of turns; one without a unit in a turn has spent no time.
std::vector<ModeTurn> Evaluator::turns_of_all_ranks() {
  std::vector<double> flat;
  for (const ModeTurn& turn : turns_) flat.insert(flat.end(), {turn.rank_seconds, turn.tokens});
  if (!flat.empty()) flat = all_reduce_sum(group_, flat);
  std::vector<ModeTurn> turns;
  for (size_t i = 0; i + 1 < flat.size(); i += 2) turns.push_back({flat[i], flat[i + 1]});
  return turns;
}

void Evaluator::fill_documents(EvalResult& result, const std::vector<double>& nats) const {
  for (const PlannedDocument& d : plan_.documents()) {
    double sum = 0;
    for (int64_t i = d.slot; i < d.slot + d.predictions; ++i) sum += nats[static_cast<size_t>(i)];
    result.nats.push_back(sum);
    result.tokens.push_back(static_cast<double>(d.predictions));
    result.bytes.push_back(static_cast<double>(d.bytes));
  }
}

ScoredTokens Evaluator::tokens_of(const std::vector<double>& nats) const {
  ScoredTokens scored;
  scored.nats.assign(nats.begin(), nats.end());
  std::vector<int64_t> tokens;
  for (const PlannedDocument& d : plan_.documents()) {
    tokens.resize(static_cast<size_t>(d.predictions));
    split_.read_tokens(d.first_token + 1, d.predictions, tokens.data());
    scored.token.insert(scored.token.end(), tokens.begin(), tokens.end());
    scored.document.insert(scored.document.end(), tokens.size(), static_cast<int32_t>(d.index));
    for (int64_t p = 1; p <= d.predictions; ++p) scored.position.push_back(p);
  }
  return scored;
}

EvalResult Evaluator::run(EvalMode mode, const DynamicSetup& dynamic) {
  begin(mode, dynamic);
  read_share(0, 1);
  return finish();
}

void Evaluator::begin(EvalMode mode, const DynamicSetup& dynamic) {
  require_fast_weights(mode, model_.config());
  mode_ = mode;
  dynamic_ = dynamic;
  units_ = units_of(mode, dynamic);
  own_units_.clear();
  const std::vector<int> owner = share_out(units_, group_.size());
  for (size_t i = 0; i < units_.size(); ++i)
    if (owner[i] == group_.rank()) own_units_.push_back(i);
  warm_up(mode, dynamic, units_);
  scores_.clear();
  nats_.assign(static_cast<size_t>(plan_.tokens()), 0.0);
  turns_.clear();
  first_turns_ = 0;
  peak_memory_bytes_ = 0;
  inner_use_ = {};
}

// Every `shares`-th unit, so that a turn holds long and short ones as the whole does. The weights are the
// trained ones again behind it.
void Evaluator::read_turn(int share, int shares, Keep keep) {
  const ModeTraits& traits = traits_of(mode_);
  std::optional<DynamicEvaluator> adapting;  // before the clock: it copies the weights
  if (traits.adapts) adapting.emplace(model_, dynamic_.config, dynamic_.mean_square, traits.pass);
  model_.take_inner_use();
  synchronize(model_.device());
  reset_peak_memory(model_.device());
  group_.barrier();
  ModeTurn turn;
  const double start_s = now_s();
  for (size_t i = static_cast<size_t>(share); i < own_units_.size(); i += static_cast<size_t>(shares)) {
    const ReadingUnit& unit = units_[own_units_[i]];
    for (const auto& row : unit)
      for (const Window& window : row) turn.tokens += static_cast<double>(window.count);
    if (adapting) {
      adapting->reset();
      score_adapting(unit, traits, *adapting, dynamic_);
    } else {
      score_side_by_side(unit, traits);
    }
  }
  synchronize(model_.device());
  turn.rank_seconds = turn.tokens > 0 ? now_s() - start_s : 0;
  turns_.push_back(turn);
  if (keep == Keep::kTimes) return scores_.clear();
  peak_memory_bytes_ = std::max(peak_memory_bytes_, peak_memory_bytes(model_.device()));
  take_scores();
  const LanguageModel::InnerUse use = model_.take_inner_use();
  inner_use_ = {inner_use_.gradients + use.gradients, inner_use_.kept + use.kept, inner_use_.rest + use.rest};
}

void Evaluator::read_share(int share, int shares) {
  std::optional<Profile> profile;  // of each mode's first turn; the next one's trace takes its place
  if (share == 0 && group_.rank() == 0) profile.emplace(batches_of(units_));
  read_turn(share, shares, Keep::kScores);
  first_turns_ = turns_.size();
}

void Evaluator::read_again() {
  read_turn(0, 1, Keep::kTimes);
}

double Evaluator::seconds() const {
  double seconds = 0;
  for (const ModeTurn& turn : turns_) seconds += turn.rank_seconds;
  return seconds;
}

EvalResult Evaluator::finish() {
  const ModeTraits& traits = traits_of(mode_);
  double own_seconds = 0;
  for (size_t i = 0; i < first_turns_; ++i) own_seconds += turns_[i].rank_seconds;
  const std::vector<double> seconds = of_all_ranks(group_, own_seconds);
  const std::vector<double> peaks = of_all_ranks(group_, static_cast<double>(peak_memory_bytes_));
  EvalResult result;
  result.mode = traits.name;
  result.seconds = *std::max_element(seconds.begin(), seconds.end());
  for (const double s : seconds) result.rank_seconds += s;
  result.turns = turns_of_all_ranks();
  result.peak_memory_bytes = static_cast<int64_t>(*std::max_element(peaks.begin(), peaks.end()));
  double inner_rows = -1;
  const InnerApproximation& inner = model_.inner_approximation();
  if (traits.pass == Pass::kFast && !inner.exact())
    result.inner = {{"threshold", inner.threshold}, {"logits", inner.float8_logits ? "fp8" : "exact"}};
  const std::vector<double> use =
      all_reduce_sum(group_, {inner_use_.gradients, inner_use_.kept, inner_use_.rest});
  if (use[0] > 0) {
    inner_rows = use[1] / use[0];
    result.inner["kept"] = inner_rows;
    result.inner["rest"] = static_cast<float>(use[2] / use[0]);  // in what ranks agree on
  }
  result.flops = reading_flops(model_.config(), units_, traits, options_.carry.scope, dynamic_.config.segment,
                               model_.device(), inner_rows);
  const std::vector<double> nats = gather();
  fill_documents(result, nats);
  if (options_.keep_tokens && group_.rank() == 0) result.scored = tokens_of(nats);
  return result;
}

EvalResult Evaluator::no_result(EvalMode mode) const {
  constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
  EvalResult result;
  result.mode = name_of(mode);
  result.seconds = result.rank_seconds = result.flops = kNaN;
  fill_documents(result, std::vector<double>(static_cast<size_t>(plan_.tokens()), kNaN));
  return result;
}

// Windows that stand alone begin at position 0; what goes on from window to window goes on in positions too.
void check_positions(const ModelConfig& model, const ReadingPlan& plan, EvalMode mode, const Carry& carry,
                     const DynamicEvaluationConfig& dynamic, const std::string& text) {
  const std::optional<int64_t> positions = positions_of(model);
  if (!positions) return;
  require<ConfigError>(plan.options().context <= *positions, "--context ", plan.options().context,
                       " is more than the ", *positions,
                       " learned positions of this model (later ones mean nothing to it). Give --context ",
                       *positions, " or less.");
  const ModeTraits& traits = traits_of(mode);
  if (!traits.carries || model.window == 0) return;
  int64_t longest = 0;
  for (const PlannedDocument& d : plan.documents()) longest = std::max(longest, d.predictions);
  const bool streams = reads_streams(traits, carry, dynamic);
  const int64_t length = streams ? plan.tokens() : longest;
  require<ConfigError>(length <= *positions, "--modes ", traits.name, ": a ", streams ? "stream" : "document",
                       text, " of ", length, " tokens goes on beyond the ", *positions,
                       " learned positions of this model. Leave the mode out.");
}

Tensor gradient_mean_square(LanguageModel& model, const Split& train, int64_t batches, int64_t batch_rows,
                            uint64_t seed, Pass pass) {
  const Loader loader(train, model.config().context, seed);
  GradientStatistics statistics(model, pass);
  for (int64_t i = 0; i < batches; ++i) {
    statistics.add(
        to_device(loader.read(i * batch_rows, batch_rows), model.device(), model.accumulation_type()));
  }
  return statistics.mean_square();
}

}  // namespace fwl
