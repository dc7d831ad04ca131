#include "launch/plan/plan.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>

#include "core/base/error.h"

namespace fwl {
namespace {

std::string number(double value, const char* format) {
  char text[64];
  std::snprintf(text, sizeof(text), format, value);
  return text;
}

// Layouts of `gpus` that the config can be cut into.
std::vector<Prediction> weigh(const RunConfig& config, int gpus, const Machine& machine) {
  std::vector<Prediction> all;
  for (int sequence = 1; sequence <= gpus; ++sequence) {
    if (gpus % sequence != 0) continue;
    RunConfig c = config;
    c.parallel.data = gpus / sequence;
    c.parallel.sequence = sequence;
    try {
      all.push_back(predict(c, layout_of(c, gpus), machine));
    } catch (const ConfigError&) {  // a layout that this config does not allow
    }
  }
  std::stable_sort(all.begin(), all.end(), [](const Prediction& a, const Prediction& b) {
    return std::pair(!a.fits, -a.tokens_per_s) < std::pair(!b.fits, -b.tokens_per_s);
  });
  return all;
}

std::string largest_cost(const StepTime& t) {
  const std::pair<double, const char*> costs[] = {{t.exposed, "waiting for transfers"},
                                                  {t.host, "the host's launches"},
                                                  {t.sequence, "what cut sequences cost beside transfers"},
                                                  {t.stragglers, "waiting for the slowest rank"},
                                                  {t.contention, "transfers beside computation"}};
  const auto worst = *std::max_element(std::begin(costs), std::end(costs));
  if (worst.first <= 0) return "nothing but computation";
  return cat(worst.second, " (", number(100 * worst.first / t.total(), "%.1f"), " % of the step)");
}

std::string reason_for(const std::vector<Prediction>& all, double memory_bytes) {
  const Prediction& best = all.front();
  std::string text;
  if (all.size() == 1) text = "the only layout that batch and context allow";
  if (all.size() > 1 && !all[1].fits)
    text = cat("the only layout whose memory fits into ", number(memory_bytes / 1e9, "%.0f"), " GB");
  if (all.size() > 1 && all[1].fits)
    text = cat(number(100 * (best.tokens_per_s / all[1].tokens_per_s - 1), "%.1f"), " % faster than ",
               all[1].shape.to_string(), ", whose largest cost is ", largest_cost(all[1].time));
  return cat(text, "; its own largest cost beside computation: ", largest_cost(best.time));
}

RunConfig with_batch(const RunConfig& config, int64_t batch) {
  RunConfig c = config;
  c.train.global_batch = batch;
  return c;
}

RunConfig one_gpu_batch(const RunConfig& config, const Machine& machine) {
  // The rows that one GPU computes at a time.
  const Prediction one = predict(config, {1, 1}, machine);
  RunConfig c = with_batch(config, one.micro_rows);
  c.train.micro_batch = one.micro_rows;
  return c;
}

double per_gpu(const Prediction& p) {
  return p.tokens_per_s / p.shape.ranks();
}

void add_point(std::vector<ScalingPoint>& points, const char* kind, const Prediction& p) {
  const auto first =
      std::find_if(points.begin(), points.end(), [&](const auto& s) { return s.kind == kind; });
  const double base = first == points.end() ? per_gpu(p) : per_gpu(first->prediction);
  points.push_back({kind, p, per_gpu(p) / base});
}

std::optional<Prediction> longer_sequences(RunConfig c, int gpus, const Machine& machine) {
  c.model.context *= gpus;
  c.parallel.data = 1;
  c.parallel.sequence = gpus;
  try {
    const Prediction p = predict(c, layout_of(c, gpus), machine);
    return p.fits ? std::optional(p) : std::nullopt;
  } catch (const ConfigError&) {
    return std::nullopt;
  }
}

}  // namespace

Plan make_plan(const RunConfig& config, int gpus, const Machine& machine) {
  Plan plan;
  plan.gpus = gpus;
  plan.others = weigh(config, gpus, machine);
  if (plan.others.empty()) {
    plan.grown = true;
    plan.others =
        weigh(with_batch(config, gpus * one_gpu_batch(config, machine).train.global_batch), gpus, machine);
  }
  require<ConfigError>(!plan.others.empty(), "no data x sequence layout of ", gpus,
                       " GPUs is possible with this config. Change train.global_batch or model.context.");
  plan.best = plan.others.front();
  require<ConfigError>(plan.best.fits, "no layout of ", gpus, " GPUs fits: the best needs ",
                       number(plan.best.memory.total() / 1e9, "%.1f"), " GB on each, a ", machine.gpu.name,
                       " has ", number(machine.gpu.memory_bytes / 1e9, "%.0f"), " less ",
                       number(kReservedBytes / 1e9, "%.0f"),
                       " (one sequence's activations or the model do not fit). Use more GPUs, a shorter "
                       "model.context or parallel.shard_optimizer=true.");
  plan.reason = reason_for(plan.others, machine.gpu.memory_bytes);
  return plan;
}

std::vector<ScalingPoint> scaling_curves(const RunConfig& config, int gpus, const Machine& machine) {
  std::vector<ScalingPoint> weak, strong, sequence;
  const RunConfig one = one_gpu_batch(config, machine);
  for (int n = 1; n <= gpus; n *= 2) {
    const Prediction wide = predict(with_batch(one, n * one.train.global_batch), {n, 1}, machine);
    if (wide.fits) add_point(weak, "weak", wide);
    const std::vector<Prediction> fixed = weigh(config, n, machine);
    if (!fixed.empty() && fixed.front().fits) add_point(strong, "strong", fixed.front());
    if (const auto longer = longer_sequences(one, n, machine)) add_point(sequence, "sequence", *longer);
  }
  weak.insert(weak.end(), strong.begin(), strong.end());
  weak.insert(weak.end(), sequence.begin(), sequence.end());
  return weak;
}

}  // namespace fwl
