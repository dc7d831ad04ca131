// AdamW (Loshchilov and Hutter 2019) on the flat parameters, with decoupled weight decay by parameter group.
#pragma once

#include <vector>

#include "core/base/config.h"
#include "core/base/range.h"
#include "core/model/parameters.h"

namespace fwl {

struct AdamWConfig {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;
  double step_size_rate_factor = 30.0;

  void visit_fields(FieldList& list);
};

class AdamW {
 public:
  // Updates all parameters.
  AdamW(Parameters& parameters, const AdamWConfig& config);
  // Updates elements `owned` of the flat parameters, and keeps moments for them alone.
  AdamW(Parameters& parameters, const AdamWConfig& config, std::vector<ElementRange> owned);

  // One update from parameters.gradients(), which are multiplied by `gradient_scale` (clipping) on the way.
  void step(double learning_rate, double gradient_scale);
  // The same in pieces: begin, then each owned range once.
  void begin_update() { updates_ += 1; }
  void update_range(size_t index, double learning_rate, double gradient_scale);

  // For checkpoints: first and second moments of the owned ranges, end to end, and the number of updates
  // made.
  Tensor& first_moments() { return first_; }
  Tensor& second_moments() { return second_; }
  const std::vector<ElementRange>& owned() const { return owned_; }
  int64_t updates() const { return updates_; }
  void set_updates(int64_t updates) { updates_ = updates; }

 private:
  Parameters& parameters_;
  AdamWConfig config_;
  std::vector<ElementRange> owned_;
  std::vector<int64_t> moment_offset_;  // of each owned range
  Tensor first_, second_;
  int64_t updates_ = 0;
};

// sqrt(sum of squares) of a flat tensor.
double global_norm(const Tensor& flat);

}  // namespace fwl
