// The `fwl` program: parses the command line and turns errors into exit codes, here and nowhere else.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <string>

#include "core/base/device.h"
#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/open_files.h"
#include "core/base/version.h"
#include "core/base/waiting.h"
#include "launch/command.h"
#include "launch/failure_message.h"
#include "launch/path_options.h"
#include "launch/signals.h"
#include "launch/standard_output.h"
#include "parallel/failure.h"
#include "parallel/launcher.h"
#include "parallel/session.h"
#include "parallel/software.h"

// launch/cmake/commit.cmake writes it when the program is linked.
namespace fwl {
extern const char* const kSourceCommit;
}

namespace {

int exit_code_of(fwl::ExitCode code) {
  return static_cast<int>(code);
}

// One line each: "fwl 0.2.0", "commit 82ccb1a0c1de", ...
std::string version_text() {
  std::string text;
  for (const auto& [name, version] : fwl::software())
    text += fwl::cat(text.empty() ? "" : "\n", name, " ", version);
  return text;
}

void declare_commands(CLI::App& app) {
  app.require_subcommand(1);
  app.set_version_flag("--version", version_text,
                       "Print the versions of the program and its libraries, and exit");
  fwl::add_tokenizer_command(app);
  fwl::add_tokenize_command(app);
  fwl::add_data_command(app);
  fwl::add_train_command(app);
  fwl::add_eval_command(app);
  fwl::add_generate_command(app);
  fwl::add_score_command(app);
  fwl::add_verify_command(app);
  fwl::add_bench_command(app);
  fwl::add_plan_command(app);
  fwl::add_inspect_command(app);
  fwl::add_report_command(app);
  fwl::add_watch_command(app);
  fwl::add_doctor_command(app);
  fwl::add_export_command(app);
  fwl::add_import_gpt2_command(app);
  fwl::add_completion_command(app);
  fwl::expand_paths(app);
  app.footer(
      "Exit codes: 0 ok, 1 internal error, 2 bad config or usage, 3 bad data or checkpoint file, "
      "4 communication, 5 a check failed, 75 ended early by a signal or train.max_seconds (start again to go "
      "on).");
}

// Whether the command has threads or ranks that wait for each other.
bool computes(int argc, char** argv) {
  constexpr std::array kCommands = {"train", "eval", "generate", "score", "verify", "bench", "doctor"};
  return argc > 1 && std::find(kCommands.begin(), kCommands.end(), std::string(argv[1])) != kCommands.end();
}

// launch/bind_rank.sh ignores the signals that ask a run to save; what cannot save ends by them.
void take_signals_of_launcher(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == "train") return;
  for (const int number : {SIGUSR1, SIGUSR2}) std::signal(number, SIG_DFL);
}

// A rank that fails alone must not leave the others waiting in a collective: it ends the whole job.
int fail(const fwl::FailureMessage& failure) {
  const int code = exit_code_of(failure.code);
  fwl::report_failure(code, failure.text);
  fwl::abort_if_parallel(code);
  return code;
}

// Runs the command, and ends the session where all ranks have come to their end in good order.
int run(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);  // prints: help and version are such errors too
    if (code != 0) return exit_code_of(fwl::ExitCode::kConfig);
  } catch (const fwl::ReaderGone&) {
    // What was asked for, as far as anybody wanted to read it.
  } catch (const fwl::Interrupted& stop) {
    fwl::log_info(stop.what());
    fwl::write_verdict(exit_code_of(stop.code()), fwl::world().rank, stop.what());
    fwl::finalize_session();
    return exit_code_of(stop.code());
  }
  fwl::finalize_session();
  fwl::finish_stdout();
  return exit_code_of(fwl::ExitCode::kOk);
}

}  // namespace

int main(int argc, char** argv) {
  fwl::prepare_standard_streams();
  fwl::raise_open_file_limit();
  fwl::set_source_commit(fwl::kSourceCommit);
  CLI::App app("fwl: trains, evaluates and runs Fast Weight Language Models", "fwl");
  take_signals_of_launcher(argc, argv);
  try {
    if (const char* level = std::getenv("FWL_LOG")) fwl::set_log_level(level);
    // Before anything that a new start would lose; signals that are blocked stay so.
    if (computes(argc, argv)) fwl::settle_waiting(fwl::ranks_of_host(fwl::process_environment()), argv);
    if (argc > 1 && std::string(argv[1]) == "train") fwl::install_stop_signals();
    declare_commands(app);
    return run(app, argc, argv);
  } catch (const std::exception& error) {
    return fail(fwl::message_of(error));
  }
}
