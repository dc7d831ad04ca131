#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "launch/command.h"
#include "launch/doctor/checks.h"
#include "launch/doctor/doctor.h"
#include "launch/run_config.h"

namespace fwl {
namespace {

struct DoctorArguments {
  std::string config, folder, device, json_path;
  std::vector<std::string> settings;
  bool quick = false, this_node = false;
  double timeout_s = 60;
};

// The nearest folder that exists: a run's folder is made by the run.
std::string existing_folder(const std::string& path) {
  std::filesystem::path folder = std::filesystem::absolute(path).lexically_normal();
  while (!std::filesystem::exists(folder) && folder.has_parent_path() && folder != folder.root_path())
    folder = folder.parent_path();
  return folder.string();
}

DoctorOptions options_of(const DoctorArguments& a) {
  DoctorOptions options;
  options.scope = a.this_node ? Scope::kThisNode : Scope::kWholeJob;
  options.depth = a.quick ? Depth::kChecks : Depth::kMeasure;
  options.timeout_s = a.timeout_s;
  if (!a.config.empty()) {
    const RunConfig config = load_run_config(a.config, a.settings);
    RunConfig copy = config;
    options.config_yaml = to_yaml(fields_of(copy));
    options.device = config.train.device;
    options.data = config.parallel.data;
    options.sequence = config.parallel.sequence;
    options.folder = existing_folder(config.run_dir);
  }
  if (!a.device.empty()) options.device = a.device;
  if (!a.folder.empty()) options.folder = a.folder;
  return options;
}

void run(const DoctorArguments& a) {
  require<ConfigError>(!a.config.empty() || a.settings.empty(),
                       "--set was given without --config (there is no config to change). Add --config FILE.");
  const DoctorReport report = run_doctor(options_of(a));
  const bool first = a.this_node || world().rank == 0;
  if (first) std::cout << to_table(report) << std::flush;
  if (first) write_json(a.json_path, to_json(report));
  require<CheckFailed>(report.passed(),
                       "this job is not fit to train (a check failed; see above). Hosts at fault: ",
                       joined(report.bad_hosts()), ". Repair them, or leave them out.");
  // As training will refuse it. A single process may look at the config of a larger job.
  if (!a.config.empty() && !a.this_node && world().size > 1)
    layout_of(load_run_config(a.config, a.settings), world().size);
}

}  // namespace

void check_before_start(const std::string& config, const std::vector<std::string>& settings) {
  DoctorArguments arguments;
  arguments.config = config;
  arguments.settings = settings;
  arguments.quick = true;
  run(arguments);
}

void add_doctor_command(CLI::App& app) {
  auto a = std::make_shared<DoctorArguments>();
  CLI::App* command = app.add_subcommand(
      "doctor",
      "check and measure ranks, hosts, network and file system; under a launcher, of the whole job");
  command->add_option("--config", a->config, "compare this run config too, and check its run.dir and device")
      ->type_name("CONFIG.yaml");
  command->add_option("--set", a->settings, "override a key of the config (repeatable)")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command
      ->add_option("--folder", a->folder,
                   "folder that all ranks must share (default: the config's run.dir, or .)")
      ->type_name("DIR");
  command->add_option("--device", a->device, "auto, cpu or cuda (default: the config's, or auto)")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  command->add_flag("--quick", a->quick, "checks alone, no measurements");
  command->add_flag("--this-node", a->this_node, "this process and its node alone, without MPI");
  command->add_option("--timeout", a->timeout_s, "seconds that a wait for other ranks may take")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  add_json_option(*command, a->json_path);
  command->callback([a] { run(*a); });
}

}  // namespace fwl
