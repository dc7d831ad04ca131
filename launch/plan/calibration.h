// Rates from measured training steps.
#pragma once

#include <string>
#include <vector>

#include "launch/plan/prediction.h"

namespace fwl {

// One result of `fwl bench train`.
struct Measurement {
  std::string name, gpu;
  RunConfig config;
  MeshShape shape;
  double tokens_per_s = 0;       // over all GPUs; NaN: not measured
  double peak_memory_bytes = 0;  // NaN: not measured
  double efficiency = 0;         // against as many single GPUs; NaN: not measured
};

// A result of `fwl bench train --json`, or an object with an array "measurements" of such results. Used of
// each: `config` (YAML; keys left out have their defaults), `layout`, `gpu` (`gpu` unless said),
// `tokens_per_s` (a number, or an object with `median`), `peak_memory_bytes`, `name`. Throws DataError (file,
// row) and ConfigError.
std::vector<Measurement> read_measurements(const std::string& path, const std::string& gpu);

// The H200 rates that explain the measured steps of one GPU kind best: least squares in relative errors, with
// `prior` and rate_doubts() as what was known before. Measurements of several GPUs count with what the
// prediction says beside computation.
WorkRates fit_rates(const std::vector<Measurement>& measurements, const WorkRates& prior);

}  // namespace fwl
