// Floating-point operations of the model, counted by hand: 2 per multiply-add of every matrix product that
// the mathematics asks for. Not counted: elementwise work (norms, softmax, decay, optimizer), what an
// implementation computes twice to save memory, padding, and masked-out parts of attention. The linear
// attention is counted in its chunks, with the products within a chunk whole; in a sequence of one chunk no
// state is written or read.
//
// d model width, h feed-forward width, f hidden width of the layer, V vocabulary, C chunk, W window. Per
// token, forward:
//   body        per block 8 d^2 (query, key, value, out) + 4 d h (6 d h with swiglu)
//   attention   per block 4 d for each key that the token may look at: min(W, keys so far)
//   slow layer  4 d f                      slow head  2 V d
//   fast layer  4 d f slow, 2 d f inner gradient (W2^T g2), 2 d f fast second dense; state: 2 d f written and
//               2 d f read for each of both layers; 2 C (d + f) within the chunk for each; where a state came
//               in from before, 2 d f read for each. `fast_layers: second` has only the second layer's
//               state, and neither the inner gradient nor another second dense.
//   fast head   2 V d slow logits, 2 V d inner gradient, 2 V d fast logits
//               (with an inner threshold 2 r d inner gradient, r rows of the unembedding)
//   inner step  every further one: the fast layer but for its slow part, an inner gradient, fast logits
// Backward: twice the forward (a product for each factor). With a Hessian threshold the slow head's is 2 V
// d a step (one outer product) in place of 8 V d. First order leaves out what only the inner gradients need;
// keys and values remembered from earlier forwards get no gradient.
#pragma once

#include "core/model/config.h"
#include "core/model/language_model.h"

namespace fwl {

struct Flops {
  double body = 0, attention = 0, layer = 0, head = 0;

  double total() const { return body + attention + layer + head; }
  Flops& operator+=(const Flops& other);
  Flops operator*(double factor) const;
};

// One forward over one sequence.
struct SequenceRead {
  int64_t positions = 0;
  int64_t remembered = 0;  // earlier positions whose keys and values attention still has (before the window)
  int64_t labelled = -1;   // last positions that the layer and the head compute; -1: all
  bool has_inbound = false;      // the fast weights start from a state
  bool carries_state = false;    // and leave one for what follows
  at::Device device = at::kCPU;  // chooses the chunk where the config leaves it open
  // Rows of the unembedding that a forward's inner gradient adds up for a token; below 0: all of them.
  double inner_rows = -1;
};

Flops forward_flops(const ModelConfig& config, Pass pass, const SequenceRead& read);
// Gradients of all weights from the loss of `pass`.
Flops backward_flops(const ModelConfig& config, Pass pass, const SequenceRead& read);
// Forward and backward of a training sequence of `length` tokens (not per token), in the pass that the config
// trains. Divided by `length`: what a token of a step costs.
Flops training_flops(const ModelConfig& config, int64_t length, at::Device device = at::kCPU);

}  // namespace fwl
