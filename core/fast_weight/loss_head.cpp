#include "core/fast_weight/loss_head.h"

#include <algorithm>

#include "core/base/autograd.h"
#include "core/base/error.h"
#include "core/kernels/likely_gradient.h"
#include "core/kernels/likely_hessian.h"
#include "core/kernels/matmul.h"
#include "core/kernels/softmax_rows.h"
#include "core/kernels/token_sums.h"

namespace fwl {
namespace {

// Calls visit(first, count) over blocks of at most `most` tokens; not at all where there are none, when
// `most` may be 0.
template <typename Visit>
void for_each_block(int64_t tokens, int64_t most, Visit visit) {
  if (tokens == 0) return;
  // Blocks of like size, of whole tiles of the matrix products.
  constexpr int64_t kTile = 128;
  const int64_t blocks = (tokens + most - 1) / most;
  const int64_t even = (tokens + blocks - 1) / blocks;
  const int64_t block = std::min(most, (even + kTile - 1) / kTile * kTile);
  for (int64_t first = 0; first < tokens; first += block) visit(first, std::min(block, tokens - first));
}

// logits_of() into a tensor that is there.
void logits_out(Tensor& logits_nv, const Tensor& x_nd, const Unembedding& unembedding) {
  const Tensor weight_dv = unembedding.weight_vd.t();
  if (unembedding.bias_v.defined()) {
    at::addmm_out(logits_nv, unembedding.bias_v, x_nd, weight_dv);
  } else {
    at::mm_out(logits_nv, x_nd, weight_dv);
  }
}

// dL/dE and dL/dbias: sums over blocks of tokens in the accumulation type.
class UnembeddingGradient {
 public:
  // `one_block`: what is added first is all there is, so that dL/dE is rounded to E's type by its product.
  UnembeddingGradient(const Unembedding& unembedding, at::ScalarType wide, bool one_block = false)
      : like_vd_(unembedding.weight_vd.detach()), one_block_(one_block) {
    if (!unembedding.bias_v.defined()) return;
    bias_type_ = unembedding.bias_v.scalar_type();
    bias_v_ = at::zeros(unembedding.bias_v.sizes(), unembedding.bias_v.options().dtype(wide));
  }
  // += logits_bar^T x, += sum of logits_bar.
  void add(const Tensor& logits_bar_nv, const Tensor& x_nd) {
    add_product(logits_bar_nv, x_nd);
    add_bias(logits_bar_nv);
  }
  void add_product(const Tensor& logits_bar_nv, const Tensor& x_nd) {
    if (weight_vd_.defined()) {
      add_product_(weight_vd_, logits_bar_nv.t(), x_nd);
    } else {
      weight_vd_ = one_block_ ? at::mm(logits_bar_nv.t(), x_nd) : product_accumulate(logits_bar_nv.t(), x_nd);
    }
  }
  void add_bias(const Tensor& logits_bar_nv) {
    if (bias_v_.defined()) bias_v_.add_(at::sum(logits_bar_nv, {0}, false, bias_v_.scalar_type()));
  }
  // The sums so far, to add to; after the first add_product().
  Tensor& weight_sum() { return weight_vd_; }
  Tensor& bias_sum() { return bias_v_; }
  Tensor weight() const {
    return weight_vd_.defined() ? weight_vd_.to(like_vd_.scalar_type()) : at::zeros_like(like_vd_);
  }
  Tensor bias() const { return bias_v_.defined() ? bias_v_.to(bias_type_) : Tensor(); }

