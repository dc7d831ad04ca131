#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/json_number.h"
#include "launch/command.h"
#include "launch/evaluation_bench.h"
#include "launch/report/page.h"
#include "launch/report/reading.h"
#include "launch/training_bench.h"
#include "parallel/session.h"

namespace fwl {
namespace {

using nlohmann::json;

struct BenchArguments {
  std::string config, json_path;
  std::vector<std::string> settings;
  EvaluationBenchOptions options;
};

json to_json(const StepTraffic& t) {
  return {{"gradients", t.gradients}, {"attention", t.attention}, {"state", t.state}};
}

// `c` as it was measured: what `fwl plan --calibrate` reads.
json to_json(RunConfig c, const BenchResult& r) {
  const auto [least, most] = std::minmax_element(r.tokens_per_s.begin(), r.tokens_per_s.end());
  const ExchangeNames algorithms = exchanges_of(c, layout_of(c, world().size));
  return {{"config", to_yaml(fields_of(c))},
          {"layout", r.layout},
          {"attention_exchange", algorithms.attention},
          {"state_exchange", algorithms.state},
          {"device", r.device},
          {"dtype", r.dtype},
          {"exchange", r.exchange},
          {"fast_weight", c.model.fast_weight.update},
          {"context", c.model.context},
          {"global_batch", c.train.global_batch},
          {"parameters", r.parameters},
          {"tokens_per_step", r.tokens_per_step},
          {"tokens_per_s", {{"min", *least}, {"median", r.median()}, {"max", *most}}},
          {"step_s", r.step_s},
          {"bytes_sent_per_step", to_json(r.sent)},
          {"bytes_predicted_per_step", to_json(r.predicted)},
          {"communication_s", r.communication_s},
          {"exposed_s", r.exposed_s},
          {"hidden_share", r.hidden_share()},
          {"peak_memory_bytes", r.peak_memory_bytes},
          {"finite", std::isfinite(r.loss)},
          {"loss", number_or_null(r.loss)}};
}

void print(const RunConfig& c, const BenchResult& r) {
  const auto [least, most] = std::minmax_element(r.tokens_per_s.begin(), r.tokens_per_s.end());
  const auto mb = [](int64_t bytes) { return static_cast<double>(bytes) / 1e6; };
  std::printf(
      "%s (data x sequence), %s, %s, fast weights %s, %lld x %lld tokens a step, %.1fM parameters\n"
      "  tokens/s  min %.0f  median %.0f  max %.0f;  step %.2f ms;  peak memory %.2f GB\n"
      "  sent a step (rank 0): gradients %.2f MB, attention %.2f MB, state %.2f MB;  communication %.2f ms, "
      "%.0f %% hidden\n",
      r.layout.c_str(), r.device.c_str(), r.dtype.c_str(), c.model.fast_weight.update.c_str(),
      static_cast<long long>(c.train.global_batch), static_cast<long long>(c.model.context),
      static_cast<double>(r.parameters) / 1e6, *least, r.median(), *most, r.step_s * 1e3,
      static_cast<double>(r.peak_memory_bytes) / 1e9, mb(r.sent.gradients), mb(r.sent.attention),
      mb(r.sent.state), r.communication_s * 1e3, r.hidden_share() * 100);
}

json to_json(const RunConfig& c, const EvaluationBenchResult& r) {
  json modes = json::object();
  for (const EvaluationTime& m : r.modes) {
    const auto [least, most] = std::minmax_element(m.tokens_per_s.begin(), m.tokens_per_s.end());
    modes[m.mode] = {{"tokens_per_s", {{"min", *least}, {"median", m.median()}, {"max", *most}}},
                     {"relative_time", m.relative_time},
                     {"relative_time_spread", number_or_null(m.relative_time_spread)},
                     {"time_is_disturbed", m.is_disturbed},
                     {"flops_per_token", m.flops_per_token},
                     {"relative_flops", m.relative_flops},
                     {"peak_memory_bytes", m.peak_memory_bytes}};
  }
  return {{"device", r.device},
          {"dtype", r.dtype},
          {"context", c.model.context},
          {"batch", c.train.global_batch},
          {"parameters", r.parameters},
          {"finite", std::isfinite(r.loss)},
          {"loss", number_or_null(r.loss)},
          {"speed_is_reliable", r.speed_problems.empty()},
          {"modes", modes}};
}

// The speed of a model that computes no numbers is none: multiplying NaNs can be faster or slower.
void require_finite(double loss, const char* what) {
  require<CheckFailed>(
      std::isfinite(loss), what,
      " is not finite (null in the JSON; the speed of what computes no numbers says nothing). "
      "Lower the learning rate, or give other weights.");
}

void run_evaluation_bench(const BenchArguments& a) {
  const RunConfig config = load_run_config(a.config, a.settings);
  const EvaluationBenchResult result = bench_evaluation(config, a.options);
  std::printf("%s, %s, %lld x %lld tokens a batch, %.1fM parameters, static loss %.3f\n",
              result.device.c_str(), result.dtype.c_str(), static_cast<long long>(config.train.global_batch),
              static_cast<long long>(config.model.context), static_cast<double>(result.parameters) / 1e6,
              result.loss);
  for (const EvaluationTime& m : result.modes) {
    const auto [least, most] = std::minmax_element(m.tokens_per_s.begin(), m.tokens_per_s.end());
    const std::string spread =
        std::isfinite(m.relative_time_spread) ? " \u00b1 " + fixed(m.relative_time_spread, 2) : "";
    std::printf(
        "  %-8s tokens/s  min %.0f  median %.0f  max %.0f;  %.2f%s x static%s;  FLOPs %.2fx;  peak memory "
        "%.2f GB\n",
        m.mode.c_str(), *least, m.median(), *most, m.relative_time, spread.c_str(),
        m.is_disturbed ? " !" : "", m.relative_flops, static_cast<double>(m.peak_memory_bytes) / 1e9);
  }
  for (const std::string& problem : result.speed_problems) std::printf("note: %s\n", problem.c_str());
  write_json(a.json_path, to_json(config, result));
  require_finite(result.loss, "the static loss");
}

void run_bench(const BenchArguments& a) {
  const RunConfig config = load_run_config(a.config, a.settings);
  const BenchResult result = bench_training(config, a.options);
  if (world().rank != 0) return;
  print(config, result);
  write_json(a.json_path, to_json(config, result));
  require_finite(result.loss, "the loss of the last step");
}

using SharedArguments = std::shared_ptr<BenchArguments>;

CLI::App* add_benchmark(CLI::App* bench, const char* name, const char* description, const SharedArguments& a,
                        void (*run)(const BenchArguments&)) {
  CLI::App* command = bench->add_subcommand(name, description);
  command->add_option("config", a->config, "run config")->required()->type_name("CONFIG.yaml");
  command->add_option("--set", a->settings, "override a key (repeatable)")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command->add_option("--warmup", a->options.warmup_steps, "steps before the clock starts")
      ->check(above_zero())
      ->capture_default_str();
  command->add_option("--steps", a->options.steps, "steps of one repetition")
      ->check(above_zero())
      ->capture_default_str();
  command
      ->add_option("--repetitions", a->options.repetitions,
                   "repetitions; minimum, median and maximum are shown")
      ->check(above_zero())
      ->capture_default_str();
  add_json_option(*command, a->json_path);
  command->callback([a, run] { run(*a); });
  return command;
}

void add_evaluation_options(CLI::App* command, const SharedArguments& a) {
  command
      ->add_option("--weights", a->options.weights,
                   "trained weights: a run's folder or checkpoint of the config's shapes (default: random)")
      ->type_name("CHECKPOINT");
  command->add_option("--data", a->options.data, "read the text of this split (default: random tokens)")
      ->type_name("SPLIT");
  command
      ->add_option("--inner-threshold", a->options.inner.threshold,
                   "of the fast pass: tokens of a probability below this are taken together in the inner "
                   "gradients; what it costs depends on --weights and --data; 0: exact")
      ->check(below_one())
      ->capture_default_str();
  add_inner_logits_option(*command, a->options.inner);
}

}  // namespace

void add_bench_command(CLI::App& app) {
  CLI::App* bench = app.add_subcommand("bench", "measure speed, bytes sent and memory on this machine");
  bench->require_subcommand(1);
  add_benchmark(bench, "train",
                "training steps of a config in its layout on random text; under `launch/mpirun.sh -n N` on N "
                "ranks",
                std::make_shared<BenchArguments>(), run_bench);
  const auto evaluation = std::make_shared<BenchArguments>();
  add_evaluation_options(
      add_benchmark(bench, "eval",
                    "static pass, fast pass and dynamic evaluation's step of a config, side by side",
                    evaluation, run_evaluation_bench),
      evaluation);
}

}  // namespace fwl
