// A small random Fast Weight Layer with every option, its inputs, and the comparison of two ways to compute
// it.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/fast_weight/layer.h"

namespace fwl {

struct LayerCase {
  int64_t batch = 2, length = 13, width = 6, hidden = 10, vocabulary = 9;
  FastWeightOptions options;
  bool input_norm = true, row_step_sizes = true, decay = true, query_gain = false, unembedding_bias = false;
  bool learned_start = false, write_gate = false;
  int64_t inner_steps = 1;
  int64_t decay_heads = 0;         // 0: scalar decays
  bool zero_weights = true;        // some positions have loss weight 0
  std::vector<int64_t> documents;  // positions where a document starts, in the first sequence
  uint64_t seed = 7;
};

// Leaves in float64, named; the weights are built from them.
struct LayerSetup {
  std::vector<std::pair<std::string, Tensor>> leaves;
  FastWeightWeights weights;
  Tensor hidden_btd;
  LossTokens tokens;
};
LayerSetup make_layer(const LayerCase& layer_case);

// Loss, outputs and all gradients of one computation, named. Gradients of the leaves are cleared first.
using NamedTensors = std::vector<std::pair<std::string, Tensor>>;
NamedTensors outputs_and_gradients(LayerSetup& setup, const FastWeightResult& result);

// Largest difference relative to the larger array's largest magnitude, over all pairs; *worst names the
// array.
double largest_difference(const NamedTensors& a, const NamedTensors& b, std::string* worst);

}  // namespace fwl
