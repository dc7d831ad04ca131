#include "launch/evaluation_bench.h"

#include <algorithm>
#include <functional>
#include <optional>

#include "core/base/clock.h"
#include "core/base/device.h"
#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/median.h"
#include "core/base/profile.h"
#include "core/base/threads.h"
#include "core/model/flops.h"
#include "core/model/fused_parts.h"
#include "data/loader.h"
#include "launch/batches.h"
#include "launch/evaluation/speed.h"
#include "launch/load_model.h"
#include "launch/named_split.h"
#include "launch/plan/memory.h"
#include "launch/synthetic_batch.h"
#include "parallel/session.h"

namespace fwl {
namespace {

constexpr double kDynamicRate = 1e-4;  // small: the speed is what is measured

struct Mode {
  EvaluationTime time;
  std::function<void()> run;
};

// One step of dynamic evaluation over the batch as one segment: plain gradient descent.
void dynamic_step(LanguageModel& model, const TokenBatch& batch) {
  Parameters& parameters = model.parameters();
  parameters.zero_gradients();
  WholeSequence whole;
  parameters.backward(model.segment_loss(batch, whole).total);
  const at::NoGradGuard no_grad;
  parameters.values().add_(parameters.gradients(),
                           -kDynamicRate / static_cast<double>(batch.label_bt.numel()));
}

// Of a token of the batch. `inner_rows`: as SequenceRead's, of the fast pass.
double flops_of(const std::string& mode, const LanguageModel& model, double inner_rows) {
  SequenceRead read;
  read.positions = model.config().context;
  read.device = model.device();
  if (mode == "fast") read.inner_rows = inner_rows;
  Flops sum = forward_flops(model.config(), mode == "fast" ? Pass::kFast : Pass::kSlow, read);
  if (mode == "dynamic") sum += backward_flops(model.config(), Pass::kSlow, read);
  return sum.total() / static_cast<double>(read.positions);
}

// Every time against the slow pass's, repetition by repetition, and against its share of the work.
void compare_times(std::vector<Mode>& modes, EvaluationBenchResult& result) {
  const EvaluationTime& slow = modes.front().time;
  std::vector<SpeedFigure> figures;
  for (Mode& mode : modes) {
    EvaluationTime& time = mode.time;
    time.relative_time = slow.median() / time.median();
    std::vector<double> ratios;
    for (size_t r = 0; r < time.tokens_per_s.size(); ++r)
      ratios.push_back(slow.tokens_per_s[r] / time.tokens_per_s[r]);
    time.relative_time_spread = spread_of(ratios);
    time.relative_flops = time.flops_per_token / slow.flops_per_token;
    time.is_disturbed = is_below_its_work(time.relative_time, time.relative_time_spread, time.relative_flops);
    figures.push_back({time.mode, time.mode, 1 / time.median(), time.flops_per_token, "", time.is_disturbed});
    result.modes.push_back(time);
  }
  result.speed_problems = problems_of(figures);
}

std::vector<Mode> modes_of(LanguageModel& model, const TokenBatch& batch, const InnerApproximation& inner) {
  std::vector<Mode> modes;
  const auto add = [&](const char* name, std::function<void()> run) {
    modes.push_back({{name, {}}, std::move(run)});
  };
  add("slow", [&] { model.token_losses(batch, Pass::kSlow); });
  if (model.has_fast_weights()) {
    add("fast", [&, inner] {
      model.set_inner_approximation(inner);
      model.token_losses(batch, Pass::kFast);
      model.set_inner_approximation({});  // what has a gradient needs the exact form
    });
  }
  add("dynamic", [&] { dynamic_step(model, batch); });
  return modes;
}

// The config's vocabulary where it names none: that of the weights, or of the benchmark. Weights of another
// model are refused before one is made.
void fit_to_weights(RunConfig& config, const EvaluationBenchOptions& options) {
  int64_t& vocabulary = config.model.vocab_size;
  if (options.weights.empty()) {
    if (vocabulary == 0) vocabulary = kBenchVocabulary;
    return;
  }
  const LoadedModel trained = open_model({options.weights, "cpu", ""});
  if (vocabulary == 0) vocabulary = trained.config.model.vocab_size;
  const int64_t own = count_parameters(config.model), theirs = count_parameters(trained.config.model);
  require<ConfigError>(own == theirs, "--weights ", options.weights, " is of a model of ", theirs,
                       " parameters, this config is one of ", own,
                       " (they do not fit). Give the run's own config.yaml.");
}

// The text that is read, checked before a model is made. A model without trained weights has no tokenizer:
// any tokens that have an embedding show its speed.
std::optional<Split> open_text(const RunConfig& config, const EvaluationBenchOptions& options) {
  if (options.data.empty()) return {};
  Split split = open_split("--data", options.data);
  require_text("--data", split);
  require<ConfigError>(split.vocab_size() <= config.model.vocab_size, "--data ", options.data,
                       ": its tokens are of a vocabulary of ", split.vocab_size(), ", the model's has ",
                       config.model.vocab_size, " (they have no embedding). Set model.vocab_size.");
  if (options.weights.empty()) return split;
  const CheckpointInfo info = read_checkpoint_info(find_checkpoint(options.weights));
  require_tokenizer("--data", split,
                    identity_of(*make_tokenizer(info.tokenizer_kind, info.tokenizer_bytes, info.path)),
                    options.weights);
  return split;
}

// Rows of the split, as training would read them, or random ones.
TokenBatch batch_of(const RunConfig& config, const std::optional<Split>& split, const LanguageModel& model) {
  const auto seed = static_cast<uint64_t>(config.train.seed);
  if (!split) {
    const SyntheticText text{seed, config.model.vocab_size, {}, {}};
    return synthetic_batch(text, 0, config.train.global_batch, 0, config.model.context, model.device(),
                           model.accumulation_type());
  }
  const Loader loader(*split, config.model.context, seed);
  return to_device(loader.read(0, config.train.global_batch), model.device(), model.accumulation_type());
}

void repeat(Mode& mode, int64_t times, at::Device device) {
  for (int64_t i = 0; i < times; ++i) mode.run();
  synchronize(device);
}

}  // namespace

double EvaluationTime::median() const {
  return fwl::median(tokens_per_s);
}

EvaluationBenchResult bench_evaluation(RunConfig config, const EvaluationBenchOptions& options) {
  const Placement& place = world();
  require<ConfigError>(place.size == 1, "`fwl bench eval` measures one rank, it was started on ", place.size,
                       ". Start it without mpirun.");
  if (config.train.deterministic) make_deterministic();
  set_thread_count(place.local_size);
  fit_to_weights(config, options);
  const std::optional<Split> split = open_text(config, options);
  const at::Device device = choose_device(config.train.device, place.local_rank);
  LanguageModel model(config.model, device, parse_dtype(config.train.dtype),
                      static_cast<uint64_t>(config.train.seed));
  if (!options.weights.empty())
    with_checkpoint(options.weights,
                    [&](const std::string& path) { read_checkpoint_tensors(path, model.parameters()); });
  const std::string problem = nonfinite_problem(nonfinite_parameters(model.parameters()));
  require<CheckFailed>(problem.empty(), options.weights, ": ", problem,
                       " (what is computed with them is no measure). Give another checkpoint.");
  const TokenBatch batch = batch_of(config, split, model);
  const ForwardShape shape =
      forward_shape(model, options.inner, batch.input_bt.size(0), batch.input_bt.size(1));
  if (const std::string kernels = describe(fused_parts(config.model, shape)); !kernels.empty())
    log_info(kernels);
  EvaluationBenchResult result{
      device.str(), config.train.dtype, batch.label_bt.numel(), model.parameters().count(), 0, {}, {}};
  result.loss = model.token_losses(batch, Pass::kSlow).mean().item<double>();
  std::vector<Mode> modes = modes_of(model, batch, options.inner);
  for (Mode& mode : modes) {
    repeat(mode, options.warmup_steps, device);
    reset_peak_memory(device);
    repeat(mode, 1, device);
    mode.time.peak_memory_bytes = peak_memory_bytes(device);
    const LanguageModel::InnerUse use = model.take_inner_use();
    mode.time.flops_per_token =
        flops_of(mode.time.mode, model, use.gradients > 0 ? use.kept / use.gradients : -1);
  }
  for (int64_t r = 0; r < options.repetitions; ++r) {
    for (Mode& mode : modes) {
      const double start = now_s();
      repeat(mode, options.steps, device);
      mode.time.tokens_per_s.push_back(static_cast<double>(result.tokens_per_batch * options.steps) /
                                       (now_s() - start));
    }
  }
  compare_times(modes, result);
  return result;
}

}  // namespace fwl
