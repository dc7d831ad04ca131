#include "launch/plan/calibration.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/torch.h"
#include "launch/training_bench.h"

namespace fwl {
namespace {

using nlohmann::json;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
// Relative error of a measurement and of the model's form.
constexpr double kMeasurementDoubt = 0.015;

double number_in(const json& row, const char* key, const std::string& where) {
  if (!row.contains(key) || row[key].is_null()) return kNaN;
  const json& value = row[key].is_object() && row[key].contains("median") ? row[key]["median"] : row[key];
  require<DataError>(value.is_number() && value.get<double>() > 0, where, ": '", key, "' is ", value.dump(),
                     " (a positive number is needed). Measure again with `fwl bench train --json`.");
  return value.get<double>();
}

std::string text_in(const json& row, const char* key, const std::string& otherwise,
                    const std::string& where) {
  if (!row.contains(key)) return otherwise;
  require<DataError>(row[key].is_string(), where, ": '", key, "' is ", row[key].dump(),
                     ", no text. Write the file again.");
  return row[key].get<std::string>();
}

MeshShape shape_in(const std::string& layout, const std::string& where) {
  MeshShape shape;
  const bool read = std::sscanf(layout.c_str(), "%dx%d", &shape.data, &shape.sequence) == 2;
  require<DataError>(read && shape.data > 0 && shape.sequence > 0, where, ": the layout '", layout,
                     "' is not like 2x1. Write the file again.");
  return shape;
}

Measurement read_measurement(const json& row, const std::string& gpu, const std::string& where) {
  require<DataError>(row.is_object() && row.contains("config"), where,
                     " has no 'config' (what was measured). Measure again with this version of fwl.");
  Measurement m;
  m.name = text_in(row, "name", where, where);
  m.gpu = text_in(row, "gpu", gpu, where);
  m.config = parse_run_config(text_in(row, "config", "", where), where);
  if (m.config.model.vocab_size == 0) m.config.model.vocab_size = kBenchVocabulary;
  m.shape = shape_in(text_in(row, "layout", "1x1", where), where);
  m.tokens_per_s = number_in(row, "tokens_per_s", where);
  m.peak_memory_bytes = number_in(row, "peak_memory_bytes", where);
  m.efficiency = number_in(row, "efficiency", where);
  return m;
}

// One equation: the sum of share[i] * (rate[i] / prior[i]) is `target`, in units of its doubt.
struct Equations {
  std::vector<double> left, right;

  void add(const std::array<double, kWorkKinds>& share, double target) {
    left.insert(left.end(), share.begin(), share.end());
    right.push_back(target);
  }
};

void add_measurement(Equations& equations, const Measurement& m, const WorkRates& prior) {
  if (!std::isfinite(m.tokens_per_s)) return;
  const Gpu& gpu = find_gpu(m.gpu);
  const Prediction p = predict(m.config, m.shape, machine_for(gpu, prior));
  const double step = static_cast<double>(p.global_batch * p.context) / m.tokens_per_s;
  const double compute = step - (p.time.total() - p.time.compute);
  if (compute <= 0) return;
  const StepWork work = count_work(m.config, m.shape, p.micro_rows);
  const WorkRates rates = rates_for(gpu, prior);
  std::array<double, kWorkKinds> share;
  for (int i = 0; i < kWorkKinds; ++i) share[i] = work[i] * rates[i] / compute / kMeasurementDoubt;
  equations.add(share, 1 / kMeasurementDoubt);
}

void add_prior(Equations& equations) {
  for (int i = 0; i < kWorkKinds; ++i) {
    std::array<double, kWorkKinds> share{};
    share[i] = 1 / rate_doubts()[i];
    equations.add(share, share[i]);
  }
}

}  // namespace

std::vector<Measurement> read_measurements(const std::string& path, const std::string& gpu) {
  const json file = parse_json(read_file(path, "measurement"));
  require<DataError>(file.is_object(), path,
                     " is no JSON object (a result of `fwl bench train --json` is one). Name another file.");
  if (!file.contains("measurements")) return {read_measurement(file, gpu, path)};
  require<DataError>(file["measurements"].is_array(), path,
                     ": 'measurements' is no array. Write the file again.");
  std::vector<Measurement> all;
  for (const json& row : file["measurements"])
    all.push_back(read_measurement(row, gpu, cat(path, ", measurements[", all.size(), "]")));
  return all;
}

WorkRates fit_rates(const std::vector<Measurement>& measurements, const WorkRates& prior) {
  Equations equations;
  for (const Measurement& m : measurements) add_measurement(equations, m, prior);
  add_prior(equations);
  const auto rows = static_cast<int64_t>(equations.right.size());
  const Tensor left = at::tensor(equations.left, at::kDouble).view({rows, kWorkKinds});
  const Tensor right = at::tensor(equations.right, at::kDouble).view({rows, 1});
  // Normal equations: small, and regular by the prior.
  const Tensor factor = at::linalg_solve(at::mm(left.t(), left), at::mm(left.t(), right)).contiguous();
  WorkRates rates;
  // No work takes less than no time.
  for (int i = 0; i < kWorkKinds; ++i) rates[i] = prior[i] * std::max(0.05, factor.data_ptr<double>()[i]);
  return rates;
}

}  // namespace fwl
