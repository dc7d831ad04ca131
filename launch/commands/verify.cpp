#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/base/device.h"
#include "core/base/error.h"
#include "launch/causality_check.h"
#include "launch/command.h"
#include "launch/golden.h"
#include "launch/parallel_check.h"
#include "parallel/session.h"

namespace fwl {
namespace {

using nlohmann::json;

struct GoldenArguments {
  std::vector<std::string> files;
  std::string device = "cpu", json_path;
  int64_t chunk = 64;
};

void print_report(const GoldenReport& r) {
  std::printf("%s, %s (tolerance %.0e): %s\n", r.path.c_str(), r.dtype.c_str(), r.tolerance,
              r.passed() ? "ok" : "FAILED");
  for (const ArrayError& e : r.errors)
    std::printf("  %-32s %.2e%s\n", e.name.c_str(), e.error, e.error <= r.tolerance ? "" : "   <-- above");
}

json to_json(const GoldenReport& r) {
  json errors;
  for (const ArrayError& e : r.errors) errors[e.name] = e.error;
  return {{"file", r.path},
          {"dtype", r.dtype},
          {"tolerance", r.tolerance},
          {"passed", r.passed()},
          {"errors", errors}};
}

void run_golden(const GoldenArguments& arguments) {
  const at::Device device = choose_device(arguments.device, 0);
  json reports = json::array();
  int failed = 0;
  for (const std::string& file : arguments.files) {
    for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
      const GoldenReport report = verify_golden(file, device, dtype, arguments.chunk);
      print_report(report);
      reports.push_back(to_json(report));
      failed += report.passed() ? 0 : 1;
    }
  }
  write_json(arguments.json_path, {{"device", device.str()}, {"reports", reports}, {"failed", failed}});
  require<CheckFailed>(
      failed == 0, failed, " of ", reports.size(),
      " golden comparisons are above their tolerance (the layer is not the one that the file "
      "describes). See the lines marked above.");
}

struct ParallelArguments {
  std::string config, json_path;
  std::vector<std::string> settings;
  int64_t steps = 3;
};

std::string verdict(const ParallelReport& r, const ArrayDifference& a) {
  const double largest = std::max(a.gradient, a.weight);
  if (largest > r.allowed(a)) return "   <-- above";
  char text[64] = "";
  if (largest > r.tolerance)
    std::snprintf(text, sizeof text, "   one rank's own moves by %.2e at the kink", a.movement);
  return text;
}

void print_report(const ParallelReport& r) {
  std::printf("%s (data x sequence), %s on %s, %lld steps, against one rank (tolerance %.0e)%s%s\n",
              r.layout.c_str(), r.dtype.c_str(), r.device.c_str(), static_cast<long long>(r.steps),
              r.tolerance, r.exchange.empty() ? "" : "; ", r.exchange.c_str());
  std::printf("  %-40s %10s %10s\n", "largest relative difference", "gradient", "weights");
  for (const ArrayDifference& a : r.arrays)
    std::printf("  %-40s %10.2e %10.2e%s\n", a.name.c_str(), a.gradient, a.weight, verdict(r, a).c_str());
  std::printf("  %-40s %10.2e\n  %-40s %10.2e\n", "loss", r.loss_difference, "carried state",
              r.state_difference);
  std::printf("%s: worst %.2e\n", r.passed() ? "ok" : "FAILED", r.worst());
}

json to_json(const ParallelReport& r) {
  json arrays;
  for (const ArrayDifference& a : r.arrays)
    arrays[a.name] = {{"gradient", a.gradient}, {"weight", a.weight}, {"movement", a.movement}};
  return {{"layout", r.layout},
          {"dtype", r.dtype},
          {"device", r.device},
          {"exchange", r.exchange},
          {"tolerance", r.tolerance},
          {"steps", r.steps},
          {"optimizer_epsilon", r.epsilon},
          {"losses", r.losses},
          {"loss_difference", r.loss_difference},
          {"arrays", arrays},
          {"state_difference", r.state_difference},
          {"worst", r.worst()},
          {"passed", r.passed()}};
}

void run_parallel(const ParallelArguments& a) {
  const ParallelReport report = check_parallel(load_run_config(a.config, a.settings), a.steps);
  if (world().rank != 0) return;
  print_report(report);
  write_json(a.json_path, to_json(report));
  require<CheckFailed>(report.passed(), "the layout ", report.layout,
                       " does not compute what one rank computes: ", report.worst(), " > ", report.tolerance,
                       " (training would depend on the number of ranks). See the lines marked above.");
}

void run_causality(const ParallelArguments& a) {
  const bool file = std::filesystem::is_regular_file(a.config);
  const bool folder = std::filesystem::is_directory(a.config);
  require<ConfigError>(file || folder, "'", a.config,
                       "' does not exist. Give a run config (YAML), a run's folder or a checkpoint.");
  RunConfig config;
  if (file) config = load_run_config(a.config, a.settings);
  if (folder) {
    const FieldList fields = fields_of(config);
    for (const std::string& setting : a.settings) apply_setting(fields, setting);
  }
  const CausalityReport r = check_causality(config, folder ? a.config : "");
  if (world().rank == 0) {
    std::printf("%s (data x sequence), %s on %s: %lld edits over %lld window(s)%s\n", r.layout.c_str(),
                r.dtype.c_str(), r.device.c_str(), static_cast<long long>(r.edits),
                static_cast<long long>(r.windows), r.windows > 1 ? ", carried state crossed" : "");
    for (const std::string& leak : r.leaks) std::printf("  LEAK: %s\n", leak.c_str());
    for (const std::string& effect : r.effects) std::printf("  NO EFFECT: %s\n", effect.c_str());
    std::printf("%s\n", r.passed() ? "ok: no earlier logit moved, bit for bit" : "FAILED");
    write_json(a.json_path, {{"layout", r.layout},
                             {"dtype", r.dtype},
                             {"device", r.device},
                             {"edits", r.edits},
                             {"windows", r.windows},
                             {"leaks", r.leaks},
                             {"without_effect", r.effects},
                             {"passed", r.passed()}});
  }
  require<CheckFailed>(r.passed(), r.leaks.size(), " edits moved earlier logits, ", r.effects.size(),
                       " moved nothing (predictions must depend on all earlier tokens and on no later one). "
                       "See the lines above.");
}

void add_mesh_options(CLI::App& command, ParallelArguments& a) {
  command.add_option("--set", a.settings, "override a key: --set parallel.sequence=2 (repeatable)")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  add_json_option(command, a.json_path);
}

void add_parallel_commands(CLI::App& verify) {
  auto a = std::make_shared<ParallelArguments>();
  CLI::App* parallel = verify.add_subcommand(
      "parallel",
      "under `launch/mpirun.sh -n N`: some steps of a config in its layout against the same batches on one "
      "rank; loss, gradients, weights within 1e-5 (fp32, or as far as rounding moves one rank's own "
      "gradient), 1e-11 (fp64). Random text unless data.path is set");
  parallel->add_option("config", a->config, "run config")->required()->type_name("CONFIG.yaml");
  parallel->add_option("--steps", a->steps, "optimizer steps")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  add_mesh_options(*parallel, *a);
  parallel->callback([a] { run_parallel(*a); });
  auto c = std::make_shared<ParallelArguments>();
  CLI::App* causality = verify.add_subcommand(
      "causality",
      "edit tokens and labels at shard and document edges: no earlier logit may move, bit for bit");
  causality->add_option("source", c->config, "run config (a fresh model), run folder or checkpoint")
      ->required()
      ->type_name("CONFIG_OR_CHECKPOINT");
  add_mesh_options(*causality, *c);
  causality->callback([c] { run_causality(*c); });
}

}  // namespace

void add_verify_command(CLI::App& app) {
  CLI::App* verify =
      app.add_subcommand("verify", "check this build against references; exit code 5 when a check fails");
  verify->require_subcommand(1);
  auto arguments = std::make_shared<GoldenArguments>();
  CLI::App* golden = verify->add_subcommand(
      "golden", "compare the Fast Weight Layer with golden files, in float64 (1e-9) and float32 (2e-4)");
  golden->add_option("files", arguments->files, "golden files (HDF5)")->required()->type_name("FILE.h5");
  golden->add_option("--device", arguments->device, "auto, cpu or cuda")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  golden->add_option("--chunk", arguments->chunk, "tokens per chunk; must not change the result")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  add_json_option(*golden, arguments->json_path);
  golden->callback([arguments] { run_golden(*arguments); });
  add_parallel_commands(*verify);
}

}  // namespace fwl
