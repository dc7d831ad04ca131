#include "launch/plan/prediction.h"

#include <algorithm>
#include <cmath>

namespace fwl {
namespace {

// Measured on two H200s (README, "On many ranks"; launch/plan/measurements.json): transfers of gradients that
// nothing hides, the difference that cut sequences make, the slowest of two ranks.
constexpr double kExposedGradients = 0.2;
constexpr double kCutSequence = 0.07;
constexpr double kStragglers = 0.015;
// ASSUMED. Of a rank's multiprocessors, NCCL takes these; gradients of this part of a micro-batch's time are
// there to hide behind; a block's launches take the host this long.
constexpr double kContention = 0.15;
constexpr double kBackwardShare = 0.6;
constexpr double kHostSecondsPerBlock = 0.3e-3;

struct Link {
  double bandwidth, latency_s;
};

// Of a group of `ranks` GPUs, neighbours where they fit into a host.
Link link_of(const Gpu& gpu, int ranks) {
  if (ranks <= gpu.per_host) return {gpu.host_bandwidth, gpu.latency_s};
  const double hosts = static_cast<double>(ranks) / gpu.per_host;
  return {gpu.network_bandwidth, gpu.latency_s + 2 * std::log2(hosts) * gpu.hop_latency_s};
}

double transfer_s(const Link& link, int64_t bytes, double calls) {
  return static_cast<double>(bytes) / link.bandwidth + calls * link.latency_s;
}

double fraction_of_slowest(int ranks) {
  return ranks == 1 ? 0 : kStragglers * std::sqrt(std::log2(static_cast<double>(ranks)));
}

bool is_fast(const ModelConfig& m) {
  return m.fast_weight.learns();
}

void add_gradients(const RunConfig& c, const MeshShape& shape, const Machine& m, const StepTraffic& sent,
                   double micro_batches, StepTime& t) {
  if (shape.ranks() == 1) return;
  const double bytes = 4.0 * static_cast<double>(count_parameters(c.model));
  const double buckets = std::ceil(bytes / static_cast<double>(c.parallel.bucket_bytes()));
  const Link link = link_of(m.gpu, shape.ranks());
  const double calls = buckets * (c.parallel.shard_optimizer ? 2 : 1);
  const double gathered_share = c.train.dtype == "bf16" ? 0.5 : 1;  // weights travel as forwards read them
  // A sharded optimizer gathers the weights after the step, which nothing hides.
  const double gathered =
      c.parallel.shard_optimizer ? bytes * gathered_share * (1 - 1.0 / shape.ranks()) / link.bandwidth : 0;
  t.gradients = transfer_s(link, sent.gradients, calls) + gathered;
  const double hideable = kBackwardShare * t.compute / micro_batches;
  t.exposed += std::max(kExposedGradients * t.gradients, t.gradients - gathered - hideable) + gathered;
}

void add_sequence(const RunConfig& c, const MeshShape& shape, const Machine& m, const StepTraffic& sent,
                  double micro_batches, StepTime& t) {
  if (shape.sequence == 1) return;
  const Link link = link_of(m.gpu, shape.sequence);
  t.attention = transfer_s(link, sent.attention, 2 * static_cast<double>(c.model.layers) * micro_batches);
  if (is_fast(c.model)) t.state = transfer_s(link, sent.state, 4 * micro_batches);
  t.exposed += t.attention + t.state / 2;
  t.sequence = kCutSequence * t.compute;
}

StepTime step_time(const RunConfig& c, const MeshShape& shape, const Machine& m, const StepTraffic& sent,
                   int64_t micro_rows) {
  const StepWork work = count_work(c, shape, micro_rows);
  StepTime t;
  t.compute = time_of(work, m.rates);
  const double launches = work[kMicroBatches] * kHostSecondsPerBlock *
                          static_cast<double>(c.model.layers + (is_fast(c.model) ? 3 : 1));
  t.host = std::max(0.0, launches - t.compute);
  add_gradients(c, shape, m, sent, work[kMicroBatches], t);
  add_sequence(c, shape, m, sent, work[kMicroBatches], t);
  t.contention = kContention * std::max(0.0, t.gradients + t.attention + t.state - t.exposed);
  t.stragglers = fraction_of_slowest(shape.ranks()) * t.compute;
  return t;
}

}  // namespace

Machine machine_for(const Gpu& gpu, const WorkRates& h200) {
  return {gpu, rates_for(gpu, h200)};
}

Prediction predict(const RunConfig& config, const MeshShape& shape, const Machine& machine) {
  Prediction p;
  p.shape = shape;
  p.global_batch = config.train.global_batch;
  p.context = config.model.context;
  const int64_t rows = p.global_batch / shape.data;
  p.micro_rows = config.train.micro_batch > 0 ? std::min(config.train.micro_batch, rows) : rows;
  const double room = machine.gpu.memory_bytes - kReservedBytes;
  p.memory = plan_memory(config, shape, p.micro_rows);
  while (p.memory.total() > room && p.micro_rows > 1)
    p.memory = plan_memory(config, shape, p.micro_rows = (p.micro_rows + 1) / 2);
  p.fits = p.memory.total() <= room;
  RunConfig cut = config;
  cut.train.micro_batch = p.micro_rows;
  p.traffic = predicted_traffic(cut, shape, 0, 0, count_parameters(config.model), Backend::kNccl);
  p.time = step_time(cut, shape, machine, p.traffic, p.micro_rows);
  p.flops = step_flops(config);
  p.tokens_per_s = static_cast<double>(p.global_batch * p.context) / p.time.total();
  p.mfu = p.flops / p.time.total() / (machine.gpu.bf16_flops * shape.ranks());
  return p;
}

}  // namespace fwl
