// Golden files: one run of a Fast Weight Layer, inputs, parameters, outputs and gradients (layout:
// tests/golden/README.md). `fwl verify golden` builds the layer from such a file and compares everything it
// computes.
#pragma once

#include <string>
#include <vector>

#include "core/base/torch.h"

namespace fwl {

// Largest absolute error relative to the array's largest magnitude.
struct ArrayError {
  std::string name;
  double error = 0;
};

struct GoldenReport {
  std::string path;
  std::string dtype;
  double tolerance = 0;
  std::vector<ArrayError> errors;  // slow_logits, fast_logits, loss, gradients/...
  double worst() const;
  bool passed() const;  // false also when an error is not a number
};

// Runs the layer of the file in float64 (tolerance 1e-9) or float32 (2e-4) on `device`, with chunks of
// `chunk` tokens. Throws DataError for a missing, damaged or inconsistent file.
GoldenReport verify_golden(const std::string& path, at::Device device, at::ScalarType dtype, int64_t chunk);

}  // namespace fwl
