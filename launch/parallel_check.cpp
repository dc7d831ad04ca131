#include "launch/parallel_check.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "core/base/device.h"
#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/threads.h"
#include "data/loader.h"
#include "launch/batches.h"
#include "launch/carried_state.h"
#include "launch/data_facts.h"
#include "launch/synthetic_batch.h"
#include "launch/training_step.h"
#include "parallel/session.h"

namespace fwl {
namespace {

constexpr int64_t kDefaultVocabulary = 256;
// Adam divides a gradient by its own size: where it is nothing but rounding, the update is a random sign, and
// two runs that differ by rounding alone part. So the check's optimizer ignores gradients far below this. In
// fp64 rounding is too small to matter.
constexpr double kEpsilon = 1e-2;
// The second-order gradient jumps where the first dense layer's input u passes 0 (squared ReLU has no second
// derivative there), and in fp32 some u of a large batch is within rounding of it. u is known to
// about this, relative to the length of its row of weights.
constexpr double kKinkWidth = 2e-6;

// Largest difference relative to the larger array's largest magnitude.
double difference(const Tensor& a, const Tensor& b) {
  if (a.numel() == 0) return 0;
  const double scale = std::max(a.abs().max().item<double>(), b.abs().max().item<double>());
  const double largest = (a - b).abs().max().item<double>();
  // NaN is a difference too.
  if (!std::isfinite(largest)) return INFINITY;
  return largest == 0 ? 0 : largest / scale;
}

// The same batches for both sides: of the data set, or random.
class Text {
 public:
  explicit Text(RunConfig* config, const MeshShape& shape) {
    if (config->data.path.empty()) {
      if (config->model.vocab_size == 0) config->model.vocab_size = kDefaultVocabulary;
      synthetic_ =
          awkward_text(static_cast<uint64_t>(config->train.seed), config->model.vocab_size,
                       config->train.global_batch, config->model.context / shape.sequence, shape.sequence);
    } else {
      split_ = std::make_unique<Split>(config->data.path);
      if (config->model.vocab_size == 0) config->model.vocab_size = split_->vocab_size();
      loader_ =
          std::make_unique<Loader>(*split_, config->model.context, static_cast<uint64_t>(config->train.seed),
                                   config->train.stream ? config->train.global_batch : 0);
    }
  }

  // Of the data set; none for random text.
  Facts facts() const {
    if (!split_) return {};
    Facts facts = data_facts({split_.get()});
    facts.insert(facts.begin(), {"order", to_hex(loader_->sequence_hash())});
    return facts;
  }

  double tokens(const RunConfig& c) const {
    return loader_ ? static_cast<double>(c.train.global_batch * c.model.context)
                   : scored_tokens(synthetic_, c.train.global_batch, c.model.context);
  }

  TokenBatch batch(int64_t step, const RunConfig& c, const BatchShare& share, int64_t first_row, int64_t rows,
                   const LanguageModel& model) const {
    if (loader_) {
      return to_device(
          loader_->read(step * c.train.global_batch + first_row, rows, share.first_position, share.positions),
          model.device(), model.accumulation_type());
    }
    SyntheticText text = synthetic_;
    text.seed += static_cast<uint64_t>(step);
    return synthetic_batch(text, first_row, rows, share.first_position, share.positions, model.device(),
                           model.accumulation_type());
  }

 private:
  SyntheticText synthetic_;
  std::unique_ptr<Split> split_;
  std::unique_ptr<Loader> loader_;
};

// A sharded optimizer leaves each rank its own part of the summed gradient. Makes it whole on all ranks.
// Collective over the mesh's world.
void complete_gradient(Mesh& mesh, Parameters& parameters, ShardedOptimizer& optimizer) {
  if (optimizer.own().first_moments().numel() == parameters.count()) return;
  const Tensor whole = at::zeros_like(parameters.gradients());
  for (const ElementRange& range : optimizer.owned()) {
    const bool is_shared = range.first + optimizer.shared_elements() == parameters.count();
    if (is_shared && !mesh.is_first_rank()) continue;
    whole.narrow(0, range.first, range.count)
        .copy_(parameters.gradients().narrow(0, range.first, range.count));
  }
  mesh.world().all_reduce_sum(whole);
  parameters.gradients().copy_(whole);
}

// One of the two sides: a model that trains over a mesh.
class Side {
 public:
  Side(const RunConfig& config, Mesh& mesh, at::Device device)
      : config_(config), mesh_(mesh), step_(config_, mesh, device) {}

  // Nats per token.
  double gradient(const Text& text, int64_t step) {
    const double tokens = text.tokens(config_);
    const LossSums own = step_.compute_gradient(
        [&](int64_t first_row, int64_t rows) {
          return text.batch(step, config_, step_.gradient().share(), first_row, rows, step_.model());
        },
        tokens);
    complete_gradient(mesh_, step_.model().parameters(), step_.optimizer());
    return all_reduce_sum(mesh_.host(), {own.main}).front() / tokens;
  }
  void update(int64_t step) {
    step_.optimizer().step(learning_rate_at(config_.train.schedule(), step), config_.train.clip_norm);
  }
  const std::vector<Parameter>& parameters() { return step_.model().parameters().all(); }
  // Flat; the values collective over the mesh's world.
  Tensor gradients() { return step_.model().parameters().gradients(); }
  Tensor values() { return step_.optimizer().gather_values(); }
  // The other side's weights, and u of the first dense layer moved by `shift` lengths of its rows.
  void take_weights(Side& other, double shift) {
    const at::NoGradGuard no_grad;
    Parameters& own = step_.model().parameters();
    own.values().copy_(other.step_.model().parameters().values());
    if (!own.has("fast_weight.dense1.bias")) return;
    own["fast_weight.dense1.bias"].add_(
        at::linalg_vector_norm(own["fast_weight.dense1.weight"], 2, at::IntArrayRef{1}), shift);
  }
  NamedTensors streams() { return gather_streams(mesh_, step_.gradient()); }
  std::string describe_exchange() { return step_.gradient().describe_exchange(); }

