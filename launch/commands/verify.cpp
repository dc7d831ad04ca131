#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/base/device.h"
#include "core/base/error.h"
#include "launch/command.h"
#include "launch/golden.h"

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
}

}  // namespace fwl
