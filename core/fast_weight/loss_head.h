// The two unembedding heads. Logits exist only for a block of tokens at a time: no [tokens, vocabulary]
// tensor is kept for the backward, which is written by hand (softmax_rows.h has its formulas).
//
// Shape suffixes: n token (batch and position flattened), d width, v vocabulary.
#pragma once

#include "core/base/torch.h"
#include "core/kernels/float8_product.h"

namespace fwl {

// An unembedding: logits = x E^T + bias.
struct Unembedding {
  Tensor weight_vd;
  Tensor bias_v;  // may be undefined
  // For inner_loss_without_gradient() alone, where it needs them: what stands for the rows of unlikely
  // tokens, their mean, in the accumulation type; and the rounded rows.
  Tensor rest_row_d{};
  Float8Rows float8{};
};

enum class HeadPass { kForward, kWithGradient };
// Tokens whose logits are alive at once: some MB of them on a CPU, 0.5 GiB of bfloat16 on a GPU, 2 GiB where
// the block's gradient of E follows.
int64_t head_block_tokens(int64_t vocabulary, at::Device device, HeadPass pass = HeadPass::kForward);

// What the backward of the inner loss reads: the residuals p - y of the forward, [n, V] in x's type, or the
// logits computed again, block by block. kKeptIfSmall: keeps_residuals() of this inner loss alone decides.
enum class Residuals { kKept, kComputedAgain, kKeptIfSmall };
// Whether the residuals of `inner_losses` such losses, which wait for one backward, are small enough to be
// kept: at most 4 GiB together on a GPU, 1 GiB on a CPU. The memory plan asks the same.
bool keeps_residuals(int64_t tokens, int64_t vocabulary, at::ScalarType type, at::Device device,
                     int64_t inner_losses = 1);

struct InnerLoss {
  Tensor nll_n;        // -log softmax(x E^T)[label], unweighted, accumulation type
  Tensor gradient_nd;  // E^T (weight (p - onehot)): d(weight nll)/dx, dtype of x
  // With a threshold, else undefined: how many tokens are in the gradient one by one, and the others'
  // probability.
  Tensor kept_n, rest_n;
};

// The slow pass's loss and its gradient with respect to x, as one op. Differentiable (second order included)
// in x, E and bias through both results, in the weights through the gradient. weight_n: accumulation type.
//
// `hessian_threshold`: tokens of a probability below it are left out of the softmax's second derivative in
// the backward; 0: none are, 1: all are, so that the errors p - y are constants (E^T (p - y) still
// differentiates through E). Above 0 three of the backward's four products with the vocabulary go; what
// remains of them is core/kernels/likely_hessian.h.
InnerLoss inner_loss(const Tensor& x_nd, const Unembedding& unembedding, const Tensor& label_n,
                     const Tensor& weight_n, Residuals residuals = Residuals::kKeptIfSmall,
                     double hessian_threshold = 0);

// What passes without gradient may save in the inner losses, whose gradients alone are used there. A pass at
// fast weights makes three products with the vocabulary: inner logits, inner gradient, outer logits.
struct InnerApproximation {
  // 0 to 1, both excluded: tokens of a probability below it are taken together in the gradient, which is then
  // no product with the vocabulary (core/kernels/likely_gradient.h, also for the error). 0: none are.
  double threshold = 0;
  // The inner logits' factors are rounded to 8 bits (core/kernels/float8_product.h).
  bool float8_logits = false;

  bool exact() const { return threshold == 0 && !float8_logits; }
};

// inner_loss() for passes without gradient, so approximated; its loss too. `unembedding` comes from
// approximated().
InnerLoss inner_loss_without_gradient(const Tensor& x_nd, const Unembedding& unembedding,
                                      const Tensor& label_n, const Tensor& weight_n,
                                      const InnerApproximation& approximation);
// With what `approximation` needs.
Unembedding approximated(Unembedding unembedding, const InnerApproximation& approximation);

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