 private:
  RunConfig config_;
  Mesh& mesh_;
  TrainingStep step_;
};

// `serial`, `parallel`: flat.
void compare(const std::vector<Parameter>& parameters, const Tensor& serial, const Tensor& parallel,
             double ArrayDifference::*what, ParallelReport* report) {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Parameter& p = parameters[i];
    const auto part = [&](const Tensor& flat) { return flat.narrow(0, p.offset, p.gradient.numel()); };
    double& largest = report->arrays[i].*what;
    report->arrays[i].name = p.name;
    largest = std::max(largest, difference(part(serial), part(parallel)));
  }
}

// How far one rank's own gradients move when every u within rounding of 0 takes the other side.
void add_movement(Side& serial, const RunConfig& config, Mesh& alone, at::Device device, const Text& text,
                  int64_t step, ParallelReport* report) {
  std::vector<std::unique_ptr<Side>> sides;
  for (const double shift : {-kKinkWidth, kKinkWidth}) {
    sides.push_back(std::make_unique<Side>(config, alone, device));
    sides.back()->take_weights(serial, shift);
    sides.back()->gradient(text, step);
  }
  for (size_t i = 0; i < report->arrays.size(); ++i) {
    double& largest = report->arrays[i].movement;
    largest = std::max(
        largest, difference(sides[0]->parameters()[i].value.grad(), sides[1]->parameters()[i].value.grad()));
  }
}

bool any_gradient_above(const ParallelReport& report) {
  return std::any_of(report.arrays.begin(), report.arrays.end(),
                     [&](const ArrayDifference& a) { return a.gradient > report.allowed(a); });
}

void compare_streams(const NamedTensors& a, const NamedTensors& b, ParallelReport* report) {
  if (a.size() != b.size()) report->state_difference = INFINITY;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    report->state_difference = std::max(report->state_difference, difference(a[i].second, b[i].second));
}

}  // namespace

double ParallelReport::worst() const {
  double largest = std::max(loss_difference, state_difference);
  for (const ArrayDifference& a : arrays) largest = std::max({largest, a.gradient, a.weight});
  return largest;
}

double ParallelReport::allowed(const ArrayDifference& a) const {
  return std::max(tolerance, 2 * a.movement);
}

bool ParallelReport::passed() const {
  return std::max(loss_difference, state_difference) <= tolerance &&
         std::all_of(arrays.begin(), arrays.end(),
                     [&](const ArrayDifference& a) { return std::max(a.gradient, a.weight) <= allowed(a); });
}

double parallel_tolerance(const std::string& dtype) {
  if (dtype == "fp64") return 1e-11;
  return dtype == "fp32" ? 1e-5 : 5e-2;
}

ParallelReport check_parallel(RunConfig config, int64_t steps) {
  const Placement& place = world();
  set_log_rank(place.rank, place.size);
  set_thread_count(place.local_size);
  const MeshShape shape = layout_of(config, place.size);
  const at::Device device = choose_device(config.train.device, place.local_rank);
  Mesh mesh(shape, device, config.parallel.timeout_s);
  require_same_text(mesh.host(), "the config", to_yaml(fields_of(config)));
  std::optional<Text> opened;
  on_all_ranks(mesh.host(), [&] { opened.emplace(&config, shape); });
  const Text& text = *opened;
  require_same_data(mesh.host(), text.facts());
  if (config.train.dtype != "fp64")
    config.train.optimizer.epsilon = std::max(config.train.optimizer.epsilon, kEpsilon);
  Side parallel(config, mesh, device);
  Mesh alone = Mesh::solo(device);
  RunConfig serial_config = config;
  serial_config.parallel.data = serial_config.parallel.sequence = 1;
  std::unique_ptr<Side> serial;
  if (place.rank == 0) serial = std::make_unique<Side>(serial_config, alone, device);

  ParallelReport report;
  report.layout = shape.to_string();
  report.dtype = config.train.dtype;
  report.device = device.str();
  report.exchange = parallel.describe_exchange();
  report.tolerance = parallel_tolerance(config.train.dtype);
  report.steps = steps;
  report.epsilon = config.train.optimizer.epsilon;
  report.arrays.resize(parallel.parameters().size());
  for (int64_t step = 0; step < steps; ++step) {
    const double parallel_loss = parallel.gradient(text, step);
    if (serial) {
      report.losses.push_back(serial->gradient(text, step));
      report.loss_difference =
          std::max(report.loss_difference,
                   std::abs(parallel_loss - report.losses.back()) / std::abs(report.losses.back()));
      compare(serial->parameters(), serial->gradients(), parallel.gradients(), &ArrayDifference::gradient,
              &report);
      if (config.train.dtype == "fp32" && any_gradient_above(report))
        add_movement(*serial, serial_config, alone, device, text, step, &report);
    }
    parallel.update(step);
    if (serial) serial->update(step);
    const Tensor values = parallel.values();
    if (serial) compare(serial->parameters(), serial->values(), values, &ArrayDifference::weight, &report);
    if (!config.train.stream) continue;
    const NamedTensors streams = parallel.streams();
    if (serial) compare_streams(serial->streams(), streams, &report);
  }
  mesh.host().barrier();  // rank 0 has more to do than the others
  return report;
}

}  // namespace fwl