 private:
  Tensor like_vd_;
  bool one_block_;
  at::ScalarType bias_type_ = at::kFloat;
  Tensor weight_vd_, bias_v_;
};

bool keeps(Residuals residuals, const Tensor& x_nd, int64_t vocabulary) {
  if (residuals != Residuals::kKeptIfSmall) return residuals == Residuals::kKept;
  return at::GradMode::is_enabled() &&
         keeps_residuals(x_nd.size(0), vocabulary, x_nd.scalar_type(), x_nd.device());
}

class InnerLossFunction : public torch::autograd::Function<InnerLossFunction> {
 public:
  static variable_list forward(AutogradContext* ctx, const Tensor& x_nd, const Tensor& weight_vd,
                               const std::optional<Tensor>& bias, const Tensor& label_n,
                               const Tensor& weight_n, bool keep, double hessian_threshold) {
    const int64_t tokens = x_nd.size(0), vocabulary = weight_vd.size(0);
    const Tensor bias_v = bias.value_or(Tensor());
    const Unembedding unembedding{weight_vd, bias_v};
    Tensor nll_n = at::empty({tokens}, weight_n.options());
    Tensor gradient_nd = at::empty_like(x_nd);
    const Tensor residual_nv = keep ? at::empty({tokens, vocabulary}, x_nd.options()) : Tensor();
    const bool lists = hessian_threshold > 0 && hessian_threshold < 1;
    const LikelyTokens likely =
        lists ? room_for_likely_tokens(tokens, vocabulary, hessian_threshold, x_nd) : LikelyTokens();
    const Tensor one_n = lists ? Tensor() : at::ones_like(weight_n);
    // Where all errors are kept there is nothing to save by blocks, on a GPU.
    const bool whole = keep && x_nd.is_cuda();
    const int64_t most = whole ? tokens : head_block_tokens(vocabulary, x_nd.device());
    for_each_block(tokens, most, [&](int64_t first, int64_t count) {
      const auto block = [&](const Tensor& t) { return t.narrow(0, first, count); };
      Tensor error_nv = keep ? block(residual_nv) : at::empty({count, vocabulary}, x_nd.options());
      logits_out(error_nv, block(x_nd), unembedding);
      Tensor out_nd = block(gradient_nd);
      block(nll_n).copy_(lists ? cross_entropy_errors_(error_nv, block(label_n), hessian_threshold,
                                                       likely.rows(first, count))
                               : cross_entropy_gradient_(error_nv, block(label_n), block(one_n)));
      at::mm_out(out_nd, error_nv, weight_vd);
    });
    // Without all of the Hessian, E^T (p - y) is what x's gradient needs; it is the weights' gradient, too.
    const bool keeps_unweighted = hessian_threshold > 0 || weight_n.requires_grad();
    const Tensor unweighted_nd = keeps_unweighted ? gradient_nd : Tensor();
    gradient_nd =
        keeps_unweighted ? weighted(gradient_nd, weight_n) : gradient_nd.mul_(weight_n.unsqueeze(1));
    // In first order only the loss has a cotangent: zeros for the gradient's would be made and read for
    // nothing.
    ctx->set_materialize_grads(false);
    ctx->saved_data["hessian_threshold"] = hessian_threshold;
    ctx->save_for_backward({x_nd, weight_vd, bias_v, label_n, weight_n, nll_n.detach(), residual_nv,
                            unweighted_nd, likely.token_nk, likely.probability_nk});
    return {nll_n, gradient_nd};
  }

  static variable_list backward(AutogradContext* ctx, variable_list bars) {
    return ctx->saved_data["hessian_threshold"].toDouble() > 0 ? likely_backward(ctx, bars)
                                                               : whole_backward(ctx, bars);
  }

 private:
  static Tensor weighted(const Tensor& x_nd, const Tensor& weight_n) {
    Tensor out_nd = at::empty_like(x_nd);
    return at::mul_out(out_nd, x_nd, weight_n.unsqueeze(1));
  }

  static variable_list results(const Tensor& x_bar_nd, const UnembeddingGradient& bar,
                               const Tensor& weight_bar_n) {
    return {x_bar_nd, bar.weight(), bar.bias(), Tensor(), weight_bar_n, Tensor(), Tensor()};
  }

  // Of the tokens' weights: <gradient_bar, r E>; undefined where nobody asks.
  static Tensor weight_cotangent(const Tensor& gradient_bar_nd, const Tensor& unweighted_nd,
                                 const Tensor& weight_n) {
    if (!weight_n.requires_grad() || !gradient_bar_nd.defined()) return {};
    return at::sum(gradient_bar_nd.to(weight_n.scalar_type()) * unweighted_nd, at::IntArrayRef{1});
  }

