#include "launch/carried_size.h"

namespace fwl {

StateSize state_size(const ModelConfig& m) {
  const FastWeightConfig& f = m.fast_weight;
  const int64_t hidden = f.width > 0 ? f.width : 4 * m.width, bias = f.fast_biases ? 1 : 0;
  StateSize size{m.width * (hidden + bias), f.decay_heads};
  if (f.fast_layers == "both") size = {size.elements + hidden * (m.width + bias), 2 * f.decay_heads};
  if (f.fast_norm) size = {size.elements + 2 * m.width, size.tensors + 1};
  return size;
}

int64_t carried_elements(const RunConfig& config) {
  const ModelConfig& m = config.model;
  const int64_t state = m.fast_weight.learns() ? m.fast_weight.inner_steps * state_size(m).elements : 0;
  // Keys and values within the window's reach, unless a stream's next sequence may be of another text.
  const bool keeps_window = m.window > 0 && config.data.order != "documents";
  const int64_t window = keeps_window ? 2 * m.layers * (m.window - 1) * m.width : 0;
  return config.train.global_batch * (state + window);
}

}  // namespace fwl
