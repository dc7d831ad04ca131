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

// What the gradient is multiplied with, and whether the update is made at all: on the device, so that the
// host can queue an update before the gradient is there.
struct UpdateScale {
  Tensor inverse;  // [], float32: gradients are divided by it
  Tensor skip;     // [], float32: 1 leaves weights, moments and the number of updates as they are, 0 does not
};
// Clips a gradient of norm `norm` ([], float64) to `clip` (0: no clipping), and skips where the norm is not
// finite.
UpdateScale clipped_scale(const Tensor& norm, double clip);

class AdamW {
 public:
  // Updates all parameters.
  AdamW(Parameters& parameters, const AdamWConfig& config);
  // Updates elements `owned` of the flat parameters, and keeps moments for them alone; with kOwn also their
  // values, of which the parameters then get what store() takes.
  enum class Masters { kParameters, kOwn };
  AdamW(Parameters& parameters, const AdamWConfig& config, std::vector<ElementRange> owned,
        Masters masters = Masters::kParameters);

  // One update from parameters.gradients(). Waits for nothing.
  void step(double learning_rate, const UpdateScale& scale);
  // The same in pieces: begin, then each owned range once.
  void begin_update(const UpdateScale& scale) { updates_ = updates_ + 1 - scale.skip; }
  void update_range(size_t index, double learning_rate, const UpdateScale& scale);

  // With kOwn: the values of the owned ranges, end to end; undefined otherwise.
  const Tensor& masters() const { return masters_; }
  // All values ([count()], on the parameters' device), as far as they are kept here.
  void set_values(const Tensor& values);
  // For checkpoints: first and second moments of the owned ranges, end to end, and the number of updates
  // made (which waits for the device).
  Tensor& first_moments() { return first_; }
  Tensor& second_moments() { return second_; }
  const std::vector<ElementRange>& owned() const { return owned_; }
  int64_t updates() const { return static_cast<int64_t>(updates_.item<float>()); }
  void set_updates(int64_t updates) { updates_ = at::full_like(updates_, static_cast<double>(updates)); }

 private:
  Parameters& parameters_;
  AdamWConfig config_;
  std::vector<ElementRange> owned_;
  std::vector<int64_t> moment_offset_;  // of each owned range
  Tensor first_, second_, masters_;
  Tensor updates_;  // [], float32: exact up to 16 million
};

// sqrt(sum of squares) of a flat tensor, on its device: computed in its type (float32 in training), returned
// as
// [], float64, since ranks' squares are added up.
Tensor global_norm(const Tensor& flat);

}  // namespace fwl