  // Where r = p - y is a constant, the loss has the gradient r E, and the result weight r E has only E to go
  // to:
  //   x_bar = nll_bar r E,      E_bar += r^T (nll_bar x + weight gradient_bar),
  // and for the likely tokens, whose p is none, h as in core/kernels/likely_hessian.h:
  //   x_bar += h E,             E_bar += h^T x.
  static variable_list likely_backward(AutogradContext* ctx, const variable_list& bars) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x_nd = saved[0], &weight_vd = saved[1], &label_n = saved[3], &weight_n = saved[4],
                 &residual_nv = saved[6], &unweighted_nd = saved[7];
    const LikelyTokens likely{saved[8], saved[9]};
    const Unembedding unembedding{weight_vd, saved[2]};
    const at::ScalarType type = x_nd.scalar_type();
    const Tensor nll_bar_n = bars[0].defined() ? bars[0].contiguous() : at::zeros_like(weight_n);
    const bool lists = likely.token_nk.defined() && bars[1].defined();
    LikelyHessian row;
    if (lists) {
      row = likely_hessian(likely, {x_nd, bars[1], unweighted_nd, label_n, weight_n, nll_bar_n}, weight_vd);
    } else {
      const Tensor of_loss_nd = x_nd * nll_bar_n.unsqueeze(1);  // accumulation type
      row.factor_nd =
          (bars[1].defined() ? of_loss_nd + bars[1] * weight_n.unsqueeze(1) : of_loss_nd).to(type);
      row.x_bar_nd = weighted(unweighted_nd, nll_bar_n);
      row.weight_bar_n = weight_cotangent(bars[1], unweighted_nd, weight_n);
    }
    UnembeddingGradient unembedding_bar(unembedding, weight_n.scalar_type());
    const bool whole = residual_nv.defined() && x_nd.is_cuda() && !unembedding.bias_v.defined();
    const int64_t tokens = x_nd.size(0);
    for_each_block(tokens, whole ? tokens : head_block_tokens(weight_vd.size(0), x_nd.device()),
                   [&](int64_t first, int64_t count) {
                     const auto block = [&](const Tensor& t) { return t.narrow(0, first, count); };
                     Tensor error_nv = residual_nv.defined() ? block(residual_nv) : Tensor();
                     if (!error_nv.defined()) {
                       error_nv = logits_of(block(x_nd), unembedding);
                       cross_entropy_gradient_(error_nv, block(label_n), at::ones_like(block(weight_n)));
                     }
                     unembedding_bar.add_product(error_nv, block(row.factor_nd));
                     if (unembedding.bias_v.defined())
                       unembedding_bar.add_bias(weighted(error_nv, block(nll_bar_n)));
                   });
    if (lists && tokens > 0) {
      add_token_sums_(unembedding_bar.weight_sum(), row.token_nk, row.h_nk, x_nd);
      if (unembedding.bias_v.defined())
        unembedding_bar.bias_sum().index_add_(0, row.token_nk.flatten().clamp_min(0).to(at::kLong),
                                              row.h_nk.flatten());
    }
    return results(row.x_bar_nd, unembedding_bar, row.weight_bar_n);
  }

  // Per block, with e = w (p - y) and the cotangents nll_bar, gradient_bar (of q = e E):
  //   e_bar = gradient_bar E^T,  logits_bar = nll_bar (p - y) + softmax Hessian applied to e_bar,
  //   x_bar = logits_bar E,      E_bar += logits_bar^T x + e^T gradient_bar.
  static variable_list whole_backward(AutogradContext* ctx, const variable_list& bars) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x_nd = saved[0], &weight_vd = saved[1], &label_n = saved[3], &weight_n = saved[4],
                 &nll_n = saved[5], &residual_nv = saved[6];
    const Unembedding unembedding{weight_vd, saved[2]};
    const Tensor nll_bar_n = bars[0].defined() ? bars[0].contiguous() : at::zeros_like(weight_n);
    const Tensor gradient_bar_nd = bars[1].defined() ? bars[1].contiguous() : at::zeros_like(x_nd);
    UnembeddingGradient unembedding_bar(unembedding, weight_n.scalar_type());
    Tensor x_bar_nd = at::empty_like(x_nd);
    for_each_block(
        x_nd.size(0), head_block_tokens(weight_vd.size(0), x_nd.device()), [&](int64_t first, int64_t count) {
          const auto block = [&](const Tensor& t) { return t.narrow(0, first, count); };
          Tensor out_nd = block(x_bar_nd);
          if (residual_nv.defined()) {
            Tensor logits_bar_nv = at::mm(block(gradient_bar_nd), weight_vd.t());
            cross_entropy_residual_backward_(block(residual_nv), logits_bar_nv, block(label_n),
                                             block(weight_n), block(nll_bar_n));
            at::mm_out(out_nd, logits_bar_nv, weight_vd);
            unembedding_bar.add(logits_bar_nv, block(x_nd));
            const auto type = x_nd.scalar_type();
            unembedding_bar.add_product(block(residual_nv),
                                        block(gradient_bar_nd) * block(weight_n).unsqueeze(1).to(type));
            return;
          }
          // One above the other, so that both outer products are one product.
          const Tensor both_nv = at::empty({2 * count, weight_vd.size(0)}, x_nd.options());
          Tensor error_nv = both_nv.narrow(0, 0, count);
          Tensor logits_bar_nv = both_nv.narrow(0, count, count);
          logits_out(error_nv, block(x_nd), unembedding);
          at::mm_out(logits_bar_nv, block(gradient_bar_nd), weight_vd.t());
          cross_entropy_gradient_backward_(error_nv, logits_bar_nv, block(label_n), block(weight_n),
                                           block(nll_n), block(nll_bar_n));
          at::mm_out(out_nd, logits_bar_nv, weight_vd);
          unembedding_bar.add_product(both_nv, at::cat({block(gradient_bar_nd), block(x_nd)}));
          unembedding_bar.add_bias(logits_bar_nv);
        });
    return results(x_bar_nd, unembedding_bar, weight_cotangent(bars[1], saved[7], weight_n));
  }
};

