#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/threads.h"
#include "launch/command.h"
#include "launch/config_notes.h"
#include "launch/doctor/doctor.h"
#include "launch/failure_message.h"
#include "launch/run_config.h"
#include "launch/trainer.h"
#include "parallel/failure.h"
#include "parallel/session.h"

namespace fwl {
namespace {

struct TrainArguments {
  std::string config;
  std::vector<std::string> settings;
  std::string json_path;
  bool print_config = false;
  bool allow_changes = false;
  bool doctor = false;
};

void run_train(const TrainArguments& arguments) {
  if (arguments.doctor) return check_before_start(arguments.config, arguments.settings);
  RunConfig config = load_run_config(arguments.config, arguments.settings);
  if (!arguments.print_config) {
    set_log_rank(world().rank, world().size);
    log_info(set_thread_count(world().local_size));
  }
  for (const std::string& note : notes_on(config, arguments.settings)) log_info(note);
  if (arguments.print_config) {
    std::cout << to_yaml(fields_of(config), HelpComments::kInclude);
    return;
  }
  Trainer trainer(config, arguments.allow_changes ? ConfigChanges::kAllow : ConfigChanges::kRefuse);
  try {
    trainer.run();
  } catch (const Interrupted&) {
    throw;
  } catch (const std::exception& error) {
    // Before the trainer is gone, whose writer and reader may wait for a disk.
    const FailureMessage failure = message_of(error);
    report_failure(static_cast<int>(failure.code), failure.text);
    throw;
  }
  if (!trainer.is_first_rank()) return;
  const TrainingProgress& p = trainer.progress();
  log_info(cat("done: step ", p.step, ", checkpoint '", trainer.newest_checkpoint(),
               "'. Next: ", trainer.next_command()));
  write_json(arguments.json_path, {{"run", config.run_dir},
                                   {"step", p.step},
                                   {"tokens", p.tokens},
                                   {"skipped", p.skipped},
                                   {"parameters", trainer.model().parameters().count()}});
}

}  // namespace

void add_train_command(CLI::App& app) {
  auto arguments = std::make_shared<TrainArguments>();
  CLI::App* command = app.add_subcommand("train", "train a model; under `launch/mpirun.sh -n N` on N ranks");
  command->add_option("config", arguments->config, "run config, e.g. launch/configs/tiny.yaml")
      ->required()
      ->type_name("CONFIG.yaml");
  command->add_option("--set", arguments->settings, "override a key: --set train.steps=100 (repeatable)")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command->add_flag("--print-config", arguments->print_config,
                    "print the resolved config with what each key means, and stop");
  command->add_flag(
      "--allow-changes", arguments->allow_changes,
      "go on from a checkpoint that was written with another schedule, optimizer, batch or data");
  command->add_flag("--doctor", arguments->doctor,
                    "check ranks, hosts and this config as `fwl doctor --quick` does, and stop");
  add_json_option(*command, arguments->json_path);
  command->callback([arguments] { run_train(*arguments); });
}

}  // namespace fwl
