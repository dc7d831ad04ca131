// The Fast Weight Layer (Clark, Guu, Chang, Pasupat, Hinton, Norouzi 2022; formulas: core/README.md).
//
// A position-wise block (norm, dense, squared ReLU, dense, residual, norm, unembedding) is applied twice. The
// SLOW pass gives every token's loss and its gradient with respect to the dense layers' outputs, all at the
// slow weights, in parallel. The FAST pass runs the same block with weights that have taken a decayed
// gradient step for every EARLIER token: linear attention with queries = the layer's inputs, keys = inputs of
// the slow pass, values = gradients. The prediction at t uses gradients of tokens before t only: no token
// sees its own label.
//
// With several inner steps the fast pass gives gradients in its turn, and the next pass learns from those:
// pass k from pass k - 1, the slow pass being pass 0, each from the slow weights on. Every
// pass's gradients go back to the first dense layer through the slow second one.
//
// These are functions of explicit weights. core/model/language_model.h owns the trainable parameters.
// Shape suffixes: b batch, t position, d width, f hidden, v vocabulary.
#pragma once

#include "core/base/torch.h"
#include "core/fast_weight/state.h"
#include "core/fast_weight/state_exchange.h"
#include "core/fast_weight/weights.h"

namespace fwl {

struct FastWeightResult {
  Tensor slow_normed_btd;  // input of the unembedding at the slow weights
  Tensor slow_nll_bt;      // inner loss per token, unweighted; differentiable
  Tensor fast_normed_btd;  // input of the unembedding at the fast weights: the layer's result
  FastWeightState state;   // after the last position
  // With an inner threshold, else undefined: over all inner gradients of weighted tokens [3], float64: their
  // number, the tokens kept in them one by one, the probability of the others.
  Tensor inner_use;
};

// The block at its slow weights alone: what a static model computes. Returns the input of the unembedding.
Tensor slow_pass(const FastWeightWeights& weights, const FastWeightOptions& options,
                 const Tensor& hidden_btd);

// The whole layer. `inbound` is the state before the first position. With an exchange the positions are one
// shard of a sequence: then `inbound` is the state before the whole sequence and is given on the rank of its
// first shard alone, and result.state is that after this shard (left out, if it is not wanted). Collective
// over the exchange's ranks.
FastWeightResult fast_weight_layer(const FastWeightWeights& weights, const FastWeightOptions& options,
                                   const Tensor& hidden_btd, const LossTokens& tokens,
                                   const FastWeightState& inbound, StateExchange* exchange = nullptr,
                                   bool wants_state = true);

}  // namespace fwl
