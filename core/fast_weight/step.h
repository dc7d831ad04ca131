// The Fast Weight Layer token by token, for decoding: predict with the state, then learn from the token once
// its label is known. The same function as the chunked layer (core/fast_weight/layer.h), as a recurrence with
// O(1) memory per sequence:
//   S_{t+1} = rho S_t + g_t k_t^T        g_t: gradient of position t's loss, known when token t + 1 is
// Several inner steps: each is learned and applied with weights_of_step(), from the rows of the pass before.
// No gradients flow. Products of few rows: core/kernels/row_products.h, with its promise about bits.
//
// Shape suffixes: n row (one position of some sequence), d width, f hidden.
#pragma once

#include "core/fast_weight/state.h"
#include "core/fast_weight/weights.h"

namespace fwl {

// A pass over some positions: what predicting needs at once, and learning needs later.
struct PassRows {
  Tensor input_nd;       // z
  Tensor residual_nd;    // undefined: no residual
  Tensor before_act_nf;  // u
  Tensor act_nf;         // a
  Tensor output_nd;      // o
  Tensor normed_nd;      // input of the unembedding
};
PassRows slow_rows(const FastWeightWeights& weights, const FastWeightOptions& options,
                   const Tensor& hidden_nd);
// Rows by number, in any order: views where each stands behind the one before, else copies.
Tensor select_rows(const Tensor& rows, const std::vector<int64_t>& numbers);
PassRows select_rows(const PassRows& rows, const std::vector<int64_t>& numbers);
// The row alone: a copy.
PassRows copy_row(const PassRows& rows, int64_t number);
// The rows of several together.
PassRows join_rows(const std::vector<PassRows>& parts);

// Inner gradients of each row's own loss where its pass was; fast tensors that are not used stay undefined.
// With an inner threshold, tokens of a probability below it are taken together.
struct GradientRows {
  Tensor dense1_nf, dense2_nd, norm_n2d;
};
GradientRows gradient_rows(const FastWeightWeights& weights, const FastWeightOptions& options,
                           const PassRows& rows, const Tensor& label_n);

// One step's state of one sequence: FastWeightState without the batch dim, all used tensors defined,
// accumulation type.
FastWeightState zero_step_state(const FastWeightWeights& weights, const FastWeightOptions& options,
                                at::ScalarType type);
// The decays of an inner step, by head, where the recurrence wants them: on the host. Waits for the device:
// to be made once for weights that do not change.
struct HostDecays {
  std::vector<double> dense1, dense2, norm;
};
HostDecays host_decays(const FastWeightWeights& weights);
// The state takes the rows in turn, in place: decay, then the row's gradient. Row i of `gradients` belongs to
// row i of `keys`.
void learn_rows_(const FastWeightWeights& weights, const FastWeightOptions& options, const HostDecays& decays,
                 const PassRows& keys, const GradientRows& gradients, FastWeightState& state);
// The state passes `positions` that it does not learn from: decay alone.
void pass_over_(const FastWeightWeights& weights, const HostDecays& decays, int64_t positions,
                FastWeightState& state);

// What the state makes of the block at one position: [1, f], [1, f], [1, d], [1, 2d].
struct FastRows {
  Tensor before_act_nf, act_nf, sum_nd, norm_sum_n2d;
};
FastRows fast_row(const FastWeightWeights& weights, const FastWeightOptions& options, const PassRows& row,
                  const FastWeightState& state);
// The pass at the fast weights, for the slow rows of several positions and what their states make of each.
PassRows fast_rows(const FastWeightWeights& weights, const FastWeightOptions& options, const PassRows& slow,
                   const std::vector<FastRows>& fast);

}  // namespace fwl
