// What the Fast Weight Layer is made of: options, the weights of its block, and the tokens that it sees.
// Shape suffixes: b batch, t position, d width, f hidden, v vocabulary.
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/torch.h"
#include "core/fast_weight/key_norm.h"
#include "core/fast_weight/loss_head.h"

namespace fwl {

enum class FastLayers { kBoth, kSecond };

struct FastWeightOptions {
  FastLayers fast_layers = FastLayers::kBoth;
  KeyNorm key_norm = KeyNorm::kNone;  // whole keys, before a bias's constant 1 joins them
  int64_t chunk = 0;                  // no effect on the result; 0: the fastest_chunk()
  double inner_loss_scale = 1.0;      // constant factor of every token's inner loss
  double norm_epsilon = 1e-5;
  bool residual = true;
  bool fast_biases = false;  // dense biases are fast too: a constant 1 joins the keys and queries
  bool fast_norm = false;    // scale and bias of the output norm are fast too
  bool second_order =
      true;  // false: the inner gradients are constants for the outer gradient; keys and queries are not
  double hessian_threshold = 0;  // of inner_loss(), with second_order
  InnerApproximation inner;      // of passes without gradient; anything but exact() refuses others
};

// What each inner step has of its own; as in FastWeightWeights.
struct StepRates {
  Tensor step_size1, step_size2, log_decay1, log_decay2;
};

// Weights and hyperparameters of one block. Undefined optional tensors switch their part off.
struct FastWeightWeights {
  Tensor input_norm_scale_d, input_norm_bias_d;  // optional: no input norm
  // Undefined, as the second's: no block, a static model's output norm alone.
  Tensor dense1_fd, dense1_bias_f;
  Tensor dense2_df, dense2_bias_d;
  Tensor norm_scale_d, norm_bias_d;
  Unembedding unembedding;
  // Step sizes (inner learning rates), scalar or one per output row: [] or [f], [] or [d], [] or [d]. In the
  // accumulation type, and used in it.
  Tensor step_size1, step_size2, step_size_norm;
  // Logarithms of the decay per token, <= 0, best in float64 (their gradients are sums in which large terms
  // cancel): scalars, or for the dense layers [heads], where the hidden units are cut into that many equal
  // heads (rows of the first layer, columns of the second; the constant input of a fast second bias is the
  // last head's). Both layers have the same heads. The norm's is used with fast_norm only.
  Tensor log_decay1, log_decay2, log_decay_norm;
  // Optional gains of the queries, learned, [d] and [f].
  Tensor query_gain1_d, query_gain2_f;
  // Optional: the fast pass starts from dense + start; never decayed, not seen by the inner gradients.
  Tensor start1_fd, start2_df;
  // Optional, either or both: each token's inner gradient times 2 sigmoid(<write_gate_d, z> +
  // write_gate_v[label]).
  Tensor write_gate_d, write_gate_v;
  // Of inner steps 2, 3, ...; the first one's are above. Not with fast_norm.
  std::vector<StepRates> more_steps;
};

int64_t inner_steps(const FastWeightWeights& weights);
// The block as inner step `step` (from 0) has it: with that step's rates, and no further steps.
FastWeightWeights weights_of_step(const FastWeightWeights& weights, int64_t step);

// Into how many heads the decays cut the hidden units; 1 for scalars.
int64_t decay_heads(const FastWeightWeights& weights);
// Hidden units of each head: `hidden` in equal parts, and `extra` more for the last one.
std::vector<int64_t> head_widths(int64_t hidden, int64_t heads, int64_t extra = 0);

// The tokens of a batch, as the layer sees them.
struct LossTokens {
  Tensor label_bt;           // int64: the token after each position
  Tensor weight_bt;          // loss weight, accumulation type: 0 at padding; scales the inner gradient
  Tensor document_start_bt;  // bool, or undefined: the state is zero before these positions
};

}  // namespace fwl