class OuterLossFunction : public torch::autograd::Function<OuterLossFunction> {
 public:
  static variable_list forward(AutogradContext* ctx, const Tensor& x_nd, const Tensor& weight_vd,
                               const std::optional<Tensor>& bias, const Tensor& label_n,
                               const Tensor& weight_n, int64_t wants_gradient) {
    const int64_t tokens = x_nd.size(0);
    const Tensor bias_v = bias.value_or(Tensor());
    const Unembedding unembedding{weight_vd, bias_v};
    Tensor nll_n = at::empty({tokens}, weight_n.options());
    Tensor x_bar_nd = wants_gradient ? at::empty_like(x_nd) : Tensor();
    const int64_t most = head_block_tokens(weight_vd.size(0), x_nd.device(),
                                           wants_gradient ? HeadPass::kWithGradient : HeadPass::kForward);
    std::optional<UnembeddingGradient> unembedding_bar;
    if (wants_gradient) unembedding_bar.emplace(unembedding, weight_n.scalar_type(), tokens <= most);
    for_each_block(tokens, most, [&](int64_t first, int64_t count) {
      const auto block = [&](const Tensor& t) { return t.narrow(0, first, count); };
      Tensor error_nv = logits_of(block(x_nd), unembedding);
      if (!wants_gradient) {
        block(nll_n).copy_(cross_entropy(error_nv, block(label_n)));
        return;
      }
      block(nll_n).copy_(cross_entropy_gradient_(error_nv, block(label_n), block(weight_n)));
      Tensor out_nd = block(x_bar_nd);
      at::mm_out(out_nd, error_nv, weight_vd);
      unembedding_bar->add(error_nv, block(x_nd));
    });
    if (wants_gradient) {
      ctx->save_for_backward({x_bar_nd, unembedding_bar->weight(), unembedding_bar->bias()});
    }
    ctx->mark_non_differentiable({nll_n});
    ctx->set_materialize_grads(false);  // of nll_n there is none
    return {at::dot(nll_n, weight_n), nll_n};
  }

