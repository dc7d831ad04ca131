#include "launch/command.h"

#include <CLI/CLI.hpp>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "launch/load_model.h"
#include "parallel/session.h"

namespace fwl {
namespace {

CLI::Validator finite_number(const char* what, bool (*fits)(double)) {
  return CLI::Validator(
      [what, fits](std::string& text) {
        double value = 0;
        const bool is_number = CLI::detail::lexical_cast(text, value) && std::isfinite(value);
        return is_number && fits(value) ? std::string() : cat("'", text, "' is no ", what);
      },
      "");
}

}  // namespace

CLI::Validator above_zero() {
  return finite_number("number above 0", [](double value) { return value > 0; });
}

CLI::Validator zero_or_more() {
  return finite_number("number from 0 up", [](double value) { return value >= 0; });
}

CLI::Validator below_one() {
  return finite_number("number from 0 to 1 (excluded)", [](double value) { return value >= 0 && value < 1; });
}

std::vector<std::string> given_options(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options())
    if (option->count() > 0) names.push_back(option->get_name());
  return names;
}

void require_one_rank(const char* command) {
  require<ConfigError>(world().size == 1, "`fwl ", command, "` was started on ", world().size,
                       " ranks (it works on one; the others would do the same). Start it without mpirun.");
}

void add_model_options(CLI::App& command, ModelSource& source) {
  command.add_option("checkpoint", source.checkpoint, "a run's folder or one of its checkpoints")
      ->required()
      ->type_name("CHECKPOINT");
  command.add_option("--device", source.device, "auto, cpu or cuda")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  command.add_option("--dtype", source.dtype, "type of the matrix products (default: as trained)")
      ->check(CLI::IsMember({"fp64", "fp32", "bf16"}));
  command
      .add_option("--inner-threshold", source.inner.threshold,
                  "fast weights: take tokens of a probability below this together in the inner gradients, "
                  "which can be faster; 0: exact")
      ->check(below_one())
      ->capture_default_str();
}

void add_inner_logits_option(CLI::App& command, InnerApproximation& inner) {
  command
      .add_option_function<std::string>(
          "--inner-logits", [&inner](const std::string& type) { inner.float8_logits = type == "fp8"; },
          "fast weights: logits of the inner gradients in the model's type (exact), or from factors rounded "
          "to "
          "8 bits (fp8), which is faster on GPUs that multiply those")
      ->check(CLI::IsMember({"exact", "fp8"}))
      ->default_str("exact");
}

void add_json_option(CLI::App& command, std::string& path) {
  command.add_option("--json", path, "write the results to this file as JSON")
      ->type_name("FILE")
      ->check(file_in_a_folder());
  keep_outputs_apart(command);
}

void write_json(const std::string& path, const nlohmann::json& result) {
  if (!path.empty()) publish_file(path, json_text(result, 2) + "\n");
}

}  // namespace fwl
