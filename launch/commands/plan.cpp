// `fwl plan`: memory, bytes, time and the best layout of a config on N GPUs, predicted.
#include "launch/plan/plan.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "launch/command.h"
#include "launch/plan/calibration.h"
#include "launch/training_bench.h"

namespace fwl {
namespace {

using nlohmann::json;

struct PlanArguments {
  std::string config, gpu = "h200", calibrate, json_path;
  std::vector<std::string> settings;
  int gpus = 1;
};

std::vector<std::pair<const char*, double>> parts_of(const MemoryPlan& m) {
  return {{"weights", m.weights},
          {"gradients", m.gradients},
          {"moments", m.moments},
          {"activations", m.activations},
          {"head", m.head},
          {"chunk_states", m.chunk_states},
          {"communication", m.communication}};
}

std::vector<std::pair<const char*, double>> parts_of(const StepTime& t) {
  return {{"compute", t.compute},       {"host", t.host},         {"gradients", t.gradients},
          {"attention", t.attention},   {"state", t.state},       {"exposed", t.exposed},
          {"contention", t.contention}, {"sequence", t.sequence}, {"stragglers", t.stragglers}};
}

template <typename Parts>
json to_json(const Parts& parts) {
  json object = json::object();
  for (const auto& [name, value] : parts) object[name] = value;
  return object;
}

json to_json(const Prediction& p) {
  json memory = to_json(parts_of(p.memory)), time = to_json(parts_of(p.time));
  memory["total"] = p.memory.total();
  time["total"] = p.time.total();
  return {
      {"layout", p.shape.to_string()},
      {"gpus", p.shape.ranks()},
      {"global_batch", p.global_batch},
      {"context", p.context},
      {"micro_batch", p.micro_rows},
      {"memory_bytes", memory},
      {"fits", p.fits},
      {"bytes_sent_per_step",
       {{"gradients", p.traffic.gradients}, {"attention", p.traffic.attention}, {"state", p.traffic.state}}},
      {"flops_per_step", p.flops},
      {"time_s", time},
      {"step_s", p.time.total()},
      {"tokens_per_s", p.tokens_per_s},
      {"mfu", p.mfu}};
}

std::string model_name(const RunConfig& c) {
  char text[64];
  std::snprintf(text, sizeof(text), "%.0fM%s", static_cast<double>(count_parameters(c.model)) / 1e6,
                c.model.fast_weight.learns() ? ", fast weights" : "");
  return text;
}

json to_json(const std::vector<ScalingPoint>& curves, const std::string& model) {
  json rows = json::array();
  for (const ScalingPoint& s : curves) {
    const Prediction& p = s.prediction;
    rows.push_back({{"layout", p.shape.to_string()},
                    {"gpus", p.shape.ranks()},
                    {"model", model},
                    {"context", p.context},
                    {"global_batch", p.global_batch},
                    {"tokens_per_s", p.tokens_per_s},
                    {"efficiency", s.efficiency},
                    {"mfu", p.mfu},
                    {"step_s", p.time.total()},
                    {"kind", s.kind},
                    {"predicted", true}});
  }
  return rows;
}

long long whole(int64_t value) {
  return static_cast<long long>(value);
}

void print_parts(const char* title, const std::vector<std::pair<const char*, double>>& parts, double unit) {
  std::printf("  %-28s", title);
  for (const auto& [name, value] : parts)
    if (value > 0) std::printf(" %s %.2f;", name, value / unit);
  std::printf("\n");
}

void print(const Plan& plan, const Machine& machine, const std::string& model) {
  const Prediction& p = plan.best;
  std::printf(
      "%s on %d x %s%s\n", model.c_str(), plan.gpus, machine.gpu.name.c_str(),
      machine.gpu.rates_measured ? "" : " (rates: the H200's, scaled by the peaks; nothing measured here)");
  std::printf("best layout %s (data x sequence): %s\n", p.shape.to_string().c_str(), plan.reason.c_str());
  if (plan.grown)
    std::printf("  train.global_batch raised to %lld: the configured one cannot be cut into so many ranks\n",
                whole(p.global_batch));
  std::printf("  %lld x %lld tokens a step, micro-batches of %lld\n", whole(p.global_batch), whole(p.context),
              whole(p.micro_rows));
  print_parts("memory of a GPU, GB:", parts_of(p.memory), 1e9);
  std::printf("  %-28s %.2f of %.0f\n", "in all", p.memory.total() / 1e9, machine.gpu.memory_bytes / 1e9);
  print_parts("time of a step, ms:", parts_of(p.time), 1e-3);
  std::printf("  %-28s %.2f ms;  %.4g TFLOP\n", "in all", p.time.total() * 1e3, p.flops / 1e12);
  std::printf("  %-28s gradients %.2f, attention %.2f, state %.2f\n",
              "sent by rank 0, MB:", static_cast<double>(p.traffic.gradients) / 1e6,
              static_cast<double>(p.traffic.attention) / 1e6, static_cast<double>(p.traffic.state) / 1e6);
  std::printf("  %-28s %.4g tokens/s, MFU %.1f %%\n", "predicted", p.tokens_per_s, 100 * p.mfu);
}

void print(const std::vector<ScalingPoint>& curves) {
  std::printf("%-9s %7s %-11s %10s %9s %12s %11s %6s\n", "kind", "GPUs", "layout", "batch", "context",
              "tokens/s", "efficiency", "MFU");
  for (const ScalingPoint& s : curves) {
    const Prediction& p = s.prediction;
    std::printf("%-9s %7d %-11s %10lld %9lld %12.4g %9.1f %% %4.1f %%\n", s.kind.c_str(), p.shape.ranks(),
                p.shape.to_string().c_str(), whole(p.global_batch), whole(p.context), p.tokens_per_s,
                100 * s.efficiency, 100 * p.mfu);
  }
}

WorkRates rates_of(const PlanArguments& a) {
  return a.calibrate.empty() ? h200_rates() : fit_rates(read_measurements(a.calibrate, a.gpu), h200_rates());
}

void run_plan(const PlanArguments& a) {
  RunConfig config = load_run_config(a.config, a.settings);
  if (config.model.vocab_size == 0) config.model.vocab_size = kBenchVocabulary;
  validate(config.model);
  const Machine machine = machine_for(find_gpu(a.gpu), rates_of(a));
  const Plan plan = make_plan(config, a.gpus, machine);
  const std::vector<ScalingPoint> curves = scaling_curves(config, a.gpus, machine);
  print(plan, machine, model_name(config));
  print(curves);
  const int useful = useful_gpus(curves);
  if (!plan.grown && useful < a.gpus)
    std::printf(
        "More than %d GPUs hardly shorten a step of %lld sequences (each would run at less than half of one "
        "GPU's "
        "speed). A larger train.global_batch uses them, if the training bears it.\n",
        useful, whole(config.train.global_batch));
  json others = json::array();
  for (const Prediction& p : plan.others) others.push_back(to_json(p));
  json best = to_json(plan.best);
  best.update({{"gpu", a.gpu},
               {"model", model_name(config)},
               {"parameters", count_parameters(config.model)},
               {"reason", plan.reason},
               {"batch_raised", plan.grown},
               {"useful_gpus", useful},
               {"rates_measured", machine.gpu.rates_measured || !a.calibrate.empty()},
               {"layouts", others}});
  write_json(a.json_path, {{"plan", best}, {"scaling", to_json(curves, model_name(config))}});
}

}  // namespace

void add_plan_command(CLI::App& app) {
  auto a = std::make_shared<PlanArguments>();
  CLI::App* command = app.add_subcommand(
      "plan",
      "predict memory, bytes, step time and the best layout of a training step on many GPUs; runs anywhere");
  command->add_option("config", a->config, "run config")->required()->type_name("CONFIG.yaml");
  command->add_option("--gpus", a->gpus, "how many GPUs; the curves go from 1 to these by doubling")
      ->required()
      ->check(CLI::Range(1, kMostGpus));
  std::vector<std::string> names;
  for (const Gpu& gpu : known_gpus()) names.push_back(gpu.name);
  command->add_option("--gpu", a->gpu, "kind of GPU; measured: h200, the others scaled by their peaks")
      ->check(CLI::IsMember(names))
      ->capture_default_str();
  command->add_option("--set", a->settings, "override a key (repeatable)")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command
      ->add_option("--calibrate", a->calibrate,
                   "fit the rates to a result of `fwl bench train --json`, or to a file with several "
                   "(tests/benchmarks/scaling.sh)")
      ->type_name("BENCH.json");
  add_json_option(*command, a->json_path);
  command->callback([a] { run_plan(*a); });
}

}  // namespace fwl
