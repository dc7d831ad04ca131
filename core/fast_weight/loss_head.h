// The two unembedding heads. Logits exist only for a block of tokens at a time: no [tokens, vocabulary]
// tensor is kept for the backward. Source: fwl.md section 3 (head op and its vector-Jacobian product).
//
// Shape suffixes: n token (batch and position flattened), d width, v vocabulary.
#pragma once

#include "core/base/torch.h"

namespace fwl {

// An unembedding: logits = x E^T + bias.
struct Unembedding {
  Tensor weight_vd;
  Tensor bias_v;  // may be undefined
};

// Tokens whose logits are alive at once; sized so that a block of logits is some tens of MB.
int64_t head_block_tokens(int64_t vocabulary, at::Device device);

// What the backward of the inner loss reads: the residuals p - y of the forward, [n, V] in x's type, or the
// logits computed again, block by block.
enum class Residuals { kKept, kComputedAgain, kKeptIfSmall };

struct InnerLoss {
  Tensor nll_n;        // -log softmax(x E^T)[label], unweighted, accumulation type
  Tensor gradient_nd;  // E^T (weight (p - onehot)): d(weight nll)/dx, dtype of x
};

// The slow pass's loss and its gradient with respect to x, as one op. Differentiable (second order included)
// in x, E and bias through both results. weight_n: accumulation type.
InnerLoss inner_loss(const Tensor& x_nd, const Unembedding& unembedding, const Tensor& label_n,
                     const Tensor& weight_n, Residuals residuals = Residuals::kKeptIfSmall);

struct OuterLoss {
  Tensor total;  // sum_n weight_n nll_n, scalar in the accumulation type; differentiable in x, E and bias
  Tensor nll_n;  // no gradient
};

// Linear layer and cross-entropy as one op. When a gradient is wanted, it is computed in the forward, while
// the block of logits is at hand, so that the vocabulary is visited once; the backward only scales it.
OuterLoss outer_loss(const Tensor& x_nd, const Unembedding& unembedding, const Tensor& label_n,
                     const Tensor& weight_n);

// x E^T + bias, [n, v]: for generation and checks, not for training.
Tensor logits_of(const Tensor& x_nd, const Unembedding& unembedding);

}  // namespace fwl
