// The Fast Weight Layer token by token: the definition that the chunked layer must equal.
//
// Written for clarity, in the order of the definition: for each token, explicit fast weight matrices
// W_t = W - step * S_t, a prediction with them, then one step of gradient descent on the state, where the
// gradient is taken by autograd of that token's own loss at the slow weights (of later inner steps: at the
// weights of the step before). Slow, O(T) steps; float64; for
// tests and checks.
#pragma once

#include "core/fast_weight/layer.h"

namespace fwl {

// Same arguments and results as fast_weight_layer (with state from zero); differentiable, second order
// included.
FastWeightResult fast_weight_layer_by_token(const FastWeightWeights& weights,
                                            const FastWeightOptions& options, const Tensor& hidden_btd,
                                            const LossTokens& tokens);

}  // namespace fwl