  static variable_list backward(AutogradContext* ctx, variable_list bars) {
    if (!bars[0].defined()) return variable_list(6);
    const auto saved = ctx->get_saved_variables();
    const bool unit = is_unit_cotangent(bars[0]);
    const auto scaled = [&](const Tensor& t) {
      return t.defined() && !unit ? t * bars[0].to(t.scalar_type()) : t;
    };
    return {scaled(saved[0]), scaled(saved[1]), scaled(saved[2]), Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace

int64_t head_block_tokens(int64_t vocabulary, at::Device device, HeadPass pass) {
  // A GPU wants few, large products, above all where each adds to a gradient of the whole unembedding; a CPU
  // wants the block of logits in its cache.
  const int64_t mebi = !device.is_cuda() ? 1 : pass == HeadPass::kForward ? 256 : 1024;
  const int64_t elements = mebi << 20;
  return std::clamp<int64_t>(elements / vocabulary, 64, 65536);
}

bool keeps_residuals(int64_t tokens, int64_t vocabulary, at::ScalarType type, at::Device device,
                     int64_t inner_losses) {
  constexpr int64_t kGpuBytes = int64_t{4} << 30, kCpuBytes = int64_t{1} << 30;
  const int64_t bytes = inner_losses * tokens * vocabulary * static_cast<int64_t>(c10::elementSize(type));
  return bytes <= (device.is_cuda() ? kGpuBytes : kCpuBytes);
}

Tensor logits_of(const Tensor& x_nd, const Unembedding& unembedding) {
  if (unembedding.bias_v.defined()) return at::addmm(unembedding.bias_v, x_nd, unembedding.weight_vd.t());
  return at::mm(x_nd, unembedding.weight_vd.t());
}

InnerLoss inner_loss(const Tensor& x_nd, const Unembedding& unembedding, const Tensor& label_n,
                     const Tensor& weight_n, Residuals residuals, double hessian_threshold) {
  const variable_list result = InnerLossFunction::apply(
      x_nd.contiguous(), unembedding.weight_vd, optional_of(unembedding.bias_v), label_n.contiguous(),
      weight_n.contiguous(), keeps(residuals, x_nd, unembedding.weight_vd.size(0)), hessian_threshold);
  return {result[0], result[1], {}, {}};
}

Unembedding approximated(Unembedding unembedding, const InnerApproximation& approximation) {
  const Tensor& weight_vd = unembedding.weight_vd;
  if (approximation.threshold > 0)
    unembedding.rest_row_d = at::mean(weight_vd, {0}, false, accumulate_type(weight_vd.scalar_type()));
  if (approximation.float8_logits) unembedding.float8 = float8_rows(weight_vd);
  return unembedding;
}

InnerLoss inner_loss_without_gradient(const Tensor& x_nd, const Unembedding& unembedding,
                                      const Tensor& label_n, const Tensor& weight_n,
                                      const InnerApproximation& approximation) {
  require<InternalError>(!at::GradMode::is_enabled(),
                         "inner_loss_without_gradient where gradients are recorded");
  const int64_t tokens = x_nd.size(0), vocabulary = unembedding.weight_vd.size(0);
  InnerLoss result{at::empty({tokens}, weight_n.options()), at::empty_like(x_nd), {}, {}};
  const bool likely_alone = approximation.threshold > 0;
  if (likely_alone) {
    result.kept_n = at::empty({tokens}, weight_n.options().dtype(at::kInt));
    result.rest_n = at::empty({tokens}, weight_n.options());
  }
  for_each_block(tokens, head_block_tokens(vocabulary, x_nd.device()), [&](int64_t first, int64_t count) {
    const auto block = [&](const Tensor& t) { return t.narrow(0, first, count).contiguous(); };
    const auto result_block = [&](Tensor& t) { return t.narrow(0, first, count); };
    const Tensor x_block_nd = block(x_nd), label_block_n = block(label_n);
    Tensor logits_nv = at::empty({count, vocabulary}, x_nd.options());
    if (approximation.float8_logits) {
      float8_product_out(logits_nv, x_block_nd, unembedding.float8);
      if (unembedding.bias_v.defined()) logits_nv.add_(unembedding.bias_v);
    } else {
      logits_out(logits_nv, x_block_nd, unembedding);
    }
    Tensor gradient_nd = result_block(result.gradient_nd);
    if (!likely_alone) {
      result_block(result.nll_n).copy_(cross_entropy_gradient_(logits_nv, label_block_n, block(weight_n)));
      at::mm_out(gradient_nd, logits_nv, unembedding.weight_vd);
      return;
    }
    const LikelyGradient likely =
        likely_gradient(logits_nv, label_block_n, unembedding.weight_vd, unembedding.rest_row_d,
                        approximation.threshold, block(weight_n));
    result_block(result.nll_n).copy_(likely.nll_n);
    gradient_nd.copy_(likely.gradient_nd);
    result_block(result.kept_n).copy_(likely.kept_n);
    result_block(result.rest_n).copy_(likely.rest_n);
  });
  return result;
}

OuterLoss outer_loss(const Tensor& x_nd, const Unembedding& unembedding, const Tensor& label_n,
                     const Tensor& weight_n) {
  const bool wants_gradient =
      at::GradMode::is_enabled() && (x_nd.requires_grad() || unembedding.weight_vd.requires_grad());
  const variable_list result =
      OuterLossFunction::apply(x_nd.contiguous(), unembedding.weight_vd, optional_of(unembedding.bias_v),
                               label_n.contiguous(), weight_n.contiguous(), int64_t{wants_gradient});
  return {result[0], result[1]};
}

}  // namespace fwl
