// The commands of the `fwl` program. Each `add_*` declares one subcommand with its flags on `app`; the work
// runs in CLI11's callback and reports by exception (core/base/error.h). Exit codes: launch/main.cpp.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "launch/output_path.h"

namespace fwl {

void add_tokenizer_command(CLI::App& app);
void add_tokenize_command(CLI::App& app);
void add_data_command(CLI::App& app);
void add_train_command(CLI::App& app);
void add_eval_command(CLI::App& app);
void add_verify_command(CLI::App& app);
void add_bench_command(CLI::App& app);
void add_plan_command(CLI::App& app);
void add_inspect_command(CLI::App& app);
void add_generate_command(CLI::App& app);
void add_score_command(CLI::App& app);
void add_report_command(CLI::App& app);
void add_watch_command(CLI::App& app);
void add_doctor_command(CLI::App& app);
void add_export_command(CLI::App& app);
void add_import_gpt2_command(CLI::App& app);
void add_completion_command(CLI::App& app);  // of all commands that `app` has when it runs

struct InnerApproximation;
struct ModelSource;
// Declares the positional CHECKPOINT, `--device`, `--dtype` and `--inner-threshold` of a subcommand that runs
// a trained model.
void add_model_options(CLI::App& command, ModelSource& source);
// Declares `--inner-logits` of a subcommand that reads text in batches.
void add_inner_logits_option(CLI::App& command, InnerApproximation& inner);
// Declares `--json FILE` on a subcommand, bound to `path`; what cannot be written there, or would replace
// what the command reads, is refused before anything runs (output_path.h).
void add_json_option(CLI::App& command, std::string& path);

// Checks of options. Numbers are finite, and above or at least 0, or from 0 to 1 (excluded).
CLI::Validator above_zero();
CLI::Validator zero_or_more();
CLI::Validator below_one();
// Names of the options that the command line has: "--carry".
std::vector<std::string> given_options(const CLI::App& command);
// Refuses more than one MPI rank (each would do the same and write the same files). Throws ConfigError.
void require_one_rank(const char* command);
// Writes `result` to `path` by temporary file and rename; does nothing for an empty path. Bytes that are no
// UTF-8 become U+FFFD. Throws DataError.
void write_json(const std::string& path, const nlohmann::json& result);

}  // namespace fwl
