#include "launch/training_bench.h"

#include <algorithm>

#include "core/base/clock.h"
#include "core/base/device.h"
#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/median.h"
#include "core/base/profile.h"
#include "core/base/threads.h"
#include "launch/synthetic_batch.h"
#include "launch/training_step.h"
#include "parallel/session.h"

namespace fwl {
namespace {

class Bench {
 public:
  Bench(const RunConfig& config, Mesh& mesh, at::Device device)
      : config_(config), mesh_(mesh), step_(config_, mesh, device) {
    // Made once: reading is not what is measured.
    const BatchShare& share = step_.gradient().share();
    const SyntheticText text{static_cast<uint64_t>(config.train.seed), config.model.vocab_size, {}, {}};
    batch_ = synthetic_batch(text, share.first_row, share.rows, share.first_position, share.positions, device,
                             step_.model().accumulation_type());
  }

  // `count` optimizer steps as the trainer makes them; returns the last one's loss. The device is done then.
  double steps(int64_t count) {
    double loss = 0;
    std::optional<StepOutcome> before;
    for (int64_t i = 0; i < count; ++i) {
      StepOutcome next = queue_step();
      if (before) loss = loss_of(*before);
      before = next;
    }
    return before ? loss_of(*before) : loss;
  }

  LanguageModel& model() { return step_.model(); }
  const StepGradient& gradient() { return step_.gradient(); }

 private:
  double tokens() const { return static_cast<double>(config_.train.global_batch * config_.model.context); }
  StepOutcome queue_step() {
    const auto source = [&](int64_t first_row, int64_t rows) {
      const auto part = [&](const Tensor& t) {
        return t.defined() ? t.narrow(0, first_row - step_.gradient().share().first_row, rows) : t;
      };
      return TokenBatch{part(batch_.input_bt), part(batch_.label_bt), part(batch_.weight_bt), {}};
    };
    return step_.run(source, tokens(), learning_rate_at(config_.train.schedule(), updates_++));
  }
  double loss_of(const StepOutcome& outcome) {
    return all_reduce_sum(mesh_.host(), {outcome.wait().own.main}).front() / tokens();
  }

  RunConfig config_;
  Mesh& mesh_;
  TrainingStep step_;
  TokenBatch batch_;
  int64_t updates_ = 0;
};

TransferTimes take_times(Mesh& mesh) {
  const TransferTimes a = mesh.world().take_times(), b = mesh.sequence().take_times();
  return {a.total_s + b.total_s, a.exposed_s + b.exposed_s};
}

int64_t largest(Communicator& host, int64_t value) {
  const Tensor own = at::full({1}, value, at::kLong), all = at::empty({host.size()}, at::kLong);
  host.all_gather(all, own);
  return all.max().item<int64_t>();
}

// After the timed repetitions, since a profile slows what it measures.
void profile_steps(Bench& bench, at::Device device) {
  if (!Profile::wanted()) return;
  constexpr int64_t kProfiled = 2;
  const Profile profile(kProfiled);
  bench.steps(kProfiled);
  synchronize(device);
}

}  // namespace

double BenchResult::median() const {
  return fwl::median(tokens_per_s);
}

BenchResult bench_training(RunConfig config, const BenchOptions& options) {
  const Placement& place = world();
  set_log_rank(place.rank, place.size);
  if (config.train.deterministic) make_deterministic();
  set_thread_count(place.local_size);
  if (config.model.vocab_size == 0) config.model.vocab_size = kBenchVocabulary;
  const MeshShape shape = layout_of(config, place.size);
  const at::Device device = choose_device(config.train.device, place.local_rank);
  Mesh mesh(shape, device, config.parallel.timeout_s);
  require_same_text(mesh.host(), "the config", to_yaml(fields_of(config)));
  Bench bench(config, mesh, device);

  BenchResult result;
  result.layout = shape.to_string();
  result.device = device.str();
  result.dtype = config.train.dtype;
  result.exchange = bench.gradient().describe_exchange();
  if (const std::string kernels = bench.gradient().describe_kernels(); !kernels.empty()) log_info(kernels);
  result.parameters = bench.model().parameters().count();
  result.tokens_per_step = config.train.global_batch * config.model.context;
  bench.steps(options.warmup_steps);
  reset_peak_memory(device);
  take_times(mesh);
  const StepTraffic before = counted_traffic(mesh);
  for (int64_t r = 0; r < options.repetitions; ++r) {
    synchronize(device);
    mesh.host().barrier();
    const double start = now_s();
    result.loss = bench.steps(options.steps);
    synchronize(device);
    mesh.host().barrier();
    result.tokens_per_s.push_back(static_cast<double>(result.tokens_per_step * options.steps) /
                                  (now_s() - start));
  }
  const StepTraffic after = counted_traffic(mesh);
  const int64_t steps = options.steps * options.repetitions;
  result.sent = {(after.gradients - before.gradients) / steps, (after.attention - before.attention) / steps,
                 (after.state - before.state) / steps};
  result.predicted = predicted_traffic(config, shape, mesh.data_rank(), mesh.sequence_rank(),
                                       result.parameters, device.is_cuda() ? Backend::kNccl : Backend::kMpi);
  const TransferTimes times = take_times(mesh);
  result.communication_s = times.total_s / static_cast<double>(steps);
  result.exposed_s = times.exposed_s / static_cast<double>(steps);
  result.step_s = static_cast<double>(result.tokens_per_step) / result.median();
  result.peak_memory_bytes = largest(mesh.host(), peak_memory_bytes(device));
  profile_steps(bench, device);
  return result;
}

}  // namespace fwl
